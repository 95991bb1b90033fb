"""A plugin as its distribution or file declares it: loaded, checked and instantiated when it is chosen."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expfw.api import contracts, option_schema
from expfw.api.contracts import Plugin
from expfw.errors import ExpfwError, PluginError
from expfw.plugins.importing import import_safely
from expfw.plugins.kinds import KINDS
from expfw.plugins.validation import hooks, methods
from expfw.plugins.validation import options as options_check
from expfw.version import __version__


@dataclass(frozen=True)
class PluginEntry:
    """A plugin as its entry point, or the file it is in, declares it."""

    kind: str
    name: str
    target: str
    distribution: str
    version: str
    requires: str | None = None
    loaded: type[contracts.Plugin] | None = None

    @property
    def label(self) -> str:
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
    def incompatibility(self) -> str | None:
        """That it is made for other releases of expfw, or has a name that nobody can type, in one line; else None."""
        problem = find_incompatibility(self.requires) if self.requires is not None else None
        if not self.has_valid_name:
            problem = f"has a name that cannot be chosen; expected letters, digits, - and _; mend {self.distribution}"
        return problem and f"{self.label} {problem}"

    def load(self) -> type[contracts.Plugin]:
        """Imports the class and checks it.

        Raises:
            PluginError: it cannot be imported, or is not a plugin of this kind; names plugin and distribution.
        """
        if self.incompatibility is not None:
            raise PluginError(self.incompatibility)
        cls = self.loaded or self._import_class()
        base = KINDS[self.kind]
        if not (inspect.isclass(cls) and issubclass(cls, base)):
            problem = f"{self.label}: {self.target} is not a subclass of expfw.{base.__name__}"
            raise PluginError(f"{problem}; mend or uninstall {self.distribution}")
        for problem, remedy in options_check.find_problems(cls):
            raise PluginError(f"{self.label}{problem}; {remedy}")
        for problem, remedy in hooks.find_problems(cls, base):
            raise PluginError(f"{self.label} {problem}; {remedy}")
        return cls

    def make_options_class(self) -> type:
        """Its options as OmegaConf takes them, with a key that says whose they are.

        Raises:
            PluginError: as `load`; or an option has a type that a configuration cannot hold.
        """
        config = self.load().Config
        try:
            return option_schema.make_omegaconf_class(config, {"plugin": self.name})
        except (PluginError, TypeError, ValueError) as error:
            raise PluginError(f"{self.label}: {error}") from error
        except Exception as error:  # of a default factory of its author's
            raise PluginError(f"{self.label}: its Config raises {type(error).__name__}: {error}") from error

    def make_config(self, values: Mapping[str, Any], dotted_key: str) -> Any:
        """Its `Config` with these options, each one checked; `dotted_key` is their dotted key.

        Raises:
            ConfigError: the options are refused; PluginError: as `load`, or its Config is broken.
        """
        config = self.load().Config
        try:
            return option_schema.build_instance(config, values, dotted_key)
        except ExpfwError:
            raise
        except Exception as error:
            origin = "its Config.__post_init__" if hasattr(config, "__post_init__") else "its Config"
            problem = f"{self.label}: {origin} raises {type(error).__name__}: {error}"
            raise PluginError(f"{problem}; expected ValueError for what does not fit, and nothing else") from error

    def construct(self, options: Any) -> contracts.Plugin:
        """The plugin itself.

        Raises:
            PluginError: as `load`, or it cannot be made with these options.
        """
        try:
            return self.load()(options, self.name)
        except ExpfwError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            remedy = f"give others, or mend {self.distribution}"
            raise PluginError(f"{self.label} cannot be made with its options ({reason}); {remedy}") from error

    def _import_class(self) -> Any:
        if not re.fullmatch(r"[\w.]+\s*:\s*[\w.]+", self.target):
            raise PluginError(f"{self.label}: its entry point is {self.target!r}; expected module:Class")
        entry_point = importlib.metadata.EntryPoint(self.name, self.target, f"expfw.{self.kind}")
        return import_safely(entry_point.load, entry_point.module, self.label, f"mend or uninstall {self.distribution}")


def find_incompatibility(requires: str) -> str | None:
    """Why `expfw>=0.1,<1`, say, is not met, to be read behind a plugin's name; None where it is."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        specifier = Requirement(requires).specifier
    except InvalidRequirement:
        return f"requires {requires!r}, which is no requirement; mend its dependencies"
    if specifier.contains(__version__, prereleases=True):
        return None
    return f"is made for expfw{specifier}, this is expfw {__version__}; install a release that fits"


def instantiate(entry: PluginEntry, options: Any) -> Plugin:
    """A plugin, instantiated to be used.

    Raises:
        PluginError: it cannot be made, or lacks a method that its kind must have, with the contract's arguments.
    """
    for problem, remedy in methods.find_blocking_problems(entry.load(), KINDS[entry.kind]):
        file_option = f"-p {entry.distribution.removeprefix('file ')} " if entry.loaded else ""
        check_command = f"expfw {file_option}plugins check {entry.name}"
        raise PluginError(f"{entry.label} {problem}; {remedy}; `{check_command}` tells all that is wrong")
    return entry.construct(options)
