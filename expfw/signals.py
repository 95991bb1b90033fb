"""SIGINT and SIGTERM end what goes on as an exception, so that its end can be written down."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM)
_ONE_WISH_SECONDS = 2.0


class Killed(BaseException):
    """SIGTERM asked this process to end."""


@dataclass
class Received:
    """Which signal came, if one did; libraries may have made another exception of ours."""

    number: int | None = None
    at: float = -_ONE_WISH_SECONDS

    def exception(self) -> BaseException:
        """What stands for it."""
        return KeyboardInterrupt() if self.number == signal.SIGINT else Killed("ended by SIGTERM")


@contextmanager
def signals_raise() -> Iterator[Received]:
    """SIGINT raises KeyboardInterrupt, SIGTERM raises Killed; what follows within two seconds is the same wish.

    Outside of the main thread, where Python handles no signals, nothing changes.
    """
    received = Received()

    def end(number: int, frame: FrameType | None) -> None:
        again = time.monotonic() - received.at < _ONE_WISH_SECONDS
        received.number, received.at = number, time.monotonic()
        if not again:
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


def ignore_signals() -> None:
    """Nothing interrupts what is written down now; the end of `signals_raise` takes it back."""
    if _in_main_thread():
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
