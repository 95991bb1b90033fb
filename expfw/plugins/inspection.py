"""Checks of a plugin without a run, for `plugins check`, and its import in a separate process.

One fresh process, which has imported only expfw, forks for each plugin, so that a plugin that exits, hangs or prints
does not affect the others.
"""

from __future__ import annotations

import inspect
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from expfw.api import option_schema
from expfw.api.run_config import to_plain
from expfw.errors import ConfigError, ExpfwError, PluginError
from expfw.plugins import importing, validation
from expfw.plugins.entry import PluginEntry
from expfw.plugins.kinds import KINDS, MULTIPLE_KINDS
from expfw.plugins.validation import Problem
from expfw.system.subprocess_call import call_in_fork, start_call
from expfw.version import __version__

FRAMEWORKS = ("tensorflow", "keras", "torch", "jax", "mlflow")
IMPORT_TIMEOUT_SECONDS = 60.0
MAX_CPU_SECONDS, MAX_WALL_SECONDS = 0.5, 5.0
"""Maximum times of importing a plugin's module, without the import of expfw."""


def find_problems(entry: PluginEntry) -> list[Problem]:
    """Checks class, options, methods, hooks and versions of a plugin; the texts contain its label."""
    try:
        cls, base = entry.import_class(), KINDS[entry.kind]
    except PluginError as error:
        return [_make_problem("class", error)]
    class_problems = validation.find_class_problems(cls, base)
    problems = list(class_problems)
    if entry.requires is None and entry.file is None and entry.distribution != "expfw":
        major, minor, *_ = __version__.split(".")
        remedy = f'add "expfw>={major}.{minor},<{int(major) + 1}" to its dependencies'
        problems.append(Problem("versions", ": its distribution does not declare which expfw it requires", remedy))
    if not (vars(cls).get("__doc__") or "").strip():
        remedy = "describe it in one sentence; `expfw plugins show` prints it"
        problems.append(Problem("class", " has no docstring", remedy))
    problems += [*validation.find_method_problems(cls, base), *validation.find_deprecations(cls, base)]
    labelled = [problem._replace(problem=entry.label + problem.problem) for problem in problems]
    return [*labelled, *(() if class_problems else _find_option_problems(entry))]


def _make_problem(check: str, error: ExpfwError) -> Problem:
    """Splits an error text into problem and remedy."""
    problem, _, remedy = str(error).partition("; ")
    return Problem(check, problem, remedy or "see docs/authors/plugin-api.md")


def _find_option_problems(entry: PluginEntry) -> Iterator[Problem]:
    """Checks that each option has a supported type, a valid default and a help text."""
    try:
        defaults = entry.make_defaults()
        cls = entry.load()
        options = option_schema.list_options(cls.Config)
        for option in options:
            if not option.help.strip():
                problem = f"{entry.label}: its Config has the option {option.name!r} without a help text"
                yield Problem("options", problem, f'write {option.name}: ... = expfw.option(DEFAULT, help="...")')
        has_method_problems = any(validation.find_method_problems(cls, KINDS[entry.kind]))
        if not has_method_problems and not any(option.required for option in options):
            entry.instantiate(entry.make_config(defaults, entry.kind))
    except ConfigError as error:
        problem = f"{entry.label}: its Config rejects its own defaults ({error})"
        yield Problem("options", problem, "change the default or the check")
    except PluginError as error:
        yield _make_problem("options", error)


def inspect_all(entries: Sequence[PluginEntry], limit: float = IMPORT_TIMEOUT_SECONDS) -> list[dict[str, Any]]:
    """Checks plugins and measures their import, which is stopped after `limit` seconds.

    Returns:
        JSON values for each plugin. `details`: see `collect_details`. `problems`: failed checks. `reason`: why the
        plugin cannot be used, in one line, or None. `import_seconds`: wall time of the import; None if it crashed.
    """
    with start_call(_inspect_each, [asdict(entry) for entry in entries], limit, end_with_parent=None) as call:
        reports: list[dict[str, Any]] = call.wait_for_result()
        return reports


def _inspect_each(entries: Sequence[dict[str, Any]], limit: float) -> list[dict[str, Any]]:
    import numpy  # noqa: F401  # expfw always imports it: not part of a plugin's import time

    reports = []
    for entry in [PluginEntry(**values) for values in entries]:
        try:
            reports.append(call_in_fork(_inspect, entry, timeout=limit))
        except ExpfwError as error:
            remedy = f"fix its module-level code, or uninstall {entry.source}"
            problem = Problem("import", f"{entry.label} cannot be inspected: {error}", remedy)
            problems = [problem._asdict()]
            reports.append({"reason": str(problem), "import_seconds": None, "details": {}, "problems": problems})
    return reports


def _inspect(entry: PluginEntry) -> dict[str, Any]:
    """Inspects one plugin, which is imported in this process; see `inspect_all`."""
    modules_before, cpu_start, wall_start = set(sys.modules), time.process_time(), time.monotonic()
    reason = None
    try:
        defaults = entry.make_defaults()
        with suppress(ConfigError):  # it has required options
            entry.instantiate(entry.make_config(defaults, entry.kind))
    except ExpfwError as error:
        reason = str(error)
    cpu_seconds, wall_seconds = time.process_time() - cpu_start, time.monotonic() - wall_start
    frameworks = [name for name in FRAMEWORKS if name in sys.modules and name not in modules_before]
    problems = [*find_problems(entry), *_find_import_problems(entry, cpu_seconds, wall_seconds, frameworks)]
    return {
        "reason": reason,
        "import_seconds": round(wall_seconds, 3),
        "details": {} if reason is not None else collect_details(entry),
        "problems": [problem._asdict() for problem in problems],
    }


def _find_import_problems(
    entry: PluginEntry, cpu_seconds: float, wall_seconds: float, frameworks: Sequence[str]
) -> Iterator[Problem]:
    for name in frameworks:
        remedy = "import it inside the methods that use it, so that listing and completing plugins stay fast"
        yield Problem("import", f"{entry.label} imports {name} on import", remedy)
    if frameworks:
        return  # these take long and print
    if cpu_seconds > MAX_CPU_SECONDS or wall_seconds > MAX_WALL_SECONDS:
        times = f"{cpu_seconds:.1f} s of CPU time and {wall_seconds:.1f} s of wall time"
        limits = f"{MAX_CPU_SECONDS} and {MAX_WALL_SECONDS} s"
        remedy = f"stay below {limits}: import inside methods (see python -X importtime)"
        yield Problem("import", f"{entry.label} takes {times} to import", remedy)
    for text in importing.printed_texts:
        remedy = "print when the plugin is used: log, or call run.message, inside its methods"
        yield Problem("import", f"{entry.label} prints on import: {text!r}", remedy)


def collect_details(entry: PluginEntry) -> dict[str, Any]:
    """Returns docstring, options and hooks of a usable plugin."""
    cls = entry.load()
    prefix = f"{entry.kind}.{entry.name}" if entry.kind in MULTIPLE_KINDS else entry.kind
    options = [
        {
            "option": f"{prefix}.{option.name}",
            "type": option.type,
            "required": option.required,
            # JSON has no NaN and infinity: they are written as in an override.
            "default": json.loads(json.dumps(to_plain(option.default)), parse_constant=lambda text: str(float(text))),
            "help": option.help,
        }
        for option in option_schema.list_options(cls.Config)
    ]
    hooks = sorted(validation.find_implementations(cls, object))
    return {"about": inspect.getdoc(cls) or "", "options": options, "hooks": hooks}


def find_frameworks_of_loading(entry: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """Returns the frameworks that a dataset imports to load its data; call it in a fresh process."""
    plugin = PluginEntry(**entry)
    dataset: Any = plugin.instantiate(plugin.make_config(options, plugin.kind))
    dataset.load(0)
    return [name for name in FRAMEWORKS if name in sys.modules]
