"""Turns SIGINT and SIGTERM into exceptions, so that an interrupted run or sweep can record its end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import FrameType

_TERMINATION_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_OTHER_SIGNAL_SECONDS, _SAME_SIGNAL_SECONDS = 2.0, 0.2


class Killed(BaseException):
    """SIGTERM interrupts this process."""


@dataclass
class ReceivedSignal:
    """The signal that was received, if any; libraries may have replaced its exception.

    `received_at` is a monotonic time in seconds. `on_first_signal` is called for the first signal instead of raising; a
    second signal always raises.
    """

    number: int | None = None
    received_at: float = 0.0
    on_first_signal: Callable[[int], None] | None = None

    def make_exception(self) -> BaseException:
        """Creates the exception for the signal."""
        return KeyboardInterrupt() if self.number == signal.SIGINT else Killed("ended by SIGTERM")


@contextmanager
def raise_on_signals() -> Iterator[ReceivedSignal]:
    """Makes SIGINT raise KeyboardInterrupt and SIGTERM raise Killed.

    A terminal's Ctrl-C reaches a sweep and its trials, and the sweep then sends another signal to them. A different
    signal within 2 s is therefore a repetition. The same signal after 0.2 s is a second Ctrl-C of the user.
    """
    received = ReceivedSignal()

    def handle_signal(number: int, frame: FrameType | None) -> None:
        is_first, now = received.number is None, time.monotonic()
        shortest_pause = _SAME_SIGNAL_SECONDS if number == received.number else _OTHER_SIGNAL_SECONDS
        if not is_first and now - received.received_at < shortest_pause:
            return
        received.number, received.received_at = number, now
        if is_first and received.on_first_signal is not None:
            received.on_first_signal(number)
        else:
            raise received.make_exception()

    with handle_signals(handle_signal):
        yield received


@contextmanager
def handle_signals(handle_signal: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Handles SIGINT and SIGTERM inside the context; no effect outside the main thread, which alone sets handlers."""
    previous_handlers = {}
    if threading.current_thread() is threading.main_thread():
        previous_handlers = {number: signal.signal(number, handle_signal) for number in _TERMINATION_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


@contextmanager
def exit_deadline(seconds: float) -> Iterator[Callable[[int], None]]:
    """Yields a function that starts a timer for a signal: after `seconds`, the signal is sent again.

    If native code still does not return, the process exits after another `seconds`, without a message.
    """
    numbers: SimpleQueue[int | None] = SimpleQueue()  # a signal handler may write to it at any time

    def enforce_deadline() -> None:
        if (number := numbers.get()) is None:
            return
        for is_last in (False, True):
            try:
                numbers.get(timeout=seconds)
                return
            except Empty:
                if is_last:
                    os._exit(130)
                os.kill(os.getpid(), number)

    thread = threading.Thread(target=enforce_deadline, name="leave", daemon=True)
    thread.start()
    try:
        yield numbers.put
    finally:
        numbers.put(None)
        thread.join()


def ignore_signals() -> None:
    """Ignores further signals while results are written; the end of `raise_on_signals` restores the handlers."""
    if threading.current_thread() is threading.main_thread():
        for number in _TERMINATION_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
