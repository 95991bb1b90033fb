"""What a new plugin is called: as an option, a class, a package and a distribution."""

from __future__ import annotations

import builtins
import importlib.metadata
import importlib.util
import keyword
import re
from dataclasses import dataclass
from pathlib import Path

from expfw.errors import ConfigError, PluginError, did_you_mean
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.disabling import normalize_name
from expfw.plugins.kinds import KINDS

_RESERVED_CLASS_NAMES = {"Any", "Config", "Dataclass", "Literal", "Mapping", "Path", "Sequence", "TensorFlowBackend"}
"""Names that templates use."""
_RESERVED_OPTION_NAMES = {"null", "true", "false", "nan", "inf", "test"}
"""What a configuration reads as another value, or pytest as a test."""


@dataclass(frozen=True)
class PluginNames:
    """All names of one plugin, from its option name with underscores."""

    kind: str
    option: str

    @property
    def class_name(self) -> str:
        """The class: `WideNet` for `wide_net`."""
        return "".join(word[:1].upper() + word[1:] for word in self.option.split("_"))

    @property
    def package(self) -> str:
        """What is imported."""
        return f"expfw_{self.option}"

    @property
    def distribution(self) -> str:
        """What is installed, and the folder."""
        return f"expfw-{self.option.replace('_', '-')}"

    def fill_template(self, text: str) -> str:
        """A text of a template with these names in it."""
        replacements = {
            "MyPlugin": self.class_name,
            "my_plugin": self.option,
            "my-plugin": self.option.replace("_", "-"),
            "my_kind": self.kind,
        }
        return re.sub("|".join(replacements), lambda placeholder: replacements[placeholder[0]], text)


def make_names(kind: str, name: str) -> PluginNames:
    """The names of a new plugin.

    Raises:
        ConfigError: it cannot be called that.
        PluginError: something else is called that.
    """
    if kind not in KINDS:
        raise ConfigError(f"no kind {kind!r}.{did_you_mean(kind, KINDS)} There are: {', '.join(sorted(KINDS))}")
    if name.startswith("expfw") or not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
        raise ConfigError(
            f"{name!r} is no name for a plugin; expected lower-case letters, digits and - or _ between them, such as "
            "wide-net; without expfw in front, which the distribution gets"
        )
    names = PluginNames(kind, name.replace("-", "_"))
    if names.option in _RESERVED_OPTION_NAMES:
        raise ConfigError(f"{name!r} means something else in configurations and tests; add a word to it")
    is_reserved = (
        hasattr(builtins, names.class_name)
        or names.class_name in _RESERVED_CLASS_NAMES
        or names.class_name.endswith("Contract")
    )
    if keyword.iskeyword(names.class_name) or is_reserved:
        raise ConfigError(f"{name!r} would make a class {names.class_name}, which there is already; add a word to it")
    _check_names_are_free(names)
    return names


def _check_names_are_free(names: PluginNames) -> None:
    for entry in get_catalogue().entries[names.kind]:
        if normalize_name(entry.name) == names.option:
            raise PluginError(f"there is the {entry.label} already; choose another name")
    if _is_variant(names):
        raise PluginError(f"{names.kind}={names.option} is a configuration of expfw's own already; choose another name")
    if importlib.util.find_spec(names.package) is not None:
        raise PluginError(f"there is a package {names.package} already; choose another name than {names.option!r}")
    if _is_installed(names.distribution):
        raise PluginError(f"there is a distribution {names.distribution} already; choose another name")


def _is_variant(names: PluginNames) -> bool:
    spec = importlib.util.find_spec("expfw.conf")
    conf_folders = spec.submodule_search_locations if spec is not None else None
    return any((Path(folder) / names.kind / f"{names.option}.yaml").exists() for folder in conf_folders or ())


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
