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

_ENDING = (signal.SIGINT, signal.SIGTERM)
_ONE_WISH_SECONDS, _TWICE_SECONDS = 2.0, 0.2


class Killed(BaseException):
    """SIGTERM, or a signal before, asked this process to end."""


@dataclass
class Received:
    """Which signal came, if one did; libraries may have made another exception of ours.

    Attributes:
        first: what the first one does instead of raising; a second one raises whatever this is.
    """

    number: int | None = None
    at: float = 0.0
    first: Callable[[int], None] | None = None

    def exception(self) -> BaseException:
        """What stands for it."""
        return KeyboardInterrupt() if self.number == signal.SIGINT else Killed("ended by SIGTERM")

    def same_wish(self, number: int) -> bool:
        """Whether this signal only repeats the one before.

        A terminal's Ctrl-C reaches a sweep and its trials, and the sweep then sends another signal to them; so another
        one within two seconds means the same. The same one again is a person who presses Ctrl-C again.
        """
        return self.number is not None and time.monotonic() - self.at < (
            _TWICE_SECONDS if number == self.number else _ONE_WISH_SECONDS
        )


@contextmanager
def signals_raise() -> Iterator[Received]:
    """SIGINT raises KeyboardInterrupt, SIGTERM raises Killed; see `Received` for what comes first and what again.

    Outside of the main thread, where Python handles no signals, nothing changes.
    """
    received = Received()

    def end(number: int, frame: FrameType | None) -> None:
        if received.same_wish(number):
            return
        is_first = received.number is None
        received.number, received.at = number, time.monotonic()
        if is_first and received.first is not None:
            received.first(number)
        else:
            raise received.exception()

    if not _in_main_thread():
        yield received
        return
    before = {number: signal.signal(number, end) for number in _ENDING}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def leave_within(seconds: float) -> Iterator[Callable[[int], None]]:
    """Gives a function that, told of a signal, starts a clock: after so long it is as if that signal came again.

    Where native code does not return even then, the process ends without more words after as long again.
    """
    asked, ask = os.pipe()  # all that a signal handler may safely do is to write to it
    thread = threading.Thread(target=_clock, args=(asked, seconds), name="leave", daemon=True)
    thread.start()
    try:
        yield lambda number: _tell(ask, number)
    finally:
        os.close(ask)
        thread.join()
        os.close(asked)


def _tell(ask: int, number: int) -> None:
    os.write(ask, bytes([number]))


def _clock(asked: int, seconds: float) -> None:
    """Waits for a signal's number, then for the end of the pipe, but not for ever."""
    number = os.read(asked, 1)
    if not number or _over(asked, seconds):
        return
    os.kill(os.getpid(), number[0])
    if not _over(asked, seconds):
        os._exit(130)


def _over(asked: int, seconds: float) -> bool:
    return bool(select.select([asked], [], [], seconds)[0])


def ignore_signals() -> None:
    """Nothing interrupts what is written down now; the end of `signals_raise` takes it back."""
    if _in_main_thread():
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
