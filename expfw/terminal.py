"""What is printed: how numbers are written, how wide it may be, and native noise kept in the log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from expfw.native_output import away
from expfw.privacy import without

if TYPE_CHECKING:
    from rich.console import Console

MIB = 2**20


@contextmanager
def noise_to(path: Path, hidden: Sequence[str] = ()) -> Iterator[None]:
    """Sends what native libraries write to file descriptor 2, and Python's log without what is `hidden`, to a file.

    What Python itself writes to `sys.stderr` still reaches the screen.
    """
    sys.stderr.flush()
    with open(path, "ab") as file, away(file.fileno()), logged_to(path, logging.getLogger(), hidden):
        yield


@contextmanager
def logged_to(path: Path, logger: logging.Logger, hidden: Sequence[str] = ()) -> Iterator[None]:
    """Adds what a logger is given, without what is `hidden`, to the end of a file."""
    handler = logging.FileHandler(path)
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # the disk is full: others say so
    handler.setFormatter(_Hiding(hidden))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


class _Hiding(logging.Formatter):
    """Lines of the log; an error may quote a secret."""

    def __init__(self, hidden: Sequence[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._hidden = hidden

    def format(self, record: logging.LogRecord) -> str:
        return without(super().format(record), self._hidden)


def number(value: float) -> str:
    """A metric for people: four significant digits."""
    return f"{value:.4g}"


def many(count: int, what: str) -> str:
    """So many of something: `1 trial`, `2 trials`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / MIB:,.1f} MiB" if count >= MIB else f"{count / 1024:,.1f} KiB"


def duration(seconds: float) -> str:
    """A time for people: two significant digits at least."""
    for unit, length in (("days", 48 * 3600), ("h", 5400), ("min", 90)):
        if seconds >= length:
            value = seconds / {"days": 86400, "h": 3600, "min": 60}[unit]
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def main_metrics(metrics: Mapping[str, float], most: int = 6, between: str = "  ") -> str:
    """The first of the metrics that tell: test, validation, and the means of the last epoch."""
    order = ("test/", "val/", "train/epoch_")
    chosen = [(order.index(prefix), name) for name in metrics for prefix in order if name.startswith(prefix)]
    return between.join(f"{name} {number(metrics[name])}" for _, name in sorted(chosen)[:most])


def screen(stderr: bool = False) -> Console:
    """Where we print: as wide as the terminal; 200 columns into files and pipes."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 200, highlight=False, markup=False)
