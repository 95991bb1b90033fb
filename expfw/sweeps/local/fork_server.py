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

from expfw.system.output import led, redirect_output

FOLDER = "EXPFW_SERVER_FOLDER"
"""Environment variable of a server that began early: the folder in which it learns what it is for."""

POSSIBLE = "forkserver" in multiprocessing.get_all_start_methods()

_MODULES = "EXPFW_SERVER_MODULES"
"""Environment variable of any other server: the modules that it imports, as JSON."""
_WORDS, _ORDER, _OUTPUT = "words.json", "order", "output"


class _Early:
    """What joins this process to a server that began early.

    Our end of the pipe is open for both and stays open: neither of us ever waits for the other to open it, what is
    written waits for the server, and the server comes to the end of the pipe only where we have died.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="expfw-server-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        (self.folder / _WORDS).write_text(json.dumps(list(words)))
        os.mkfifo(self.folder / _ORDER)
        self.pipe = os.open(self.folder / _ORDER, os.O_RDWR)

    def order(self, modules: Sequence[str], log: Path) -> None:
        os.write(self.pipe, (json.dumps({"modules": modules, "log": str(log)}) + "\n").encode())


_early: _Early | None = None  # as long as the server of this process waits to be told

_started = False


def begin(words: Sequence[str]) -> None:
    """Starts the server before it is known what for. It imports at once what the words most likely need.

    What turns out not to be needed has cost time and memory, no more. Where it cannot begin, it is started by `tell`.

    Args:
        words: as they were typed.
    """
    global _early
    if not POSSIBLE or _started:
        return
    with contextlib.suppress(OSError):  # no room, or a file system without pipes
        _early = _Early(words)
        _start(_early.folder / _OUTPUT, {FOLDER: str(_early.folder)})


def tell(modules: Sequence[str], log: Path) -> None:
    """Has the server import these modules, and write to this file from now on; starts it where there is none.

    One that has begun a sweep before goes on as it is: what it lacks, the trials import.
    """
    global _early
    if _early is not None:
        _early.order(modules, log)
        _early = None
    _start(log, {_MODULES: json.dumps(list(modules))})


def dismiss() -> None:
    """Lets a server that began early end: nobody will need it."""
    global _early
    if _early is not None:
        os.close(_early.pipe)
        _early = None


def _start(output: Path, surroundings: dict[str, str]) -> None:
    """Starts the server, unless it lives."""
    global _started
    _started = True
    forkserver.set_forkserver_preload(["expfw.sweeps.local.preload"])
    with _environment({**surroundings, "PYTHONSAFEPATH": "1"}), _output_to(output):
        forkserver.ensure_running()


def known_words() -> list[str]:
    """In the server: the words that it began with."""
    words = Path(os.environ.get(FOLDER, "")) / _WORDS
    known: list[str] = json.loads(words.read_text()) if words.is_file() else []
    return known


def wait_for_order() -> list[str]:
    """In the server: the modules that it is told to import. What it writes goes to the log from here on.

    Raises:
        SystemExit: the command has ended, or needs no server.
    """
    if (place := os.environ.pop(FOLDER, None)) is None:  # it did not begin early
        waiting: list[str] = json.loads(os.environ.pop(_MODULES, "[]"))
        return waiting
    folder = Path(place)
    try:
        pipe = os.open(folder / _ORDER, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        sys.exit()
    os.set_blocking(pipe, True)
    with open(pipe, encoding="utf-8") as file:
        line = file.readline()
    order = json.loads(line or "null")
    if order is not None:
        redirect_output(Path(order["log"]))
        with contextlib.suppress(FileNotFoundError):  # the command is just ending
            os.write(2, (folder / _OUTPUT).read_bytes())
    shutil.rmtree(folder, ignore_errors=True)
    if order is None:
        sys.exit()
    modules: list[str] = order["modules"]
    return modules


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Processes started meanwhile have these variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Processes started meanwhile write there."""
    sys.stdout.flush()
    sys.stderr.flush()
    with open(path, "ab") as file, led(1, file.fileno()), led(2, file.fileno()):
        yield
