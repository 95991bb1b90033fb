"""A declared plugin: loaded, checked and instantiated when it is selected."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import PathFinder
from operator import attrgetter
from typing import Any

from expfw.api import option_schema
from expfw.api.contracts import Plugin
from expfw.api.plugin_code import hash_code
from expfw.errors import ExpfwError, PluginError, truncate_text
from expfw.plugins import validation
from expfw.plugins.importing import import_file, import_safely
from expfw.plugins.kinds import KINDS
from expfw.system.input_files import read_bytes
from expfw.version import __version__


@dataclass(frozen=True)
class PluginEntry:
    """A plugin as declared by an entry point or a plugin file.

    Attributes:
        target: `module:Class`.
        distribution: name of the distribution, or `file PATH`.
        version: version of the distribution; empty for a plugin file.
        requires: requirement on expfw that the distribution declares, or None.
    """

    kind: str
    name: str
    target: str
    distribution: str
    version: str
    requires: str | None = None

    @property
    def label(self) -> str:
        """Name of the plugin in error messages."""
        return f"{self.kind} plugin {self.name!r} of {self.source}"

    @property
    def source(self) -> str:
        """Distribution and version."""
        return f"{self.distribution} {self.version}".rstrip()

    @property
    def file(self) -> str | None:
        """Plugin file that defines it; None for a plugin of a distribution."""
        return None if self.version else self.distribution.removeprefix("file ")

    @property
    def incompatibility(self) -> str | None:
        """One-line error if the plugin requires another release of expfw or has an invalid name, or None."""
        if not re.fullmatch(r"[\w-]+", self.name):  # a dot would begin the name of an option
            return f"{self.label} has an invalid name; expected letters, digits, - and _; fix {self.distribution}"
        if self.requires is None:
            return None
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            specifier = Requirement(self.requires).specifier
        except InvalidRequirement:
            return f"{self.label} has the invalid requirement {self.requires!r}; fix its dependencies"
        if specifier.contains(__version__, prereleases=True):
            return None
        return f"{self.label} requires expfw{specifier}, but this is expfw {__version__}; install a compatible release"

    def read_first_sentence(self) -> str:
        """Returns the first sentence of the docstring without an import; if it is not found, the distribution."""
        module, _, name = self.target.replace(" ", "").partition(":")
        try:
            source = read_bytes(self.file or _find_source(module)).decode()
        except (ImportError, ValueError, OSError):
            source = ""
        match = re.search(rf'^class {re.escape(name)}\b[^\n]*:\s*\n\s+r?"""(.+?)"""', source, re.MULTILINE | re.DOTALL)
        sentence = re.split(r"\.\s|\.?\s*$|\n\s*\n", match[1].strip())[0] if match else ""
        return truncate_text(" ".join(sentence.split()), 70) or f"of {self.distribution}"

    def import_class(self) -> type[Plugin]:
        """Imports the class; its options and hooks are not checked.

        Raises:
            PluginError: if it cannot be imported or is not a plugin of this kind; names plugin and distribution.
        """
        if self.incompatibility is not None:
            raise PluginError(self.incompatibility)
        if not re.fullmatch(r"[\w.]+\s*:\s*[\w.]+", self.target):
            raise PluginError(f"{self.label}: its entry point is {self.target!r}; expected module:Class")
        entry_point = importlib.metadata.EntryPoint(self.name, self.target, f"expfw.{self.kind}")
        if self.file is not None:
            cls = attrgetter(entry_point.attr)(import_file(self.file))
        else:
            remedy = f"fix or uninstall {self.distribution}"
            cls = import_safely(entry_point.load, entry_point.module, self.label, remedy)
        base = KINDS[self.kind]
        if not (inspect.isclass(cls) and issubclass(cls, base)):
            problem = f"{self.label}: {self.target} is not a subclass of expfw.{base.__name__}"
            raise PluginError(f"{problem}; fix or uninstall {self.distribution}")
        return cls

    def load(self) -> type[Plugin]:
        """Imports the class and checks its options and hooks.

        Raises:
            PluginError: as `import_class`, or if an option or a hook is invalid.
        """
        return self._checked_class

    @cached_property
    def _checked_class(self) -> type[Plugin]:
        cls = self.import_class()
        for _, problem, remedy in validation.find_class_problems(cls, KINDS[self.kind]):
            raise PluginError(f"{self.label}{problem}; {remedy}")
        return cls

    @cached_property
    def code(self) -> dict[str, str]:
        """Digests of the code of the class when it was first used in this process; see `hash_code`."""
        return hash_code(self.load())

    def make_defaults(self) -> dict[str, Any]:
        """Returns the defaults of the options.

        Raises:
            PluginError: as `load`, or if a configuration cannot contain an option.
        """
        config = self.load().Config
        with self._convert_errors("its Config"):
            try:
                defaults = option_schema.make_defaults(config)
            except PluginError as error:
                raise PluginError(f"{self.label}: {error}") from error
        if "plugin" in defaults:
            raise PluginError(f"{self.label}: option 'plugin' has a reserved name; choose another one")
        return defaults

    def make_config(self, values: Mapping[str, Any], dotted_key: str) -> Any:
        """Creates the plugin's `Config` from options by name; the key `plugin`, the plugin's name, is ignored.

        Raises:
            ConfigError: if an option is invalid.
            PluginError: as `load`, or if the `Config` raises another error than `ValueError`.
        """
        config, options = self.load().Config, {name: value for name, value in values.items() if name != "plugin"}
        origin = "its Config.__post_init__" if hasattr(config, "__post_init__") else "its Config"
        with self._convert_errors(origin, "; expected only ValueError, for invalid values"):
            return option_schema.build_instance(config, options, dotted_key, f"of {self.kind} plugin {self.name!r}")

    def instantiate(self, options: Any) -> Plugin:
        """Creates the plugin for use in a run.

        Raises:
            PluginError: as `load`, if it cannot be created, or if a method is missing or has other arguments than the
                contract.
        """
        cls = self.load()
        for _, problem, remedy in validation.find_method_problems(cls, KINDS[self.kind]):
            file_option = f"-p {self.file} " if self.file else ""
            check_command = f"expfw {file_option}plugins check {self.name}"
            raise PluginError(f"{self.label}{problem}; {remedy}; `{check_command}` lists all problems")
        with self._convert_errors("its __init__", f"; change its options, or fix {self.distribution}"):
            return cls(options, self.name)

    @contextmanager
    def _convert_errors(self, origin: str, remedy: str = "") -> Iterator[None]:
        """Names the plugin in unexpected errors of its code."""
        try:
            yield
        except ExpfwError:
            raise
        except Exception as error:
            raise PluginError(f"{self.label}: {origin} raises {type(error).__name__}: {error}{remedy}") from error


def _find_source(module: str) -> str:
    """Returns the source file of a module, without importing its parent packages."""
    top, *rest = module.split(".")
    spec, name = importlib.util.find_spec(top), top
    for part in rest:
        name = f"{name}.{part}"
        spec = None if spec is None else PathFinder.find_spec(name, spec.submodule_search_locations)
    if spec is None or spec.origin is None:
        raise ImportError(f"there is no source of {module}")
    return spec.origin
