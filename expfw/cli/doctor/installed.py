"""Checks of the configuration, the installed plugins and, by the selected plugins, the machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from expfw.api.run_config import RunConfig, to_plain
from expfw.cli.doctor.finding import Finding
from expfw.config.compose import compose
from expfw.config.freeze import build_config
from expfw.config.run_plugins import list_selected_plugins, make_plugins
from expfw.errors import ExpfwError
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.plugins.entry import PluginEntry
from expfw.plugins.inspection import inspect_all
from expfw.plugins.kinds import KINDS
from expfw.plugins.manager import make_manager
from expfw.system.subprocess_call import start_call

TIMEOUT_SECONDS = 90.0
"""Maximum time of the checks of all plugins."""


def check_installed(overrides: Sequence[str], catalogue: Catalogue) -> Iterator[Finding]:
    """Checks the configuration and all installed plugins; a problem in a plugin that is not selected is only a note."""
    config, selected_entries = None, []
    try:
        config = compose(overrides, catalogue)
        selected_entries = [entry for _, _, entry in list_selected_plugins(config, catalogue)]
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
    if config is not None:
        yield from _run_checks(config, entries_with_checks, catalogue)


def _run_checks(config: RunConfig, entries: Sequence[PluginEntry], catalogue: Catalogue) -> Iterator[Finding]:
    """Runs the checks of these plugins in parallel, each in a separate process: a plugin may crash, hang or print."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    with ExitStack() as stack:
        calls = [
            stack.enter_context(start_call(check, to_plain(config), catalogue.files, entry.kind, entry.name))
            for entry in entries
        ]
        for entry, call in zip(entries, calls, strict=True):
            try:
                for result, is_fit, advice in call.wait_for_result(max(0.0, deadline - time.monotonic())):
                    yield Finding(entry.name, result, is_fit, advice)
            except ExpfwError as error:
                problem = f"the check of {entry.label} failed: {error}"
                advice = f"fix the plugin or its imports, or disable it: expfw -p no:{entry.name} ..."
                yield Finding(entry.name, problem, False, advice)


def check(config_values: dict[str, Any], files: list[str], kind: str, name: str) -> list[tuple[str, bool, str]]:
    """Returns the results of the hook `expfw_doctor` of one plugin."""
    config = build_config(config_values)
    plugins = make_plugins(config, get_catalogue(tuple(files)), kinds=(kind,))
    plugin = next(plugin for plugin in plugins if plugin.name == name)
    hook = make_manager([plugin], report=logging.getLogger("expfw").warning).hook
    answers = hook.expfw_doctor(runs_dir=Path(config.runs_dir).absolute())
    return [(str(result), bool(is_fit), str(advice)) for answer in answers for result, is_fit, advice in answer]
