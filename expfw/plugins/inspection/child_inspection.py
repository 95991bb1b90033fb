"""Inspects each plugin in a child process, so that a plugin that exits, hangs or prints does not affect the others.

One fresh process, which has imported only expfw, forks for each plugin.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from typing import Any

from expfw.api import option_schema
from expfw.api.run_config import to_plain
from expfw.errors import ConfigError, ExpfwError, to_one_line, truncate_start, truncate_text
from expfw.plugins import importing
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.entry import PluginEntry, instantiate
from expfw.plugins.inspection import static_checks
from expfw.plugins.inspection.isolated_import import (
    HEAVY_MODULES,
    IMPORT_TIMEOUT_SECONDS,
    ImportResult,
    PrintedTextHandler,
    probe_import,
)
from expfw.plugins.inspection.static_checks import Fault
from expfw.plugins.kinds import MULTIPLE_KINDS
from expfw.plugins.validation import hooks

_POLL_SECONDS = 0.005


def inspect_all(
    entries: Sequence[PluginEntry], files: Sequence[str], limit: float = IMPORT_TIMEOUT_SECONDS
) -> list[dict[str, Any]]:
    """Inspects plugins.

    Args:
        entries: plugins to inspect.
        files: plugin files of the catalogue that contains the plugins.
        limit: seconds after which the import of a plugin is stopped.

    Returns:
        JSON values for each plugin. `details`: see `collect_details`. `problems`: failed checks. `reason`: why the
        plugin cannot be used, in one line, or None. `import_seconds`, `heavy` and `printed`: see `ImportResult`.

    Raises:
        ExpfwError: if the child process fails.
    """
    plugin_ids = [(entry.kind, entry.name, entry.target, entry.distribution) for entry in entries]
    request = {"path": sys.path, "files": list(files), "plugins": plugin_ids, "limit": limit}
    with tempfile.TemporaryDirectory(prefix="expfw-") as folder:
        command = [sys.executable, "-P", "-m", __name__, folder]
        process = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
        if process.returncode != 0:
            raise ExpfwError(
                f"cannot inspect the plugins: {truncate_start(to_one_line(process.stderr), 300) or 'the process ended'}"
            )
        return [json.loads((Path(folder) / f"{number}.json").read_text()) for number in range(len(entries))]


def inspect_plugin(entry: PluginEntry) -> dict[str, Any]:
    """Inspects one plugin, which is imported in this process; see `inspect_all`."""
    handler = PrintedTextHandler()
    log, error_output = logging.getLogger("expfw"), StringIO()
    log.addHandler(handler)
    log.propagate = False
    modules_before, cpu_seconds, start_time = set(sys.modules), time.process_time(), time.monotonic()
    cls = reason = None
    try:
        with redirect_stderr(error_output):
            cls = entry.load()
            entry.make_options_class()
            with suppress(ConfigError):  # it has required options
                instantiate(entry, static_checks.make_default_options(entry))
    except ExpfwError as error:
        reason = str(error)
    cpu_seconds, wall_seconds = time.process_time() - cpu_seconds, time.monotonic() - start_time
    heavy = tuple(name for name in HEAVY_MODULES if name in sys.modules and name not in modules_before)
    import_result = ImportResult(
        cpu_seconds, wall_seconds, heavy, truncate_text(to_one_line(f"{handler.text} {error_output.getvalue()}"), 80)
    )
    if entry.loaded is not None:  # a plugin file is already imported: measure in a new process
        import_result = probe_import(entry)
    import_values = {
        "import_seconds": round(import_result.wall_seconds, 3),
        "heavy": list(import_result.heavy),
        "printed": import_result.printed,
    }
    faults = list(static_checks.check_class(entry))
    if cls is not None:
        faults += [
            fault for name in static_checks.CHECKS if name != "import" for fault in static_checks.run_check(name, entry)
        ]
        faults += static_checks.check_import_result(entry, import_result)
    plugin_details = {} if reason is not None else collect_details(entry, cls)
    return {"reason": reason, **import_values, "details": plugin_details, "problems": [vars(fault) for fault in faults]}


def collect_details(entry: PluginEntry, cls: Any) -> dict[str, Any]:
    """Returns docstring, options and hooks of a usable plugin."""
    prefix = f"{entry.kind}.{entry.name}" if entry.kind in MULTIPLE_KINDS else entry.kind
    options = [
        {
            "option": f"{prefix}.{o.name}",
            "type": o.type,
            "required": o.required,
            "default": _to_json_value(to_plain(o.default)),
            "help": o.help,
        }
        for o in option_schema.list_options(cls.Config)
    ]
    return {"about": inspect.getdoc(cls) or "", "options": options, "hooks": hooks.list_implemented_hooks(cls)}


def _to_json_value(value: Any) -> Any:
    """Returns a plain value for JSON; nan and inf become text, written as in an override."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_to_json_value(inner) for inner in value]
    return {key: _to_json_value(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _inspect_in_child(entry: PluginEntry, path: Path, limit: float) -> None:
    """Inspects a plugin in a forked child and writes the result to `path`, even if the child crashes or hangs."""
    error_file = path.with_suffix(".err")
    pid = os.fork()
    if pid == 0:
        with open(error_file, "wb") as file:
            os.dup2(file.fileno(), 2)
        status = 1
        try:
            _write_inspection(path.with_suffix(".new"), entry)
            path.with_suffix(".new").rename(path)
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(status)  # without waiting for threads that the plugin left running
    exit_code = _wait_for_exit(pid, limit)
    if path.exists():
        return
    last_output = (
        truncate_start(to_one_line(error_file.read_text(errors="replace")), 120) if error_file.exists() else ""
    )
    crash = f"ends the process that imports it, with code {exit_code}" + (f" ({last_output})" if last_output else "")
    problem = f"takes more than {limit:g} s to import" if exit_code is None else crash
    fault = Fault("import", f"{entry.label} {problem}", f"fix its module-level code, or uninstall {entry.source}")
    path.write_text(json.dumps(_make_failed_inspection(fault)))


def _write_inspection(path: Path, entry: PluginEntry) -> None:
    try:
        text = json.dumps(inspect_plugin(entry), default=str)
    except Exception as error:  # an error of the inspection, after the import
        problem = f"{entry.label} cannot be inspected ({to_one_line(f'{type(error).__name__}: {error}')})"
        remedy = f"compare it with {entry.kind} plugins in docs/authors/plugin-api.md, or report it to expfw"
        text = json.dumps(_make_failed_inspection(Fault("inspection", problem, remedy)))
    path.write_text(text)


def _make_failed_inspection(fault: Fault) -> dict[str, Any]:
    import_values: dict[str, Any] = {"import_seconds": None, "heavy": [], "printed": ""}
    return {"reason": str(fault), **import_values, "details": {}, "problems": [vars(fault)]}


def _wait_for_exit(pid: int, limit: float) -> int | None:
    """Returns the exit code of a child process; None if it was killed at the time limit."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        exited_pid, status = os.waitpid(pid, os.WNOHANG)
        if exited_pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(_POLL_SECONDS)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def main(folder: Path) -> None:
    """Forks a child for each plugin that is requested on stdin."""
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    importing.show_noise()
    import numpy  # noqa: F401  # expfw always imports it: not part of a plugin's import time

    catalogue = get_catalogue(tuple(request["files"]))
    for number, (kind, name, target, distribution) in enumerate(request["plugins"]):
        (entry, *_) = [
            candidate
            for candidate in catalogue.entries[kind]
            if (candidate.name, candidate.target, candidate.distribution) == (name, target, distribution)
        ]
        _inspect_in_child(entry, folder / f"{number}.json", request["limit"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
