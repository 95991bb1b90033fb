"""SIGINT and SIGTERM end what goes on as an exception, once, so that its end can be written down."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM)


class Killed(BaseException):
    """SIGTERM asked this process to end."""


@contextmanager
def first_signal_raises() -> Iterator[None]:
    """The first SIGINT raises KeyboardInterrupt, the first SIGTERM raises Killed; later ones are ignored.

    Outside of the main thread, where Python handles no signals, nothing changes.
    """

    def end(number: int, frame: FrameType | None) -> None:
        ignore_signals()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Killed("ended by SIGTERM")

    if not _in_main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Nothing interrupts what is written down now; the end of `first_signal_raises` takes it back."""
    if _in_main_thread():
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
