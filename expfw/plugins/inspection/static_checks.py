"""What can be said about a plugin without running it: class, options, methods, hooks, import."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from expfw.api import plain_values, schema
from expfw.errors import ExpfwError, PluginError, one_line
from expfw.plugins.entry import Found
from expfw.plugins.inspection.isolated_import import Imported, probe
from expfw.plugins.kinds import KINDS
from expfw.plugins.validation import hooks, methods
from expfw.version import __version__

IMPORT_SECONDS = 0.5
"""Processor time that importing a plugin's module may take, beyond that of expfw."""
WAIT_SECONDS = 5.0


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


def check(found: Found) -> list[Fault]:
    """All faults that can be found without running the plugin; none but the first kind where it cannot be loaded."""
    return list(check_class(found)) or [fault for name in CHECKS for fault in checked(name, found)]


def checked(name: str, found: Found) -> list[Fault]:
    """What one of `CHECKS` finds; where it cannot be carried out, that is the fault."""
    try:
        return list(CHECKS[name](found))
    except Exception as error:
        what = one_line(f"{type(error).__name__}: {error}")
        text = f"{found.who}: the check of its {name} cannot be carried out ({what})"
        return [
            Fault(
                name, text, f"compare it with {found.kind} plugins in docs/authors/plugin-api.md, or report it to expfw"
            )
        ]


def check_class(found: Found) -> Iterator[Fault]:
    """It can be imported, is of its kind, can be made with options, and says what it is."""
    try:
        cls = found.load()
    except PluginError as error:
        what, _, remedy = str(error).partition("; ")
        yield Fault("class", what, remedy or f"see docs/authors/plugin-api.md on {found.kind} plugins")
        return
    who = _who(found, cls)
    if not (vars(cls).get("__doc__") or "").strip():
        yield Fault("class", f"{who} has no docstring", "say in one sentence what it is; `expfw plugins show` shows it")


def check_options(found: Found) -> Iterator[Fault]:
    """Every option has a type that a configuration can hold, a default that fits it, and a help text."""
    cls = found.load()
    who = f"{_who(found, cls)}: its Config"
    try:
        schema.omegaconf_class(cls.Config, {"plugin": found.name})
    except (ExpfwError, TypeError) as error:
        yield Fault("options", f"{who} cannot be served to Hydra ({error})", "change that option's name or type")
        return
    listed = schema.options(cls.Config)
    for option in listed:
        if not option.help.strip():
            remedy = f'write {option.name}: ... = expfw.option(DEFAULT, help="what it does")'
            yield Fault("options", f"{who} has the option {option.name!r} without a help text", remedy)
    yield from _refused_defaults(found, who)


def default_options(found: Found) -> Any:
    """Its options where nothing is said about them.

    Raises:
        ConfigError: one has no default, or they are refused; PluginError: its Config is broken.
    """
    defaults = {field.name: _default(field) for field in dataclasses.fields(found.load().Config)}
    given = {
        name: "???" if value is dataclasses.MISSING else plain_values.plain(value) for name, value in defaults.items()
    }
    return found.configured(given, found.kind)


def _refused_defaults(found: Found, who: str) -> Iterator[Fault]:
    try:
        found.made(default_options(found))
    except PluginError as error:
        what, _, remedy = str(error).partition("; ")
        yield Fault("options", what, remedy or "let it raise ValueError for values that do not fit, and nothing else")
    except ExpfwError as error:
        if not any(option.required for option in schema.options(found.load().Config)):
            yield Fault("options", f"{who} refuses its own defaults ({error})", "let type, default and check agree")


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def check_methods(found: Found) -> Iterator[Fault]:
    """The methods of its kind are there, with the arguments that the contract has."""
    cls = found.load()
    for what, remedy in methods.problems(cls, KINDS[found.kind]):
        yield Fault("methods", f"{_who(found, cls)} {what}", remedy)


def check_hooks(found: Found) -> Iterator[Fault]:
    """Methods that are named like hooks are hooks that exist, are marked, and take arguments that these have."""
    try:
        cls, base = found.load(), KINDS[found.kind]
    except PluginError as error:
        what, _, remedy = str(error).partition("; ")
        yield Fault("hooks", what, remedy or "docs/authors/plugin-api.md lists the hooks")
        return
    for what, remedy in hooks.going_away(cls, base):
        yield Fault("hooks", f"{_who(found, cls)} {what}", remedy)


def check_versions(found: Found) -> Iterator[Fault]:
    """Its distribution says which releases of expfw it is made for."""
    if found.requires is None and found.version and found.distribution != "expfw":
        major, minor, *_ = __version__.split(".")
        remedy = f'add "expfw>={major}.{minor},<{int(major) + 1}" to its dependencies'
        yield Fault("versions", f"{found.who}: its distribution does not say which expfw it is made for", remedy)


def check_import(found: Found) -> Iterator[Fault]:
    """Importing it is quick, brings no framework and prints nothing; found out in a process of its own."""
    return faults_of_import(found, probe(found))


def faults_of_import(found: Found, imported: Imported) -> Iterator[Fault]:
    """What is wrong with how it was imported."""
    who = found.who
    if imported.error is not None:
        yield Fault("import", f"alone in a fresh process, {imported.error}", "mend what its module does on import")
    for name in imported.heavy:
        remedy = "import it inside the methods that use it, so that listing and completing plugins stay quick"
        yield Fault("import", f"{who} imports {name} as soon as it is looked at", remedy)
    if not imported.heavy and (imported.seconds > IMPORT_SECONDS or imported.waited > WAIT_SECONDS):
        what = f"{who} takes {imported.seconds:.1f} s of processor time and {imported.waited:.1f} s in all to import"
        remedy = f"stay below {IMPORT_SECONDS} and {WAIT_SECONDS} s: import inside methods (see python -X importtime)"
        yield Fault("import", what, remedy)
    if imported.printed:
        remedy = "do it when the plugin is used: log, or call run.message, inside its methods"
        yield Fault("import", f"{who} prints on import: {imported.printed!r}", remedy)


CHECKS: dict[str, Callable[[Found], Iterable[Fault]]] = {
    "options": check_options,
    "methods": check_methods,
    "hooks": check_hooks,
    "versions": check_versions,
    "import": check_import,
}
"""The checks of a class that can be loaded, by name; `check_class` comes first."""


def _who(found: Found, cls: type) -> str:
    return f"{found.kind} plugin {found.name!r} ({cls.__module__}.{cls.__qualname__})"
