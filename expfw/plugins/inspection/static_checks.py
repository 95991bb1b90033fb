"""What can be said about a plugin without running it: class, options, methods, hooks, import."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from expfw.api import option_schema, run_config
from expfw.errors import ExpfwError, PluginError, to_one_line
from expfw.plugins.entry import PluginEntry
from expfw.plugins.inspection.isolated_import import ImportResult, probe_import
from expfw.plugins.kinds import KINDS
from expfw.plugins.validation import hooks, methods
from expfw.version import __version__

MAX_CPU_SECONDS = 0.5
"""Processor time that importing a plugin's module may take, beyond that of expfw."""
MAX_WALL_SECONDS = 5.0


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a plugin.

    Attributes:
        check: the name of the check that found it; what: what is wrong; remedy: what to do.
    """

    check: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


def run_check(name: str, entry: PluginEntry) -> list[Fault]:
    """What one of `CHECKS` finds; where it cannot be carried out, that is the fault."""
    try:
        return list(CHECKS[name](entry))
    except Exception as error:
        reason = to_one_line(f"{type(error).__name__}: {error}")
        problem = f"{entry.label}: the check of its {name} cannot be carried out ({reason})"
        return [
            Fault(
                name,
                problem,
                f"compare it with {entry.kind} plugins in docs/authors/plugin-api.md, or report it to expfw",
            )
        ]


def check_class(entry: PluginEntry) -> Iterator[Fault]:
    """It can be imported, is of its kind, can be made with options, and says what it is."""
    try:
        cls = entry.load()
    except PluginError as error:
        problem, _, remedy = str(error).partition("; ")
        yield Fault("class", problem, remedy or f"see docs/authors/plugin-api.md on {entry.kind} plugins")
        return
    label = _format_label(entry, cls)
    if not (vars(cls).get("__doc__") or "").strip():
        yield Fault(
            "class", f"{label} has no docstring", "say in one sentence what it is; `expfw plugins show` shows it"
        )


def check_options(entry: PluginEntry) -> Iterator[Fault]:
    """Every option has a type that a configuration can hold, a default that fits it, and a help text."""
    cls = entry.load()
    label = f"{_format_label(entry, cls)}: its Config"
    try:
        option_schema.make_omegaconf_class(cls.Config, {"plugin": entry.name})
    except (ExpfwError, TypeError) as error:
        yield Fault("options", f"{label} cannot be served to Hydra ({error})", "change that option's name or type")
        return
    options = option_schema.list_options(cls.Config)
    for option in options:
        if not option.help.strip():
            remedy = f'write {option.name}: ... = expfw.option(DEFAULT, help="what it does")'
            yield Fault("options", f"{label} has the option {option.name!r} without a help text", remedy)
    yield from _check_defaults(entry, label)


def make_default_options(entry: PluginEntry) -> Any:
    """Its options where nothing is said about them.

    Raises:
        ConfigError: one has no default, or they are refused; PluginError: its Config is broken.
    """
    defaults = {field.name: _get_default(field) for field in dataclasses.fields(entry.load().Config)}
    values = {
        name: "???" if value is dataclasses.MISSING else run_config.to_plain(value) for name, value in defaults.items()
    }
    return entry.make_config(values, entry.kind)


def _check_defaults(entry: PluginEntry, label: str) -> Iterator[Fault]:
    try:
        entry.construct(make_default_options(entry))
    except PluginError as error:
        problem, _, remedy = str(error).partition("; ")
        yield Fault(
            "options", problem, remedy or "let it raise ValueError for values that do not fit, and nothing else"
        )
    except ExpfwError as error:
        if not any(option.required for option in option_schema.list_options(entry.load().Config)):
            yield Fault("options", f"{label} refuses its own defaults ({error})", "let type, default and check agree")


def _get_default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def check_methods(entry: PluginEntry) -> Iterator[Fault]:
    """The methods of its kind are there, with the arguments that the contract has."""
    cls = entry.load()
    for problem, remedy in methods.find_problems(cls, KINDS[entry.kind]):
        yield Fault("methods", f"{_format_label(entry, cls)} {problem}", remedy)


def check_hooks(entry: PluginEntry) -> Iterator[Fault]:
    """Methods that are named like hooks are hooks that exist, are marked, and take arguments that these have."""
    try:
        cls, base = entry.load(), KINDS[entry.kind]
    except PluginError as error:
        problem, _, remedy = str(error).partition("; ")
        yield Fault("hooks", problem, remedy or "docs/authors/plugin-api.md lists the hooks")
        return
    for problem, remedy in hooks.find_deprecations(cls, base):
        yield Fault("hooks", f"{_format_label(entry, cls)} {problem}", remedy)


def check_versions(entry: PluginEntry) -> Iterator[Fault]:
    """Its distribution says which releases of expfw it is made for."""
    if entry.requires is None and entry.version and entry.distribution != "expfw":
        major, minor, *_ = __version__.split(".")
        remedy = f'add "expfw>={major}.{minor},<{int(major) + 1}" to its dependencies'
        yield Fault("versions", f"{entry.label}: its distribution does not say which expfw it is made for", remedy)


def check_import(entry: PluginEntry) -> Iterator[Fault]:
    """Importing it is quick, brings no framework and prints nothing; found out in a process of its own."""
    return check_import_result(entry, probe_import(entry))


def check_import_result(entry: PluginEntry, import_result: ImportResult) -> Iterator[Fault]:
    """What is wrong with how it was imported."""
    label = entry.label
    if import_result.error is not None:
        yield Fault("import", f"alone in a fresh process, {import_result.error}", "mend what its module does on import")
    for name in import_result.heavy:
        remedy = "import it inside the methods that use it, so that listing and completing plugins stay quick"
        yield Fault("import", f"{label} imports {name} as soon as it is looked at", remedy)
    if not import_result.heavy and (
        import_result.cpu_seconds > MAX_CPU_SECONDS or import_result.wall_seconds > MAX_WALL_SECONDS
    ):
        problem = (
            f"{label} takes {import_result.cpu_seconds:.1f} s of processor time and "
            f"{import_result.wall_seconds:.1f} s in all to import"
        )
        remedy = (
            f"stay below {MAX_CPU_SECONDS} and {MAX_WALL_SECONDS} s: import inside methods (see python -X importtime)"
        )
        yield Fault("import", problem, remedy)
    if import_result.printed:
        remedy = "do it when the plugin is used: log, or call run.message, inside its methods"
        yield Fault("import", f"{label} prints on import: {import_result.printed!r}", remedy)


CHECKS: dict[str, Callable[[PluginEntry], Iterable[Fault]]] = {
    "options": check_options,
    "methods": check_methods,
    "hooks": check_hooks,
    "versions": check_versions,
    "import": check_import,
}
"""The checks of a class that can be loaded, by name; `check_class` comes first."""


def _format_label(entry: PluginEntry, cls: type) -> str:
    return f"{entry.kind} plugin {entry.name!r} ({cls.__module__}.{cls.__qualname__})"
