"""Turns SIGINT and SIGTERM into exceptions, so that an interrupted run or sweep can record its end."""

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
    """SIGTERM interrupts this process."""


@dataclass
class ReceivedSignal:
    """The signal that was received, if any; libraries may have replaced its exception.

    Attributes:
        number: number of the signal, or None.
        received_at: monotonic time of the signal, in seconds.
        on_first_signal: called for the first signal instead of raising; a second signal always raises.
    """

    number: int | None = None
    received_at: float = 0.0
    on_first_signal: Callable[[int], None] | None = None

    def make_exception(self) -> BaseException:
        """Creates the exception for the signal."""
        return KeyboardInterrupt() if self.number == signal.SIGINT else Killed("ended by SIGTERM")

    def is_repeat(self, number: int) -> bool:
        """Returns whether this signal repeats the one before.

        A terminal's Ctrl-C reaches a sweep and its trials, and the sweep then sends another signal to them. A different
        signal within 2 s is therefore a repetition. The same signal after 0.2 s is a second Ctrl-C of the user.
        """
        return self.number is not None and time.monotonic() - self.received_at < (
            _SAME_SIGNAL_SECONDS if number == self.number else _OTHER_SIGNAL_SECONDS
        )


@contextmanager
def raise_on_signals() -> Iterator[ReceivedSignal]:
    """Makes SIGINT raise KeyboardInterrupt and SIGTERM raise Killed; see `ReceivedSignal` for repeated signals.

    Has no effect outside the main thread, because Python handles signals only there.
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
    """Yields a function that starts a timer for a signal: after `seconds`, the signal is sent again.

    If native code still does not return, the process exits after another `seconds`, without a message.
    """
    read_end, write_end = os.pipe()  # writing to a pipe is safe in a signal handler
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
    """Waits for a signal's number, then for the end of the pipe, for a limited time."""
    number = os.read(read_end, 1)
    if not number or _is_closed_within(read_end, seconds):
        return
    os.kill(os.getpid(), number[0])
    if not _is_closed_within(read_end, seconds):
        os._exit(130)


def _is_closed_within(read_end: int, seconds: float) -> bool:
    return bool(select.select([read_end], [], [], seconds)[0])


def ignore_signals() -> None:
    """Ignores further signals while results are written; the end of `raise_on_signals` restores the handlers."""
    if _is_main_thread():
        for number in _TERMINATION_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
