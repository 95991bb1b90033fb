"""The warm server that forks trials: begun as early as possible, told later what else to import and where to log."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path

FOLDER = "EXPFW_SERVER_FOLDER"
"""Environment variable of a server that is told later what it is for: where it finds the pipe, and what is known."""

POSSIBLE = "forkserver" in multiprocessing.get_all_start_methods()
_WORDS, _ORDER, _OUTPUT = "words.json", "order", "output"


class _Begun:
    """The server of this process, as long as it waits for its order.

    Our end of the pipe is open for both and stays open: neither of us ever waits for the other to open it, what is
    written waits for the server, and the server comes to the end of the pipe only where we have died.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="expfw-server-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        (self.folder / _WORDS).write_text(json.dumps(list(words)))
        os.mkfifo(self.folder / _ORDER)
        self.pipe = os.open(self.folder / _ORDER, os.O_RDWR)
        self.told = False
        with _environment({FOLDER: str(self.folder), "PYTHONSAFEPATH": "1"}), _output_to(self.folder / _OUTPUT):
            forkserver.ensure_running()

    def tell(self, modules: Sequence[str], log: Path) -> None:
        self.told = True
        os.write(self.pipe, (json.dumps({"modules": modules, "log": str(log)}) + "\n").encode())


_begun: _Begun | None = None


def begin(words: Sequence[str] = ()) -> None:
    """Starts the server of this process, unless it has one.

    Args:
        words: what was typed, as far as it is known; it imports at once what they most likely need. What turns out not
            to be needed has cost time and memory, no more.
    """
    global _begun
    if POSSIBLE and _begun is None:
        _preload(())
        _begun = _Begun(words)


def tell(modules: Sequence[str], log: Path) -> None:
    """Has the server import these modules, and write to this file from now on.

    It is told once: what a later sweep of this process needs beyond that, its trials import.
    """
    begin()
    if _begun is not None and not _begun.told:
        _begun.tell(modules, log)
        _preload(modules)  # where it dies, it is started anew


def last_words(log: Path) -> None:
    """Adds to the log what the server wrote, where it did not come so far as to do that itself."""
    if _begun is not None and (output := _begun.folder / _OUTPUT).exists():
        with open(log, "ab") as file:
            file.write(output.read_bytes())
        output.unlink()


def _preload(modules: Iterable[str]) -> None:
    forkserver.set_forkserver_preload(["expfw.warming", *modules, "expfw.trial_process", "expfw.warm"])


def known_words() -> list[str]:
    """In the server: the words that it was begun with."""
    words = Path(os.environ.get(FOLDER, "")) / _WORDS
    known: list[str] = json.loads(words.read_text()) if words.is_file() else []
    return known


def take_order() -> list[str]:
    """In the server: waits for its order. Returns the modules to import; what it writes goes to the log from here on.

    Raises:
        SystemExit: the command has ended.
    """
    if (place := os.environ.pop(FOLDER, None)) is None:  # started anew, by a command that knew
        return []
    folder = Path(place)
    try:
        pipe = os.open(folder / _ORDER, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        sys.exit()
    os.set_blocking(pipe, True)
    with open(pipe, encoding="utf-8") as file:
        order = file.readline()
    if not order:
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit()
    told = json.loads(order)
    redirect_output(Path(told["log"]))
    os.write(2, (folder / _OUTPUT).read_bytes())
    shutil.rmtree(folder)
    modules: list[str] = told["modules"]
    return modules


def redirect_output(path: Path) -> None:
    """File descriptors 1 and 2 to the end of a file."""
    with open(path, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


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
    kept = [os.dup(1), os.dup(2)]
    redirect_output(path)
    try:
        yield
    finally:
        for descriptor, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
