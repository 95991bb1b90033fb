"""SIGINT and SIGTERM end what goes on as an exception, so that its end can be written down."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_TERMINATION_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_OTHER_SIGNAL_SECONDS, _SAME_SIGNAL_SECONDS = 2.0, 0.2


class Killed(BaseException):
    """SIGTERM, or a signal before, asked this process to end."""


@dataclass
class ReceivedSignal:
    """Which signal came, if one did; libraries may have made another exception of ours.

    Attributes:
        on_first_signal: what the first one does instead of raising; a second one raises whatever this is.
    """

    number: int | None = None
    received_at: float = 0.0
    on_first_signal: Callable[[int], None] | None = None

    def make_exception(self) -> BaseException:
        """What stands for it."""
        return KeyboardInterrupt() if self.number == signal.SIGINT else Killed("ended by SIGTERM")

    def is_repeat(self, number: int) -> bool:
        """Whether this signal only repeats the one before.

        A terminal's Ctrl-C reaches a sweep and its trials, and the sweep then sends another signal to them; so another
        one within two seconds means the same. The same one again is a person who presses Ctrl-C again.
        """
        return self.number is not None and time.monotonic() - self.received_at < (
            _SAME_SIGNAL_SECONDS if number == self.number else _OTHER_SIGNAL_SECONDS
        )


@contextmanager
def raise_on_signals() -> Iterator[ReceivedSignal]:
    """SIGINT raises KeyboardInterrupt, SIGTERM raises Killed; see `ReceivedSignal` for what comes first and what again.

    Outside of the main thread, where Python handles no signals, nothing changes.
    """
    received = ReceivedSignal()

    def handle_signal(number: int, frame: FrameType | None) -> None:
        if received.is_repeat(number):
            return
        is_first = received.number is None
        received.number, received.received_at = number, time.monotonic()
        if is_first and received.on_first_signal is not None:
            received.on_first_signal(number)
        else:
            raise received.make_exception()

    if not _is_main_thread():
        yield received
        return
    previous_handlers = {number: signal.signal(number, handle_signal) for number in _TERMINATION_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


@contextmanager
def exit_deadline(seconds: float) -> Iterator[Callable[[int], None]]:
    """Gives a function that, told of a signal, starts a clock: after so long it is as if that signal came again.

    Where native code does not return even then, the process ends without more words after as long again.
    """
    read_end, write_end = os.pipe()  # all that a signal handler may safely do is to write to it
    thread = threading.Thread(target=_enforce_deadline, args=(read_end, seconds), name="leave", daemon=True)
    thread.start()
    try:
        yield lambda number: _send_signal_number(write_end, number)
    finally:
        os.close(write_end)
        thread.join()
        os.close(read_end)


def _send_signal_number(write_end: int, number: int) -> None:
    os.write(write_end, bytes([number]))


def _enforce_deadline(read_end: int, seconds: float) -> None:
    """Waits for a signal's number, then for the end of the pipe, but not for ever."""
    number = os.read(read_end, 1)
    if not number or _is_closed_within(read_end, seconds):
        return
    os.kill(os.getpid(), number[0])
    if not _is_closed_within(read_end, seconds):
        os._exit(130)


def _is_closed_within(read_end: int, seconds: float) -> bool:
    return bool(select.select([read_end], [], [], seconds)[0])


def ignore_signals() -> None:
    """Nothing interrupts what is written down now; the end of `raise_on_signals` takes it back."""
    if _is_main_thread():
        for number in _TERMINATION_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
