"""Importing what somebody else wrote: it may print, exit, or take its time, and costs nobody but who chose it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, NoReturn, TypeVar

from expfw.errors import PluginError, one_line, shortened
from expfw.system.output import away, led

SLOW_SECONDS = 5.0
PRINTED = "printed"
"""Attribute of the log's record that tells of printing: what was printed."""
log = logging.getLogger("expfw")
T = TypeVar("T")


def imported(load: Callable[[], T], module: str, who: str, remedy: str) -> T:
    """What `load` imports from a module.

    What it prints becomes one line of the log, so that tables and JSON stay whole; what other programs and native
    libraries print for it is kept, see `noise`. A slow import is told of while it goes on. One that would end the
    process is an error.

    Args:
        who: how lines name what is imported; remedy: what to do where it cannot be.

    Raises:
        PluginError: it cannot be imported.
    """
    with contextlib.ExitStack() as watching:
        if module not in sys.modules:  # a trial of a sweep asks for what its server has imported already
            watching.enter_context(_noticed_when_slow(who))
            watching.enter_context(_printing_noticed(who))
            watching.enter_context(_native_output.kept())
        try:
            with _no_end_of_the_process():
                return load()
        except (Exception, SystemExit) as error:
            raise PluginError(f"{who} cannot be imported ({_told(error)}); {remedy}") from error


def _told(error: BaseException) -> str:
    """An error in one line. Python names the file of a mistake in its syntax without its folder."""
    told = f"{error.msg} ({error.filename}, line {error.lineno})" if isinstance(error, SyntaxError) else error
    return one_line(f"{type(error).__name__}: {told}")


@contextmanager
def _noticed_when_slow(who: str) -> Iterator[None]:
    def notice() -> None:
        log.warning(
            "%s is being imported for %g s now; its author can import what is heavy inside of methods",
            who,
            SLOW_SECONDS,
        )

    clock = threading.Timer(SLOW_SECONDS, notice)
    clock.daemon = True
    clock.start()
    try:
        yield
    finally:
        clock.cancel()


@contextmanager
def _printing_noticed(who: str) -> Iterator[None]:
    kept = _Kept()
    try:
        with contextlib.redirect_stdout(kept):
            yield
    finally:
        kept.over = True
        if text := one_line(kept.getvalue()):
            shown = shortened(text, 80)
            line = f"{who} prints when it is imported: {shown!r}; its author can do that when the plugin is used"
            log.warning(line, extra={PRINTED: shown})


class _NativeOutput:
    """Descriptors 1 and 2, which are a file for as long as any thread imports something."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._importing = 0
        self._elsewhere = contextlib.ExitStack()
        self.shown = False
        self.noise = b""

    @contextmanager
    def kept(self) -> Iterator[None]:
        with self._lock:
            self._importing += 1
            if self._importing == 1:
                self._elsewhere = self._begun()
        try:
            yield
        finally:
            with self._lock:
                self._importing -= 1
                if self._importing == 0:
                    self._elsewhere.close()

    def _begun(self) -> contextlib.ExitStack:
        _flush()
        with contextlib.ExitStack() as begun:
            if not self.shown:
                file = begun.enter_context(tempfile.TemporaryFile())
                begun.callback(self._take, file)
                begun.enter_context(away(file.fileno()))
            begun.enter_context(led(1, 2))
            begun.callback(_flush)
            begun.enter_context(_logging_set_up())
            return begun.pop_all()

    def _take(self, file: IO[bytes]) -> None:
        file.seek(0)
        self.noise += file.read()


@contextmanager
def _logging_set_up() -> Iterator[None]:
    """Lets the root logger have what it does anyway as a handler: TensorFlow adds one of its own where it has none."""
    root, last = logging.getLogger(), logging.lastResort
    if root.handlers or last is None:
        yield
        return
    root.addHandler(last)
    try:
        yield
    finally:
        root.removeHandler(last)


_native_output = _NativeOutput()


def noise() -> bytes:
    """What native libraries, and other programs, have printed for imports since this was last asked: for a log."""
    said, _native_output.noise = _native_output.noise, b""
    return said


def show_noise() -> None:
    """Lets it go to descriptor 2 from now on: for a process whose output another one reads, even where it crashes."""
    _native_output.shown = True


def _flush() -> None:
    """What Python holds back for descriptor 1, which is not what `sys.stdout` is in a notebook, or while we import."""
    if sys.__stdout__ is not None and not sys.__stdout__.closed:
        with contextlib.suppress(OSError):  # nobody reads it any more; who prints next is told
            sys.__stdout__.flush()


@contextmanager
def _no_end_of_the_process() -> Iterator[None]:
    """`os._exit` of this thread is an error: a run that never began would end with the code of one that succeeded.

    What ends the process by other means, in native code or by a signal, cannot be caught.
    """
    end, here, over = os._exit, (os.getpid(), threading.get_ident()), False

    def refuse(status: int) -> NoReturn:
        if not over and (os.getpid(), threading.get_ident()) == here:  # a child that it forks may end as it likes
            raise SystemExit(f"os._exit({status})")
        end(status)

    os._exit = refuse
    try:
        yield
    finally:
        over = True
        os._exit = end


class _Kept(io.StringIO):
    """Keeps what is printed; what a handler that was made meanwhile writes later goes to stderr."""

    over = False

    def write(self, text: str) -> int:
        return sys.stderr.write(text) if self.over else super().write(text)
