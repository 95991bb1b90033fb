"""Checks of a plugin without a run: class, options, methods, hooks, versions and import."""

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
"""Maximum CPU time of importing a plugin's module, without the import of expfw."""
MAX_WALL_SECONDS = 5.0


@dataclass(frozen=True)
class Fault:
    """One problem of a plugin.

    Attributes:
        check: name of the check that found it.
        problem: the problem.
        remedy: how to fix it.
    """

    check: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


def run_check(name: str, entry: PluginEntry) -> list[Fault]:
    """Runs one of `CHECKS` and returns its faults; a check that raises is reported as a fault."""
    try:
        return list(CHECKS[name](entry))
    except Exception as error:
        reason = to_one_line(f"{type(error).__name__}: {error}")
        problem = f"{entry.label}: cannot check its {name} ({reason})"
        return [
            Fault(
                name,
                problem,
                f"compare it with {entry.kind} plugins in docs/authors/plugin-api.md, or report it to expfw",
            )
        ]


def check_class(entry: PluginEntry) -> Iterator[Fault]:
    """Checks that the class can be imported, has the right base class and has a docstring."""
    try:
        cls = entry.load()
    except PluginError as error:
        problem, _, remedy = str(error).partition("; ")
        yield Fault("class", problem, remedy or f"see docs/authors/plugin-api.md on {entry.kind} plugins")
        return
    label = _format_label(entry, cls)
    if not (vars(cls).get("__doc__") or "").strip():
        yield Fault("class", f"{label} has no docstring", "describe it in one sentence; `expfw plugins show` prints it")


def check_options(entry: PluginEntry) -> Iterator[Fault]:
    """Checks that each option has a supported type, a valid default and a help text."""
    cls = entry.load()
    label = f"{_format_label(entry, cls)}: its Config"
    try:
        option_schema.make_omegaconf_class(cls.Config, {"plugin": entry.name})
    except (ExpfwError, TypeError) as error:
        yield Fault("options", f"{label} cannot be passed to Hydra ({error})", "change the option's name or type")
        return
    options = option_schema.list_options(cls.Config)
    for option in options:
        if not option.help.strip():
            remedy = f'write {option.name}: ... = expfw.option(DEFAULT, help="description")'
            yield Fault("options", f"{label} has the option {option.name!r} without a help text", remedy)
    yield from _check_defaults(entry, label)


def make_default_options(entry: PluginEntry) -> Any:
    """Creates the options from their defaults.

    Raises:
        ConfigError: if an option has no default, or a default is invalid.
        PluginError: if the `Config` raises another error than `ValueError`.
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
        yield Fault("options", problem, remedy or "raise only ValueError, for invalid values")
    except ExpfwError as error:
        if not any(option.required for option in option_schema.list_options(entry.load().Config)):
            yield Fault("options", f"{label} rejects its own defaults ({error})", "change the default or the check")


def _get_default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def check_methods(entry: PluginEntry) -> Iterator[Fault]:
    """Checks that the methods of its kind exist and have the arguments of the contract."""
    cls = entry.load()
    for problem, remedy in methods.find_problems(cls, KINDS[entry.kind]):
        yield Fault("methods", f"{_format_label(entry, cls)} {problem}", remedy)


def check_hooks(entry: PluginEntry) -> Iterator[Fault]:
    """Checks that methods named like hooks are existing hooks, are marked and have valid arguments."""
    try:
        cls, base = entry.load(), KINDS[entry.kind]
    except PluginError as error:
        problem, _, remedy = str(error).partition("; ")
        yield Fault("hooks", problem, remedy or "docs/authors/plugin-api.md lists the hooks")
        return
    for problem, remedy in hooks.find_deprecations(cls, base):
        yield Fault("hooks", f"{_format_label(entry, cls)} {problem}", remedy)


def check_versions(entry: PluginEntry) -> Iterator[Fault]:
    """Checks that its distribution declares the required releases of expfw."""
    if entry.requires is None and entry.version and entry.distribution != "expfw":
        major, minor, *_ = __version__.split(".")
        remedy = f'add "expfw>={major}.{minor},<{int(major) + 1}" to its dependencies'
        yield Fault("versions", f"{entry.label}: its distribution does not declare which expfw it requires", remedy)


def check_import(entry: PluginEntry) -> Iterator[Fault]:
    """Checks in a fresh process that the import is fast, imports no framework and prints nothing."""
    return check_import_result(entry, probe_import(entry))


def check_import_result(entry: PluginEntry, import_result: ImportResult) -> Iterator[Fault]:
    """Checks the result of an import: error, frameworks, time and printed text."""
    label = entry.label
    if import_result.error is not None:
        yield Fault("import", f"in a fresh process, {import_result.error}", "fix its module-level code")
    for name in import_result.heavy:
        remedy = "import it inside the methods that use it, so that listing and completing plugins stay fast"
        yield Fault("import", f"{label} imports {name} on import", remedy)
    if not import_result.heavy and (
        import_result.cpu_seconds > MAX_CPU_SECONDS or import_result.wall_seconds > MAX_WALL_SECONDS
    ):
        problem = (
            f"{label} takes {import_result.cpu_seconds:.1f} s of CPU time and "
            f"{import_result.wall_seconds:.1f} s of wall time to import"
        )
        remedy = (
            f"stay below {MAX_CPU_SECONDS} and {MAX_WALL_SECONDS} s: import inside methods (see python -X importtime)"
        )
        yield Fault("import", problem, remedy)
    if import_result.printed:
        remedy = "print when the plugin is used: log, or call run.message, inside its methods"
        yield Fault("import", f"{label} prints on import: {import_result.printed!r}", remedy)


CHECKS: dict[str, Callable[[PluginEntry], Iterable[Fault]]] = {
    "options": check_options,
    "methods": check_methods,
    "hooks": check_hooks,
    "versions": check_versions,
    "import": check_import,
}
"""The checks of a loaded class, by name; `check_class` runs before them."""


def _format_label(entry: PluginEntry, cls: type) -> str:
    return f"{entry.kind} plugin {entry.name!r} ({cls.__module__}.{cls.__qualname__})"
