"""Imports third-party plugins safely: they may print, exit or be slow."""

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
"""Attribute of the log record for printing: the printed text."""
log = logging.getLogger("expfw")
T = TypeVar("T")


def import_safely(load: Callable[[], T], module: str, label: str, remedy: str) -> T:
    """Imports from a module.

    Text that Python code prints becomes one log line, so that tables and JSON stay valid. Text that other programs and
    native libraries print is kept for `take_noise`. A slow import logs a warning while it runs. An import that exits
    the process is an error.

    Args:
        load: function that imports and returns the object.
        module: name of the module.
        label: name of the plugin or file in messages.
        remedy: end of the error message: how to fix it.

    Raises:
        PluginError: if the import fails.
    """
    with contextlib.ExitStack() as guards:
        if module not in sys.modules:  # in a trial of a sweep, the fork server has already imported it
            guards.enter_context(_warn_if_slow(label))
            guards.enter_context(_warn_of_printing(label))
            guards.enter_context(_native_output.capture())
        try:
            with _forbid_process_exit():
                return load()
        except (Exception, SystemExit) as error:
            raise PluginError(f"{label} cannot be imported ({_format_error(error)}); {remedy}") from error


def _format_error(error: BaseException) -> str:
    """Returns an error in one line; for a SyntaxError with the full path, which Python shortens to the file name."""
    message = f"{error.msg} ({error.filename}, line {error.lineno})" if isinstance(error, SyntaxError) else error
    return to_one_line(f"{type(error).__name__}: {message}")


@contextmanager
def _warn_if_slow(label: str) -> Iterator[None]:
    def warn() -> None:
        log.warning(
            "%s takes more than %g s to import; its author can import heavy modules inside methods",
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
            line = f"{label} prints on import: {excerpt!r}; its author can print when the plugin is used"
            log.warning(line, extra={PRINTED_ATTRIBUTE: excerpt})


class _NativeOutput:
    """Redirects descriptors 1 and 2 to a file while any thread imports a plugin; thread-safe."""

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
    """Adds Python's last-resort handler to a root logger without handlers; otherwise TensorFlow adds its handler."""
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
    """Returns the text that native libraries and other programs printed during imports since the last call."""
    noise, _native_output.noise = _native_output.noise, b""
    return noise


def show_noise() -> None:
    """Sends this text to descriptor 2 from now on, so that another process can read it even after a crash."""
    _native_output.is_visible = True


def _flush_stdout() -> None:
    """Flushes Python's buffer for descriptor 1; `sys.stdout` is another stream in a notebook and during an import."""
    if sys.__stdout__ is not None and not sys.__stdout__.closed:
        with contextlib.suppress(OSError):  # the reader is gone; the next print raises
            sys.__stdout__.flush()


@contextmanager
def _forbid_process_exit() -> Iterator[None]:
    """Makes `os._exit` in this thread an error; otherwise a run that never started could end with exit code 0.

    An exit in native code or by a signal cannot be caught.
    """
    real_exit, this_thread, is_over = os._exit, (os.getpid(), threading.get_ident()), False

    def reject_exit(status: int) -> NoReturn:
        if not is_over and (os.getpid(), threading.get_ident()) == this_thread:  # a forked child may exit
            raise SystemExit(f"os._exit({status})")
        real_exit(status)

    os._exit = reject_exit
    try:
        yield
    finally:
        is_over = True
        os._exit = real_exit


class _CapturedOutput(io.StringIO):
    """Keeps printed text; after the import, log handlers that still use this stream write to stderr."""

    is_over = False

    def write(self, text: str) -> int:
        return sys.stderr.write(text) if self.is_over else super().write(text)
