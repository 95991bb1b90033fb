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

from expfw.errors import PluginError, to_one_line, truncate_text
from expfw.system.redirection import redirect_fd, redirect_stderr

SLOW_SECONDS = 5.0
PRINTED_ATTRIBUTE = "printed"
"""Attribute of the log's record that tells of printing: what was printed."""
log = logging.getLogger("expfw")
T = TypeVar("T")


def import_safely(load: Callable[[], T], module: str, label: str, remedy: str) -> T:
    """What `load` imports from a module.

    What it prints becomes one line of the log, so that tables and JSON stay whole; what other programs and native
    libraries print for it is kept, see `take_noise`. A slow import is told of while it goes on. One that would end the
    process is an error.

    Args:
        label: how lines name what is imported; remedy: what to do where it cannot be.

    Raises:
        PluginError: it cannot be imported.
    """
    with contextlib.ExitStack() as guards:
        if module not in sys.modules:  # a trial of a sweep asks for what its server has imported already
            guards.enter_context(_warn_if_slow(label))
            guards.enter_context(_warn_of_printing(label))
            guards.enter_context(_native_output.capture())
        try:
            with _forbid_process_exit():
                return load()
        except (Exception, SystemExit) as error:
            raise PluginError(f"{label} cannot be imported ({_format_error(error)}); {remedy}") from error


def _format_error(error: BaseException) -> str:
    """An error in one line. Python names the file of a mistake in its syntax without its folder."""
    message = f"{error.msg} ({error.filename}, line {error.lineno})" if isinstance(error, SyntaxError) else error
    return to_one_line(f"{type(error).__name__}: {message}")


@contextmanager
def _warn_if_slow(label: str) -> Iterator[None]:
    def warn() -> None:
        log.warning(
            "%s is being imported for %g s now; its author can import what is heavy inside of methods",
            label,
            SLOW_SECONDS,
        )

    timer = threading.Timer(SLOW_SECONDS, warn)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _warn_of_printing(label: str) -> Iterator[None]:
    output = _CapturedOutput()
    try:
        with contextlib.redirect_stdout(output):
            yield
    finally:
        output.is_over = True
        if text := to_one_line(output.getvalue()):
            excerpt = truncate_text(text, 80)
            line = f"{label} prints when it is imported: {excerpt!r}; its author can do that when the plugin is used"
            log.warning(line, extra={PRINTED_ATTRIBUTE: excerpt})


class _NativeOutput:
    """Descriptors 1 and 2, which are a file for as long as any thread imports something."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._import_count = 0
        self._redirection = contextlib.ExitStack()
        self.is_visible = False
        self.noise = b""

    @contextmanager
    def capture(self) -> Iterator[None]:
        with self._lock:
            self._import_count += 1
            if self._import_count == 1:
                self._redirection = self._start_capture()
        try:
            yield
        finally:
            with self._lock:
                self._import_count -= 1
                if self._import_count == 0:
                    self._redirection.close()

    def _start_capture(self) -> contextlib.ExitStack:
        _flush_stdout()
        with contextlib.ExitStack() as stack:
            if not self.is_visible:
                file = stack.enter_context(tempfile.TemporaryFile())
                stack.callback(self._collect, file)
                stack.enter_context(redirect_stderr(file.fileno()))
            stack.enter_context(redirect_fd(1, 2))
            stack.callback(_flush_stdout)
            stack.enter_context(_ensure_root_handler())
            return stack.pop_all()

    def _collect(self, file: IO[bytes]) -> None:
        file.seek(0)
        self.noise += file.read()


@contextmanager
def _ensure_root_handler() -> Iterator[None]:
    """Lets the root logger have what it does anyway as a handler: TensorFlow adds one of its own where it has none."""
    root, last_resort = logging.getLogger(), logging.lastResort
    if root.handlers or last_resort is None:
        yield
        return
    root.addHandler(last_resort)
    try:
        yield
    finally:
        root.removeHandler(last_resort)


_native_output = _NativeOutput()


def take_noise() -> bytes:
    """What native libraries, and other programs, have printed for imports since this was last asked: for a log."""
    noise, _native_output.noise = _native_output.noise, b""
    return noise


def show_noise() -> None:
    """Lets it go to descriptor 2 from now on: for a process whose output another one reads, even where it crashes."""
    _native_output.is_visible = True


def _flush_stdout() -> None:
    """What Python holds back for descriptor 1, which is not what `sys.stdout` is in a notebook, or while we import."""
    if sys.__stdout__ is not None and not sys.__stdout__.closed:
        with contextlib.suppress(OSError):  # nobody reads it any more; who prints next is told
            sys.__stdout__.flush()


@contextmanager
def _forbid_process_exit() -> Iterator[None]:
    """`os._exit` of this thread is an error: a run that never began would end with the code of one that succeeded.

    What ends the process by other means, in native code or by a signal, cannot be caught.
    """
    real_exit, this_thread, is_over = os._exit, (os.getpid(), threading.get_ident()), False

    def refuse(status: int) -> NoReturn:
        if (
            not is_over and (os.getpid(), threading.get_ident()) == this_thread
        ):  # a child that it forks may end as it likes
            raise SystemExit(f"os._exit({status})")
        real_exit(status)

    os._exit = refuse
    try:
        yield
    finally:
        is_over = True
        os._exit = real_exit


class _CapturedOutput(io.StringIO):
    """Keeps what is printed; what a handler that was made meanwhile writes later goes to stderr."""

    is_over = False

    def write(self, text: str) -> int:
        return sys.stderr.write(text) if self.is_over else super().write(text)
