"""`expfw ui`: the tracker's user interface, served where it needs to be, opened where there is a display."""

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
from typing import Any

from expfw.api.user_interface import UiTarget, UserInterface
from expfw.config.compose import compose
from expfw.config.run_plugins import make_plugins
from expfw.errors import ConfigError
from expfw.plugins import catalogue, manager
from expfw.system.signals import Killed, raise_on_signals
from expfw.tracking import ranking, run_folders
from expfw.tracking.ledger import Ledger
from expfw.tracking.workspace import Workspace

POLL_SECONDS = 0.2
LOG = ".ui.log"
"""In the runs folder: what the server writes, which is of use only where something is wrong."""
_LAST_LINES = 10


def ui(workspace: Workspace, host: str, port: int, ids_and_overrides: Sequence[str], open_browser: bool) -> int:
    """Shows the experiment, or the run or sweep among `ids_and_overrides`; returns the exit code.

    Args:
        ids_and_overrides: overrides of the configuration, and at most one id.
        open_browser: whether one may be opened.
    """
    overrides = [word for word in ids_and_overrides if "=" in word or word.startswith("~")]
    ids = [word for word in ids_and_overrides if word not in overrides]
    if len(ids) > 1:
        raise ConfigError(f"one run or sweep at a time; {' and '.join(ids)} were given, other words are KEY=VALUE")
    target = find_ui_target(workspace, ids[0]) if ids else None
    trackers = make_plugins(compose(overrides, workspace.catalogue), workspace.catalogue, kinds=("tracker",))
    hook = manager.make_manager(trackers, report=lambda line: None).hook
    interface: UserInterface | None = hook.expfw_ui(runs_dir=workspace.runs_dir, host=host, port=port, show=target)
    if interface is None:
        raise ConfigError(
            f"no tracker of this configuration has a user interface; {_suggest_remedy(workspace.catalogue)}"
        )
    if not interface.command:
        _show_page(interface, open_browser)
        return 0
    if _is_listening(host, port):
        raise ConfigError(f"something listens on {host}:{port} already; choose another port with --port NUMBER")
    return _run_server(interface, workspace, open_browser)


def _suggest_remedy(plugin_catalogue: catalogue.Catalogue) -> str:
    """What to do where no tracker can show anything."""
    reasons = [
        f"{entry.label} {reason}"
        for entry in plugin_catalogue.entries["tracker"]
        if (reason := plugin_catalogue.get_exclusion_reason(entry))
    ]
    return reasons[0] if reasons else "add tracker=[mlflow]"


def find_ui_target(workspace: Workspace, id_prefix: str) -> UiTarget:
    """What is known of the run or sweep whose id begins so.

    Raises:
        NotFoundError: there is none, or more than one.
    """
    entry = workspace.find_run_or_sweep(id_prefix)
    if entry.first["kind"] != "sweep_started":
        return UiTarget(entry.folder)
    objective = entry.first["objective"]
    groups = ranking.rank_seed_groups(Ledger(entry.folder).read_trials(), objective["mode"])
    metric = next((group.metric for group in groups if group.metric), objective["metric"])
    trials = [trial for group in groups for trial in group.trials]
    return UiTarget(entry.folder, [Path(t.folder) for t in trials if t.folder], metric, objective["mode"])


def _show_page(interface: UserInterface, open_browser: bool) -> None:
    print("\n".join([interface.url, *interface.notes]), flush=True)
    if open_browser and has_display():
        webbrowser.open(interface.url)


def has_display() -> bool:
    """Whether a browser could be seen; one that the user named in BROWSER brings its own."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def _run_server(interface: UserInterface, workspace: Workspace, open_browser: bool) -> int:
    """Runs the tracker's own server in the foreground, and shows the page once it answers."""
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}  # no modules from where the user works; uvicorn adds its own
    workspace.runs_dir.mkdir(parents=True, exist_ok=True)
    log = workspace.runs_dir.absolute() / LOG
    with open(log, "wb") as output:
        to_log: dict[str, Any] = {"stdout": output, "stderr": output}
        process = subprocess.Popen(
            interface.command, env=environment, cwd=workspace.runs_dir, start_new_session=True, **to_log
        )
    try:
        with raise_on_signals():
            while process.poll() is None and not _is_answering(interface.url):
                time.sleep(POLL_SECONDS)
            if process.returncode is None:
                _show_page(interface, open_browser)
                print(f"(Ctrl-C ends it; what the server says is in {run_folders.make_relative_path(log)})", flush=True)
            code = process.wait() or 1  # a server that ends by itself has failed
            last_lines = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
            print("\n".join([*last_lines, f"expfw: the server ended by itself; {log} says why"]), file=sys.stderr)
            return code
    except (KeyboardInterrupt, Killed):
        return 0
    finally:
        _end_group(process)


def _is_listening(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def _is_answering(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True  # whatever it says, it is there
    except OSError:
        return False


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that leads a session of its own, with all it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
