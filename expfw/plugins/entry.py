"""A plugin as its distribution or file declares it: loaded, checked and instantiated when it is chosen."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expfw.api import contracts, schema
from expfw.api.contracts import Plugin
from expfw.errors import ExpfwError, PluginError
from expfw.plugins.importing import imported
from expfw.plugins.kinds import KINDS
from expfw.plugins.validation import hooks, methods
from expfw.plugins.validation import options as options_check
from expfw.version import __version__


@dataclass(frozen=True)
class Found:
    """A plugin as its entry point, or the file it is in, declares it."""

    kind: str
    name: str
    target: str
    distribution: str
    version: str
    requires: str | None = None
    loaded: type[contracts.Plugin] | None = None

    @property
    def who(self) -> str:
        """How errors name it."""
        return f"{self.kind} plugin {self.name!r} of {self.source}"

    @property
    def source(self) -> str:
        """Where it is from: distribution and version."""
        return f"{self.distribution} {self.version}".rstrip()

    @property
    def has_valid_name(self) -> bool:
        """Whether a configuration can hold its name: a dot there would begin the name of an option."""
        return re.fullmatch(r"[\w-]+", self.name) is not None

    @property
    def unmet(self) -> str | None:
        """That it is made for other releases of expfw, or has a name that nobody can type, in one line; else None."""
        what = unmet(self.requires) if self.requires is not None else None
        if not self.has_valid_name:
            what = f"has a name that cannot be chosen; expected letters, digits, - and _; mend {self.distribution}"
        return what and f"{self.who} {what}"

    def load(self) -> type[contracts.Plugin]:
        """Imports the class and checks it.

        Raises:
            PluginError: it cannot be imported, or is not a plugin of this kind; names plugin and distribution.
        """
        if self.unmet is not None:
            raise PluginError(self.unmet)
        cls = self.loaded or self._import()
        base = KINDS[self.kind]
        if not (inspect.isclass(cls) and issubclass(cls, base)):
            what = f"{self.who}: {self.target} is not a subclass of expfw.{base.__name__}"
            raise PluginError(f"{what}; mend or uninstall {self.distribution}")
        for what, remedy in options_check.problems(cls):
            raise PluginError(f"{self.who}{what}; {remedy}")
        for what, remedy in hooks.problems(cls, base):
            raise PluginError(f"{self.who} {what}; {remedy}")
        return cls

    def options(self) -> type:
        """Its options as OmegaConf takes them, with a key that says whose they are.

        Raises:
            PluginError: as `load`; or an option has a type that a configuration cannot hold.
        """
        config = self.load().Config
        try:
            return schema.omegaconf_class(config, {"plugin": self.name})
        except (PluginError, TypeError, ValueError) as error:
            raise PluginError(f"{self.who}: {error}") from error
        except Exception as error:  # of a default factory of its author's
            raise PluginError(f"{self.who}: its Config raises {type(error).__name__}: {error}") from error

    def configured(self, values: Mapping[str, Any], where: str) -> Any:
        """Its `Config` with these options, each one checked; `where` is their dotted key.

        Raises:
            ConfigError: the options are refused; PluginError: as `load`, or its Config is broken.
        """
        config = self.load().Config
        try:
            return schema.build(config, values, where)
        except ExpfwError:
            raise
        except Exception as error:
            own = "its Config.__post_init__" if hasattr(config, "__post_init__") else "its Config"
            told = f"{self.who}: {own} raises {type(error).__name__}: {error}"
            raise PluginError(f"{told}; expected ValueError for what does not fit, and nothing else") from error

    def made(self, options: Any) -> contracts.Plugin:
        """The plugin itself.

        Raises:
            PluginError: as `load`, or it cannot be made with these options.
        """
        try:
            return self.load()(options, self.name)
        except ExpfwError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            remedy = f"give others, or mend {self.distribution}"
            raise PluginError(f"{self.who} cannot be made with its options ({what}); {remedy}") from error

    def _import(self) -> Any:
        if not re.fullmatch(r"[\w.]+\s*:\s*[\w.]+", self.target):
            raise PluginError(f"{self.who}: its entry point is {self.target!r}; expected module:Class")
        entry = importlib.metadata.EntryPoint(self.name, self.target, f"expfw.{self.kind}")
        return imported(entry.load, entry.module, self.who, f"mend or uninstall {self.distribution}")


def unmet(requires: str) -> str | None:
    """Why `expfw>=0.1,<1`, say, is not met, to be read behind a plugin's name; None where it is."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(requires).specifier
    except InvalidRequirement:
        return f"requires {requires!r}, which is no requirement; mend its dependencies"
    if wanted.contains(__version__, prereleases=True):
        return None
    return f"is made for expfw{wanted}, this is expfw {__version__}; install a release that fits"


def made(found: Found, options: Any) -> Plugin:
    """A plugin, instantiated to be used.

    Raises:
        PluginError: it cannot be made, or lacks a method that its kind must have, with the contract's arguments.
    """
    for what, remedy in methods.hindrances(found.load(), KINDS[found.kind]):
        file = f"-p {found.distribution.removeprefix('file ')} " if found.loaded else ""
        check = f"expfw {file}plugins check {found.name}"
        raise PluginError(f"{found.who} {what}; {remedy}; `{check}` tells all that is wrong")
    return found.made(options)
