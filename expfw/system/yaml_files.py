"""YAML files of limited size: an alias repeats a part, so a few short lines can stand for billions of values."""

from __future__ import annotations

import math
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
        is_small = _is_small(content)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; expected a YAML file") from error
    except (yaml.YAMLError, ValueError):
        is_small = True
    if not is_small:
        raise ConfigError(
            f"{path} contains too many values; expected at most {_MAX_VALUES:,}, including those that aliases repeat, "
            f"nested at most {_MAX_DEPTH} times"
        )
    return content


def _is_small(content: bytes) -> bool:
    """Returns whether the number of values and their depth are within the limits; stops reading if they are not."""
    sizes: dict[str, tuple[float, int]] = {}  # number of values and depth, by anchor
    open_parts: list[tuple[str | None, float, int]] = [(None, 0, 0)]  # anchor, number of values and depth so far
    for event in yaml.parse(content, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            open_parts.append((event.anchor, 1, 0))
            sizes[event.anchor or ""] = math.inf, 0  # until it ends: it may contain itself
            if len(open_parts) > _MAX_DEPTH:
                return False
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, count, depth = open_parts.pop()
        elif isinstance(event, yaml.AliasEvent):
            anchor, (count, depth) = None, sizes.get(event.anchor or "", (1, 0))
        elif isinstance(event, yaml.ScalarEvent):
            anchor, count, depth = event.anchor, 1, 0
        else:
            continue
        if anchor is not None:
            sizes[anchor] = count, depth
        parent_anchor, parent_count, parent_depth = open_parts.pop()
        open_parts.append((parent_anchor, parent_count + count, max(parent_depth, depth + 1)))
        if parent_count + count > _MAX_VALUES or len(open_parts) + depth > _MAX_DEPTH:
            return False
    return True
