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
from expfw.plugins.catalogue import catalogue
from expfw.plugins.disabled import canonical
from expfw.plugins.kinds import KINDS

_TAKEN_CLASSES = {"Any", "Config", "Dataclass", "Literal", "Mapping", "Path", "Sequence", "TensorFlowBackend"}
"""Names that templates use."""
_TAKEN_WORDS = {"null", "true", "false", "nan", "inf", "test"}
"""What a configuration reads as another value, or pytest as a test."""


@dataclass(frozen=True)
class Names:
    """All names of one plugin, from its option name with underscores."""

    kind: str
    option: str

    @property
    def cls(self) -> str:
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

    def filled(self, text: str) -> str:
        """A text of a template with these names in it."""
        filling = {
            "MyPlugin": self.cls,
            "my_plugin": self.option,
            "my-plugin": self.option.replace("_", "-"),
            "my_kind": self.kind,
        }
        return re.sub("|".join(filling), lambda placeholder: filling[placeholder[0]], text)


def names(kind: str, name: str) -> Names:
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
    made = Names(kind, name.replace("-", "_"))
    if made.option in _TAKEN_WORDS:
        raise ConfigError(f"{name!r} means something else in configurations and tests; add a word to it")
    taken = hasattr(builtins, made.cls) or made.cls in _TAKEN_CLASSES or made.cls.endswith("Contract")
    if keyword.iskeyword(made.cls) or taken:
        raise ConfigError(f"{name!r} would make a class {made.cls}, which there is already; add a word to it")
    _refuse_what_is_taken(made)
    return made


def _refuse_what_is_taken(made: Names) -> None:
    for found in catalogue().found[made.kind]:
        if canonical(found.name) == made.option:
            raise PluginError(f"there is the {found.who} already; choose another name")
    if _is_variant(made):
        raise PluginError(f"{made.kind}={made.option} is a configuration of expfw's own already; choose another name")
    if importlib.util.find_spec(made.package) is not None:
        raise PluginError(f"there is a package {made.package} already; choose another name than {made.option!r}")
    if _is_installed(made.distribution):
        raise PluginError(f"there is a distribution {made.distribution} already; choose another name")


def _is_variant(made: Names) -> bool:
    spec = importlib.util.find_spec("expfw.conf")
    places = spec.submodule_search_locations if spec is not None else None
    return any((Path(place) / made.kind / f"{made.option}.yaml").exists() for place in places or ())


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
