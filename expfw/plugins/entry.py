"""A declared plugin: loaded, checked and instantiated when it is selected."""

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
    """A plugin as declared by an entry point or a plugin file.

    Attributes:
        kind: kind of the plugin, such as `model`.
        name: name that a configuration uses.
        target: `module:Class`.
        distribution: name of the distribution, or `file PATH`.
        version: version of the distribution; empty for a plugin file.
        requires: requirement on expfw that the distribution declares, or None.
        loaded: the class, if it comes from a plugin file.
    """

    kind: str
    name: str
    target: str
    distribution: str
    version: str
    requires: str | None = None
    loaded: type[contracts.Plugin] | None = None

    @property
    def label(self) -> str:
        """Name of the plugin in error messages."""
        return f"{self.kind} plugin {self.name!r} of {self.source}"

    @property
    def source(self) -> str:
        """Distribution and version."""
        return f"{self.distribution} {self.version}".rstrip()

    @property
    def has_valid_name(self) -> bool:
        """Whether a configuration can contain the name; a dot would begin the name of an option."""
        return re.fullmatch(r"[\w-]+", self.name) is not None

    @property
    def incompatibility(self) -> str | None:
        """One-line error if the plugin requires another release of expfw or has an invalid name, or None."""
        problem = find_incompatibility(self.requires) if self.requires is not None else None
        if not self.has_valid_name:
            problem = f"has an invalid name; expected letters, digits, - and _; fix {self.distribution}"
        return problem and f"{self.label} {problem}"

    def load(self) -> type[contracts.Plugin]:
        """Imports the class and checks it.

        Raises:
            PluginError: if it cannot be imported or is not a plugin of this kind; names plugin and distribution.
        """
        if self.incompatibility is not None:
            raise PluginError(self.incompatibility)
        cls = self.loaded or self._import_class()
        base = KINDS[self.kind]
        if not (inspect.isclass(cls) and issubclass(cls, base)):
            problem = f"{self.label}: {self.target} is not a subclass of expfw.{base.__name__}"
            raise PluginError(f"{problem}; fix or uninstall {self.distribution}")
        for problem, remedy in options_check.find_problems(cls):
            raise PluginError(f"{self.label}{problem}; {remedy}")
        for problem, remedy in hooks.find_problems(cls, base):
            raise PluginError(f"{self.label} {problem}; {remedy}")
        return cls

    def make_options_class(self) -> type:
        """Returns the options as a class for OmegaConf, with the key `plugin` for the plugin's name.

        Raises:
            PluginError: as `load`, or if a configuration cannot contain the type of an option.
        """
        config = self.load().Config
        try:
            return option_schema.make_omegaconf_class(config, {"plugin": self.name})
        except (PluginError, TypeError, ValueError) as error:
            raise PluginError(f"{self.label}: {error}") from error
        except Exception as error:  # raised by a default factory of the plugin
            raise PluginError(f"{self.label}: its Config raises {type(error).__name__}: {error}") from error

    def make_config(self, values: Mapping[str, Any], dotted_key: str) -> Any:
        """Creates the plugin's `Config` from validated options.

        Args:
            values: options by name.
            dotted_key: dotted key of the options, for errors.

        Raises:
            ConfigError: if an option is invalid.
            PluginError: as `load`, or if the `Config` raises another error than `ValueError`.
        """
        config = self.load().Config
        try:
            return option_schema.build_instance(config, values, dotted_key)
        except ExpfwError:
            raise
        except Exception as error:
            origin = "its Config.__post_init__" if hasattr(config, "__post_init__") else "its Config"
            problem = f"{self.label}: {origin} raises {type(error).__name__}: {error}"
            raise PluginError(f"{problem}; expected only ValueError, for invalid values") from error

    def construct(self, options: Any) -> contracts.Plugin:
        """Creates the plugin.

        Raises:
            PluginError: as `load`, or if it cannot be created with these options.
        """
        try:
            return self.load()(options, self.name)
        except ExpfwError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            remedy = f"change them, or fix {self.distribution}"
            raise PluginError(f"{self.label} cannot be created with its options ({reason}); {remedy}") from error

    def _import_class(self) -> Any:
        if not re.fullmatch(r"[\w.]+\s*:\s*[\w.]+", self.target):
            raise PluginError(f"{self.label}: its entry point is {self.target!r}; expected module:Class")
        entry_point = importlib.metadata.EntryPoint(self.name, self.target, f"expfw.{self.kind}")
        return import_safely(entry_point.load, entry_point.module, self.label, f"fix or uninstall {self.distribution}")


def find_incompatibility(requires: str) -> str | None:
    """Returns why a requirement such as `expfw>=0.1,<1` is not met, to follow a plugin's name; None if it is met."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        specifier = Requirement(requires).specifier
    except InvalidRequirement:
        return f"has the invalid requirement {requires!r}; fix its dependencies"
    if specifier.contains(__version__, prereleases=True):
        return None
    return f"requires expfw{specifier}, but this is expfw {__version__}; install a compatible release"


def instantiate(entry: PluginEntry, options: Any) -> Plugin:
    """Creates a plugin for use in a run.

    Raises:
        PluginError: if it cannot be created, or a required method is missing or has other arguments than the contract.
    """
    for problem, remedy in methods.find_blocking_problems(entry.load(), KINDS[entry.kind]):
        file_option = f"-p {entry.distribution.removeprefix('file ')} " if entry.loaded else ""
        check_command = f"expfw {file_option}plugins check {entry.name}"
        raise PluginError(f"{entry.label} {problem}; {remedy}; `{check_command}` lists all problems")
    return entry.construct(options)
