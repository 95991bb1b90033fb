"""Fork server: a warm process that forks trials; it can start before the modules to import are known."""

from __future__ import annotations

import atexit
import contextlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path

from expfw.system.redirection import redirect_fd, redirect_output

FOLDER_VARIABLE = "EXPFW_SERVER_FOLDER"
"""Environment variable of a server that started early: folder with its overrides and its instructions."""

IS_SUPPORTED = "forkserver" in multiprocessing.get_all_start_methods()

_MODULES_VARIABLE = "EXPFW_SERVER_MODULES"
"""Environment variable of any other server: modules that it imports, as JSON."""
_OVERRIDES_FILE, _INSTRUCTIONS_PIPE, _OUTPUT_FILE = "overrides.json", "instructions", "output"


class _EarlyServer:
    """Connection to a server that started early.

    Our end of the pipe is open for reading and writing and stays open. Therefore neither process waits for the other to
    open it, written data waits for the server, and the server reads the end of the pipe only if this process has died.
    """

    def __init__(self, overrides: Sequence[str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="expfw-server-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        (self.folder / _OVERRIDES_FILE).write_text(json.dumps(list(overrides)))
        os.mkfifo(self.folder / _INSTRUCTIONS_PIPE)
        self.pipe = os.open(self.folder / _INSTRUCTIONS_PIPE, os.O_RDWR)

    def send_instructions(self, modules: Sequence[str], log: Path) -> None:
        os.write(self.pipe, (json.dumps({"modules": modules, "log": str(log)}) + "\n").encode())


_early_server: _EarlyServer | None = None  # set while the server of this process waits for instructions

_is_started = False


def start_early(overrides: Sequence[str]) -> None:
    """Starts the server early; it immediately imports the modules that the overrides most likely need.

    A wrong guess costs only time and memory. If the server cannot start now, `ensure_running` starts it.

    Args:
        overrides: overrides as typed by the user.
    """
    global _early_server
    if not IS_SUPPORTED or _is_started:
        return
    with contextlib.suppress(OSError):  # no disk space, or a file system without pipes
        _early_server = _EarlyServer(overrides)
        _start_server(_early_server.folder / _OUTPUT_FILE, {FOLDER_VARIABLE: str(_early_server.folder)})


def ensure_running(modules: Sequence[str], log: Path) -> None:
    """Starts the server if necessary, and sends it the modules to import and the log file to write to.

    A server that already served a sweep stays unchanged; trials import the modules that it does not have.
    """
    global _early_server
    if _early_server is not None:
        _early_server.send_instructions(modules, log)
        _early_server = None
    _start_server(log, {_MODULES_VARIABLE: json.dumps(list(modules))})


def dismiss_early() -> None:
    """Stops a server that started early and is not needed."""
    global _early_server
    if _early_server is not None:
        os.close(_early_server.pipe)
        _early_server = None


def _start_server(output: Path, variables: dict[str, str]) -> None:
    """Starts the server if it is not running."""
    global _is_started
    _is_started = True
    forkserver.set_forkserver_preload(["expfw.sweeps.local.preload"])
    with _set_child_environment({**variables, "PYTHONSAFEPATH": "1"}), _redirect_child_output(output):
        forkserver.ensure_running()


def read_early_overrides() -> list[str]:
    """Returns the overrides that the server was started with. Called in the server."""
    path = Path(os.environ.get(FOLDER_VARIABLE, "")) / _OVERRIDES_FILE
    overrides: list[str] = json.loads(path.read_text()) if path.is_file() else []
    return overrides


def wait_for_modules() -> list[str]:
    """Waits for instructions, redirects the output to the log and returns the modules to import. Called in the server.

    Raises:
        SystemExit: if the main process has ended or needs no server.
    """
    if (folder_name := os.environ.pop(FOLDER_VARIABLE, None)) is None:  # it did not start early
        preset_modules: list[str] = json.loads(os.environ.pop(_MODULES_VARIABLE, "[]"))
        return preset_modules
    folder = Path(folder_name)
    try:
        pipe = os.open(folder / _INSTRUCTIONS_PIPE, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        sys.exit()
    os.set_blocking(pipe, True)
    with open(pipe, encoding="utf-8") as file:
        line = file.readline()
    instructions = json.loads(line or "null")
    if instructions is not None:
        redirect_output(Path(instructions["log"]))
        with contextlib.suppress(FileNotFoundError):  # the main process is exiting
            os.write(2, (folder / _OUTPUT_FILE).read_bytes())
    shutil.rmtree(folder, ignore_errors=True)
    if instructions is None:
        sys.exit()
    modules: list[str] = instructions["modules"]
    return modules


@contextmanager
def _set_child_environment(values: dict[str, str]) -> Iterator[None]:
    """Sets environment variables for processes started in this context."""
    previous_values = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in previous_values.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _redirect_child_output(path: Path) -> Iterator[None]:
    """Redirects the output of processes started in this context to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    with open(path, "ab") as file, redirect_fd(1, file.fileno()), redirect_fd(2, file.fileno()):
        yield
