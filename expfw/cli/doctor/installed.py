"""Checks of the configuration, the installed plugins and, by the selected plugins, the machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from expfw.api.run_config import RunConfig, to_plain
from expfw.cli.doctor import examination
from expfw.cli.doctor.examination import ANSWER_FILE
from expfw.cli.doctor.finding import Finding
from expfw.config import compose
from expfw.config.run_plugins import list_selected_plugins
from expfw.errors import ExpfwError
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.entry import PluginEntry
from expfw.plugins.inspection.child_inspection import inspect_all
from expfw.plugins.kinds import KINDS
from expfw.system.process_limits import describe_exit

EXAMINATION_TIMEOUT_SECONDS = 90.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class ExaminedPlugins:
    """Plugins of a configuration that implement the hook `expfw_doctor`.

    Attributes:
        config: the configuration.
        entries: the plugins.
    """

    config: RunConfig
    entries: Sequence[PluginEntry]


def check_configuration(overrides: Sequence[str], catalogue: Catalogue) -> tuple[RunConfig | None, list[Finding]]:
    """Composes the configuration; returns None for it if that fails, and the findings."""
    config_folder = Path("conf").absolute()
    description = f"built-in and {config_folder}" if config_folder.is_dir() else "built-in; there is no folder ./conf"
    try:
        config = compose.compose(overrides, catalogue)
    except ExpfwError as error:
        return None, [Finding("configuration", str(error), False, "correct the overrides or the files in ./conf")]
    return config, [Finding("configuration", description)]


def check_plugins(config: RunConfig | None, catalogue: Catalogue) -> tuple[ExaminedPlugins | None, list[Finding]]:
    """Checks all installed plugins; a problem in a plugin that is not selected is only a note."""
    entries = [
        entry for kind in KINDS for entry in catalogue.entries[kind] if catalogue.get_exclusion_reason(entry) is None
    ]
    selected_entries = [] if config is None else [entry for _, _, entry in list_selected_plugins(config, catalogue)]
    findings, faulty_count, examined_entries = [], 0, []
    for entry, report in zip(entries, inspect_all(entries, catalogue.files), strict=True):
        if reason := catalogue.find_problem(entry) or report["reason"]:
            faulty_count += 1
            findings.append(
                Finding("plugins", reason, entry not in selected_entries, f"expfw plugins check {entry.name}")
            )
        elif entry in selected_entries and "expfw_doctor" in report["details"]["hooks"]:
            examined_entries.append(entry)
    for _, problem, remedy in catalogue.find_unknown_entry_points():
        findings.append(Finding("plugins", problem, True, remedy))
    usable = Finding("plugins", f"{len(entries) - faulty_count} of {len(entries)} plugins can be used")
    return None if config is None else ExaminedPlugins(config, examined_entries), [usable, *findings]


def examine_plugins(
    plugins: ExaminedPlugins, catalogue: Catalogue, timeout_seconds: float = EXAMINATION_TIMEOUT_SECONDS
) -> Iterator[Finding]:
    """Runs the checks of these plugins in parallel, each in a separate process; yields the fastest plugin first."""
    with tempfile.TemporaryDirectory(prefix="expfw-") as folder:
        processes = {
            entry: _start_examination(plugins.config, entry, catalogue, Path(folder) / entry.kind)
            for entry in plugins.entries
        }
        deadline = time.monotonic() + timeout_seconds
        try:
            while processes:
                is_late = time.monotonic() > deadline
                for entry, process in list(processes.items()):
                    if is_late or process.poll() is not None:
                        del processes[entry]
                        yield from _read_findings(entry, process, Path(folder) / entry.kind, timeout_seconds)
                time.sleep(_POLL_SECONDS)
        finally:
            for process in processes.values():
                _kill_process_group(process)


def _start_examination(
    config: RunConfig, entry: PluginEntry, catalogue: Catalogue, folder: Path
) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    request = {"config": to_plain(config), "files": list(catalogue.files), "kind": entry.kind, "name": entry.name}
    (folder / "request.json").touch(mode=0o600)  # a tracker's options may contain a password
    (folder / "request.json").write_text(json.dumps(request))
    command = [sys.executable, "-P", "-m", examination.__name__, str(folder)]
    with open(folder / "log", "wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _read_findings(
    entry: PluginEntry, process: subprocess.Popen[bytes], folder: Path, timeout_seconds: float
) -> Iterator[Finding]:
    code = process.poll()
    _kill_process_group(process)
    if (folder / ANSWER_FILE).exists():
        for result, fit, remedy in json.loads((folder / ANSWER_FILE).read_text()):
            yield Finding(entry.name, result, fit, remedy)
        return
    exit_description = (
        describe_exit(code, False).replace("its process ended", "ended").replace(" before the run did", "")
    )
    failure = f"did not end within {timeout_seconds:g} s" if code is None else exit_description
    last_line = (folder / "log").read_text(errors="replace").strip().splitlines()[-1:]
    problem = f"the check of {entry.label} {failure}{f' ({last_line[0][:200]})' if last_line else ''}"
    yield Finding(
        entry.name, problem, False, f"fix the plugin or its imports, or disable it: expfw -p no:{entry.name} ..."
    )


def _kill_process_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
