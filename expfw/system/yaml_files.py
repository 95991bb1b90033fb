"""YAML files of limited size: an alias repeats a part, so a few short lines can stand for billions of values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from expfw.errors import ConfigError, to_one_line
from expfw.system.input_files import read_bytes

_MAX_BYTES, _MAX_VALUES, _MAX_DEPTH = 1 << 20, 100_000, 50
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, if it is available


def read_yaml(path: Path) -> Any:
    """Reads a YAML file; raises a `ConfigError` if it is invalid, or as `check_yaml`."""
    content = check_yaml(path)
    try:
        return yaml.load(content, Loader=_LOADER)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: such as a number of 5,000 digits
        raise ConfigError(f"{path} is not valid YAML ({to_one_line(str(error))})") from error


def check_yaml(path: Path) -> bytes:
    """Returns the content of a YAML file after a check of its size with expanded aliases, without expanding them.

    Raises:
        ConfigError: if it is not a regular file, too large, or nested too deeply. Other errors are left to the parser.
    """
    try:
        content = read_bytes(path, _MAX_BYTES)
        root = yaml.compose(content, Loader=_LOADER)
        count, depth = (0, 0) if root is None else _measure(root, {})
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; expected a YAML file") from error
    except RecursionError:
        count, depth = 0, _MAX_DEPTH + 1
    except (yaml.YAMLError, ValueError):
        count, depth = 0, 0
    if count > _MAX_VALUES or depth > _MAX_DEPTH:
        raise ConfigError(
            f"{path} contains too many values; expected at most {_MAX_VALUES:,}, including those that aliases repeat, "
            f"nested at most {_MAX_DEPTH} times"
        )
    return content


def _measure(node: yaml.Node, sizes: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Returns the number of values in a node with expanded aliases, and its depth; measures each node once."""
    if not isinstance(node, yaml.CollectionNode):
        return 1, 1
    if id(node) not in sizes:
        sizes[id(node)] = 0, _MAX_DEPTH  # the size while it is measured, if it contains itself
        children = [child for item in node.value for child in (item if isinstance(item, tuple) else (item,))]
        counts, depths = zip((1, 0), *(_measure(child, sizes) for child in children), strict=True)
        sizes[id(node)] = sum(counts), 1 + max(depths)
    return sizes[id(node)]
