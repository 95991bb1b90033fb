"""The command `ui`: serves and opens the tracker's user interface."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from expfw.api.user_interface import UiTarget, UserInterface
from expfw.config.compose import compose
from expfw.config.run_plugins import make_plugins
from expfw.errors import ConfigError
from expfw.plugins import manager
from expfw.system.redirection import redact_file
from expfw.system.signals import Killed, raise_on_signals
from expfw.system.subprocess_call import run_command, start_call
from expfw.tracking import ranking, run_folders, run_index
from expfw.tracking.ledger import Ledger
from expfw.tracking.run_index import Workspace

LOG = ".ui.log"
"""Log file of the server, in the runs folder."""


def ui(workspace: Workspace, host: str, port: int, ids_and_overrides: Sequence[str], no_browser: bool) -> int:
    """Shows the experiment, or one run or sweep; returns the exit code."""
    overrides = [value for value in ids_and_overrides if "=" in value or value.startswith("~")]
    ids = [value for value in ids_and_overrides if value not in overrides]
    if len(ids) > 1:
        raise ConfigError(f"{len(ids)} IDs given; expected one run or sweep, and KEY=VALUE for overrides")
    target = find_ui_target(workspace, ids[0]) if ids else None
    trackers = make_plugins(compose(overrides, workspace.catalogue), workspace.catalogue, kinds=("tracker",))
    hook = manager.make_manager(trackers, report=lambda line: None).hook
    interface: UserInterface | None = hook.expfw_ui(runs_dir=workspace.runs_dir, host=host, port=port, show=target)
    if interface is None:
        problems = filter(None, map(workspace.catalogue.find_problem, workspace.catalogue.entries["tracker"]))
        advice = next(problems, "add tracker=[mlflow]")
        raise ConfigError(f"no tracker of this configuration has a user interface; {advice}")
    if not interface.command:
        _show_page(interface, no_browser)
        return 0
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex((host, port)) == 0:
            raise ConfigError(f"{host}:{port} is already in use; choose another port with --port NUMBER")
    return _run_server(interface, workspace, no_browser)


def find_ui_target(workspace: Workspace, id_prefix: str) -> UiTarget:
    """Returns the run or sweep for a tracker to show."""
    runs_dir = workspace.runs_dir
    recorded = run_index.find_recorded(run_index.list_all(runs_dir), id_prefix, "sweep or run", runs_dir)
    if not recorded.is_sweep:
        return UiTarget(recorded.folder)
    objective = recorded.first["objective"]
    groups = ranking.rank_seed_groups(Ledger(recorded.folder).read_trials(), objective["mode"])
    metric = next((group.metric for group in groups if group.metric), objective["metric"])
    trials = [trial for group in groups for trial in group.trials]
    return UiTarget(recorded.folder, [Path(t.folder) for t in trials if t.folder], metric, objective["mode"])


def _show_page(interface: UserInterface, no_browser: bool) -> None:
    print("\n".join([interface.url, *interface.notes]), flush=True)
    # A browser needs a display; a browser named in BROWSER is always opened.
    has_display = sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
    if not no_browser and has_display:
        webbrowser.open(interface.url)


def _run_server(interface: UserInterface, workspace: Workspace, no_browser: bool) -> int:
    """Runs the tracker's server in the foreground and shows the page when the server answers."""
    workspace.runs_dir.mkdir(parents=True, exist_ok=True)
    log = workspace.runs_dir.absolute() / LOG
    log.unlink(missing_ok=True)  # it could be a link to another file
    with start_call(
        run_command,
        interface.command,
        log=log,
        # No modules from the user's folder: uvicorn adds its working directory, which is the runs folder.
        environment={"PYTHONSAFEPATH": "1"},
        working_directory=log.parent,
    ) as call:
        try:
            with raise_on_signals():
                while call.process.poll() is None and not _is_answering(interface.url):
                    time.sleep(0.2)
                if call.process.returncode is None:
                    _show_page(interface, no_browser)
                    print(f"(Ctrl-C stops the server; its log is {run_folders.make_relative_path(log)})", flush=True)
                code: int = call.wait_for_result() or 1  # a server that stops without a signal has failed
                last_lines = log.read_text(errors="replace").splitlines()[-10:]
                print("\n".join([*last_lines, f"expfw: the server stopped unexpectedly; see {log}"]), file=sys.stderr)
                return code
        except (KeyboardInterrupt, Killed):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(call.process.pid, signal.SIGTERM)
                call.process.wait(5)
            return 0
        finally:
            redact_file(log)


def _is_answering(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True  # an error page is an answer, too
    except OSError:
        return False
