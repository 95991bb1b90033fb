"""Names of a new plugin: as an option, a class, a package and a distribution."""

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
"""Class names that the templates use."""
_RESERVED_OPTION_NAMES = {"null", "true", "false", "nan", "inf", "test"}
"""Names that a configuration parses as another value, or that pytest collects as a test."""


@dataclass(frozen=True)
class PluginNames:
    """All names of one plugin.

    Attributes:
        kind: kind of the plugin.
        option: its name in a configuration, with underscores.
    """

    kind: str
    option: str

    @property
    def class_name(self) -> str:
        """Name of the class: `WideNet` for `wide_net`."""
        return "".join(word[:1].upper() + word[1:] for word in self.option.split("_"))

    @property
    def package(self) -> str:
        """Name of the package to import."""
        return f"expfw_{self.option}"

    @property
    def distribution(self) -> str:
        """Name of the distribution and of its folder."""
        return f"expfw-{self.option.replace('_', '-')}"

    def fill_template(self, text: str) -> str:
        """Returns the text of a template with these names filled in."""
        replacements = {
            "MyPlugin": self.class_name,
            "my_plugin": self.option,
            "my-plugin": self.option.replace("_", "-"),
            "my_kind": self.kind,
        }
        return re.sub("|".join(replacements), lambda placeholder: replacements[placeholder[0]], text)


def make_names(kind: str, name: str) -> PluginNames:
    """Returns the names of a new plugin.

    Raises:
        ConfigError: if the kind is unknown or the name is invalid.
        PluginError: if the name is already in use.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown kind {kind!r}.{did_you_mean(kind, KINDS)} Available: {', '.join(sorted(KINDS))}")
    if name.startswith("expfw") or not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
        raise ConfigError(
            f"invalid plugin name {name!r}; expected lower-case letters and digits, with - or _ between them, such as "
            "wide-net; omit the prefix expfw, which the distribution's name gets automatically"
        )
    names = PluginNames(kind, name.replace("-", "_"))
    if names.option in _RESERVED_OPTION_NAMES:
        raise ConfigError(
            f"plugin name {name!r} has another meaning in configurations or tests; use a longer one, such as my-{name}"
        )
    is_reserved = (
        hasattr(builtins, names.class_name)
        or names.class_name in _RESERVED_CLASS_NAMES
        or names.class_name.endswith("Contract")
    )
    if keyword.iskeyword(names.class_name) or is_reserved:
        raise ConfigError(f"plugin name {name!r} needs the class {names.class_name}, which already exists; add a word")
    _check_names_are_free(names)
    return names


def _check_names_are_free(names: PluginNames) -> None:
    for entry in get_catalogue().entries[names.kind]:
        if normalize_name(entry.name) == names.option:
            raise PluginError(f"{entry.label} already exists; choose another name")
    if _is_variant(names):
        raise PluginError(f"{names.kind}={names.option} is already a configuration of expfw; choose another name")
    if importlib.util.find_spec(names.package) is not None:
        raise PluginError(f"package {names.package} already exists; choose another name than {names.option!r}")
    if _is_installed(names.distribution):
        raise PluginError(f"distribution {names.distribution} already exists; choose another name")


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
