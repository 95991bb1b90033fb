"""Writes a new plugin distribution from the template of its kind, atomically."""

from __future__ import annotations

import builtins
import importlib.metadata
import importlib.util
import keyword
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from expfw.errors import ConfigError, PluginError, list_choices
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.kinds import KINDS
from expfw.plugins.variants import find_variants
from expfw.version import __version__

TEMPLATE = Path(__file__).with_name("template")
_FILES = {
    "every/pyproject.toml": "pyproject.toml",
    "every/README.md": "README.md",
    "every/gitignore": ".gitignore",
    "every/ci.yaml": ".github/workflows/tests.yaml",
    "every/py.typed": "src/expfw_my_plugin/py.typed",
    "my_kind/plugin.py": "src/expfw_my_plugin/__init__.py",
    "my_kind/test_plugin.py": "tests/test_my_plugin.py",
}
"""Path in the new distribution of each template."""
_COMMANDS = {
    "model": "expfw run model=my_plugin dataset=digits",
    "backend": "expfw run backend=my_plugin dataset=digits",
    "callback": "expfw run +callback=my_plugin dataset=digits",
    "dataset": "expfw run dataset=my_plugin model.optimizer.learning_rate=0.1",
    "tracker": "expfw run tracker=[mlflow,my_plugin] dataset=digits",
}
_RESERVED_CLASS_NAMES = {"Any", "Config", "Dataclass", "Literal", "Mapping", "Path", "Sequence", "TensorFlowBackend"}
"""Class names that the templates use."""
_RESERVED_NAMES = {"null", "true", "false", "nan", "inf", "test"}
"""Names that a configuration parses as another value, or that pytest collects as a test."""


@dataclass(frozen=True)
class NewPlugin:
    """A plugin to be written; its name in a configuration has underscores."""

    kind: str
    name: str

    @property
    def class_name(self) -> str:
        """Name of the class: `WideNet` for `wide_net`."""
        return "".join(word[:1].upper() + word[1:] for word in self.name.split("_"))

    @property
    def distribution(self) -> str:
        """Name of the distribution and of its folder."""
        return f"expfw-{self.name.replace('_', '-')}"

    @property
    def command(self) -> str:
        """An example command that uses the plugin."""
        return self.fill_template(_COMMANDS[self.kind])

    def fill_template(self, text: str) -> str:
        """Returns the text of a template with the names of the plugin and the required releases of expfw."""
        major, minor, *_ = __version__.split(".")
        replacements = {
            "MyPlugin": self.class_name,
            "my_plugin": self.name,
            "my-plugin": self.name.replace("_", "-"),
            "my_kind": self.kind,
            "MY_RANGE": f">={major}.{minor},<{int(major) + 1}",
        }
        text = text.replace("MY_COMMAND", _COMMANDS[self.kind])
        return re.sub("|".join(replacements), lambda placeholder: replacements[placeholder[0]], text)


def name_plugin(kind: str, name: str) -> NewPlugin:
    """Checks kind and name of a new plugin.

    Raises:
        ConfigError: if the kind is unknown or the name is invalid.
        PluginError: if the name is already in use.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown kind {kind!r}.{list_choices(kind, sorted(KINDS))}")
    if name.startswith("expfw") or not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
        raise ConfigError(
            f"invalid plugin name {name!r}; expected lower-case letters and digits, with - or _ between them, such as "
            "wide-net; omit the prefix expfw, which the distribution's name gets automatically"
        )
    plugin = NewPlugin(kind, name.replace("-", "_"))
    if plugin.name in _RESERVED_NAMES:
        raise ConfigError(
            f"plugin name {name!r} has another meaning in configurations or tests; use a longer one, such as my-{name}"
        )
    class_name = plugin.class_name
    is_reserved = hasattr(builtins, class_name) or class_name in _RESERVED_CLASS_NAMES or keyword.iskeyword(class_name)
    if is_reserved or class_name.endswith("Contract"):
        raise ConfigError(f"plugin name {name!r} needs the class {class_name}, which already exists; add a word")
    owner, package = None, plugin.fill_template("expfw_my_plugin")
    if entries := get_catalogue().find_entries(kind, name):
        owner = f"{entries[0].label} already exists"
    elif plugin.name in find_variants(kind):
        owner = f"{kind}={plugin.name} is already a configuration of expfw"
    elif importlib.util.find_spec(package) is not None:
        owner = f"package {package} already exists"
    else:
        with suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.distribution(plugin.distribution)
            owner = f"distribution {plugin.distribution} already exists"
    if owner is not None:
        raise PluginError(f"{owner}; choose another name")
    return plugin


def write_distribution(plugin: NewPlugin, folder: Path) -> tuple[Path, list[str]]:
    """Writes the distribution into `folder`/expfw-NAME; returns its folder and the relative paths of its files.

    Raises:
        ConfigError: if the folder already exists or cannot be written; no partial files remain.
    """
    target = folder / plugin.distribution
    if target.exists():
        raise ConfigError(f"{target} already exists; choose another name, or another --folder")
    templates = {plugin.fill_template(path): plugin.fill_template(source) for source, path in _FILES.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{plugin.distribution}-", dir=folder) as temporary_folder:
            for name, source in templates.items():
                path = Path(temporary_folder, target.name, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(plugin.fill_template((TEMPLATE / source).read_text()))
            Path(temporary_folder, target.name).rename(target)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}; choose another --folder") from error
    return target, list(templates)
