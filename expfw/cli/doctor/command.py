"""`expfw doctor`: quick checks first, then checks of the configuration and the plugins, which import a framework."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

from expfw.api.run_config import to_plain
from expfw.cli.doctor.machine import NOTE, PROBLEM, Finding, check_machine, check_runs_folder
from expfw.config.compose import compose
from expfw.config.freeze import build_config
from expfw.config.run_plugins import list_selected_plugins, make_plugins
from expfw.errors import ExpfwError
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.plugins.inspection import inspect_all
from expfw.plugins.kinds import KINDS
from expfw.plugins.manager import make_manager
from expfw.reports.console import make_console
from expfw.system.formatting import pluralize
from expfw.system.json_output import print_json
from expfw.system.subprocess_call import start_call
from expfw.tracking.run_index import Workspace

TIMEOUT_SECONDS = 90.0
"""Maximum time of the checks of all plugins."""


def doctor(overrides: Sequence[str], workspace: Workspace, as_json: bool) -> int:
    """Prints the result of each check immediately; returns the exit code: 1 if there are problems, otherwise 0."""
    all_overrides = [f"runs_dir={workspace.runs_dir.absolute()}", *overrides]
    findings = []
    console = make_console()
    with console.status("checking") if console.is_terminal and not as_json else nullcontext():
        quick_checks = chain(check_machine(), check_runs_folder(workspace))
        for finding in chain(quick_checks, check_plugins(all_overrides, workspace.catalogue)):
            findings.append(finding)
            if not as_json:
                console.print(finding)
    if as_json:
        print_json([{**finding._asdict(), "mark": finding.mark} for finding in findings])
    else:
        counts = [(sum(finding.mark == mark for finding in findings), mark) for mark in (PROBLEM, NOTE)]
        print(f"\n{', '.join(pluralize(*count) for count in counts if count[0]) or 'no problems'}")
    return 0 if all(finding.ok for finding in findings) else 1


def check_plugins(overrides: Sequence[str], catalogue: Catalogue) -> Iterator[Finding]:
    """Checks the configuration and all installed plugins; a problem in a plugin that is not selected is only a note.

    The checks of the selected plugins run in parallel, each in a separate process: a plugin may crash, hang or print.
    """
    config, selected_entries = {}, []
    try:
        run_config = compose(overrides, catalogue)
        config = to_plain(run_config)
        selected_entries = [entry for _, _, entry in list_selected_plugins(run_config, catalogue)]
        folder = Path("conf").absolute()
        folders = f"built-in and {folder}" if folder.is_dir() else "built-in; there is no folder ./conf"
        yield Finding("configuration", folders)
    except ExpfwError as error:
        yield Finding("configuration", str(error), False, "correct the overrides or the files in ./conf")
    entries = [
        entry for kind in KINDS for entry in catalogue.entries[kind] if catalogue.get_exclusion_reason(entry) is None
    ]
    findings, entries_with_checks = [], []
    for entry, report in zip(entries, inspect_all(entries), strict=True):
        if reason := catalogue.find_problem(entry) or report["reason"]:
            is_unused = entry not in selected_entries
            findings.append(Finding("plugins", reason, is_unused, f"expfw plugins check {entry.name}"))
        elif entry in selected_entries and "expfw_doctor" in report["details"]["hooks"]:
            entries_with_checks.append(entry)
    yield Finding("plugins", f"{len(entries) - len(findings)} of {len(entries)} plugins can be used")
    yield from findings
    for _, problem, advice in catalogue.find_unknown_entry_points():
        yield Finding("plugins", problem, True, advice)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    with ExitStack() as stack:
        calls = [
            (entry, stack.enter_context(start_call(_check, config, catalogue.files, entry.kind, entry.name)))
            for entry in entries_with_checks
        ]
        for entry, call in calls:
            try:
                for result, ok, advice in call.wait_for_result(max(0.0, deadline - time.monotonic())):
                    yield Finding(entry.name, result, ok, advice)
            except ExpfwError as error:
                problem = f"the check of {entry.label} failed: {error}"
                advice = f"fix the plugin or its imports, or disable it: expfw -p no:{entry.name} ..."
                yield Finding(entry.name, problem, False, advice)


def _check(config_values: dict[str, Any], files: list[str], kind: str, name: str) -> list[tuple[str, bool, str]]:
    """Returns the results of the hook `expfw_doctor` of one plugin."""
    config = build_config(config_values)
    plugins = make_plugins(config, get_catalogue(tuple(files)), kinds=(kind,))
    plugin = next(plugin for plugin in plugins if plugin.name == name)
    hook = make_manager([plugin], report=logging.getLogger("expfw").warning).hook
    answers = hook.expfw_doctor(runs_dir=Path(config.runs_dir).absolute())
    return [(str(result), bool(ok), str(advice)) for answer in answers for result, ok, advice in answer]
