"""The server that forks trials. It may begin before it is known what it is for, and is told then."""

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
"""Environment variable of a server that began early: the folder in which it learns what it is for."""

IS_SUPPORTED = "forkserver" in multiprocessing.get_all_start_methods()

_MODULES_VARIABLE = "EXPFW_SERVER_MODULES"
"""Environment variable of any other server: the modules that it imports, as JSON."""
_OVERRIDES_FILE, _INSTRUCTIONS_PIPE, _OUTPUT_FILE = "words.json", "order", "output"


class _EarlyServer:
    """What joins this process to a server that began early.

    Our end of the pipe is open for both and stays open: neither of us ever waits for the other to open it, what is
    written waits for the server, and the server comes to the end of the pipe only where we have died.
    """

    def __init__(self, overrides: Sequence[str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="expfw-server-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        (self.folder / _OVERRIDES_FILE).write_text(json.dumps(list(overrides)))
        os.mkfifo(self.folder / _INSTRUCTIONS_PIPE)
        self.pipe = os.open(self.folder / _INSTRUCTIONS_PIPE, os.O_RDWR)

    def send_instructions(self, modules: Sequence[str], log: Path) -> None:
        os.write(self.pipe, (json.dumps({"modules": modules, "log": str(log)}) + "\n").encode())


_early_server: _EarlyServer | None = None  # as long as the server of this process waits to be told

_is_started = False


def start_early(overrides: Sequence[str]) -> None:
    """Starts the server before it is known what for. It imports at once what the words most likely need.

    What turns out not to be needed has cost time and memory, no more. Where it cannot begin, it is started by
    `ensure_running`.

    Args:
        overrides: as they were typed.
    """
    global _early_server
    if not IS_SUPPORTED or _is_started:
        return
    with contextlib.suppress(OSError):  # no room, or a file system without pipes
        _early_server = _EarlyServer(overrides)
        _start_server(_early_server.folder / _OUTPUT_FILE, {FOLDER_VARIABLE: str(_early_server.folder)})


def ensure_running(modules: Sequence[str], log: Path) -> None:
    """Has the server import these modules, and write to this file from now on; starts it where there is none.

    One that has begun a sweep before goes on as it is: what it lacks, the trials import.
    """
    global _early_server
    if _early_server is not None:
        _early_server.send_instructions(modules, log)
        _early_server = None
    _start_server(log, {_MODULES_VARIABLE: json.dumps(list(modules))})


def dismiss_early() -> None:
    """Lets a server that began early end: nobody will need it."""
    global _early_server
    if _early_server is not None:
        os.close(_early_server.pipe)
        _early_server = None


def _start_server(output: Path, variables: dict[str, str]) -> None:
    """Starts the server, unless it lives."""
    global _is_started
    _is_started = True
    forkserver.set_forkserver_preload(["expfw.sweeps.local.preload"])
    with _set_child_environment({**variables, "PYTHONSAFEPATH": "1"}), _redirect_child_output(output):
        forkserver.ensure_running()


def read_early_overrides() -> list[str]:
    """In the server: the words that it began with."""
    path = Path(os.environ.get(FOLDER_VARIABLE, "")) / _OVERRIDES_FILE
    overrides: list[str] = json.loads(path.read_text()) if path.is_file() else []
    return overrides


def wait_for_modules() -> list[str]:
    """In the server: the modules that it is told to import. What it writes goes to the log from here on.

    Raises:
        SystemExit: the command has ended, or needs no server.
    """
    if (folder_name := os.environ.pop(FOLDER_VARIABLE, None)) is None:  # it did not begin early
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
        with contextlib.suppress(FileNotFoundError):  # the command is just ending
            os.write(2, (folder / _OUTPUT_FILE).read_bytes())
    shutil.rmtree(folder, ignore_errors=True)
    if instructions is None:
        sys.exit()
    modules: list[str] = instructions["modules"]
    return modules


@contextmanager
def _set_child_environment(values: dict[str, str]) -> Iterator[None]:
    """Processes started meanwhile have these variables."""
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
    """Processes started meanwhile write there."""
    sys.stdout.flush()
    sys.stderr.flush()
    with open(path, "ab") as file, redirect_fd(1, file.fileno()), redirect_fd(2, file.fileno()):
        yield
