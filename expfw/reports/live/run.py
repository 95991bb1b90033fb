"""A run while it goes on: two bars and what it has come to on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from expfw.api.contracts import Plugin, hookimpl
from expfw.api.run import Run
from expfw.api.stages import OTHER, TRAINING
from expfw.reports.live.lines import Room, clock, fitting, with_bar
from expfw.reports.live.live import is_live, live
from expfw.system.formatting import number

if TYPE_CHECKING:
    from rich.text import Text

_PLAIN_SECONDS, _LONGEST_SILENCE_SECONDS = 1.0, 30.0
_LEAVING = "ending, after a checkpoint"
_WINDOW = 32
"""Calls of the engine that the throughput is measured over; there are about three in a second."""


class RunDisplay(Plugin):
    """To be registered with the run, and entered around it."""

    kind = "display"

    def __init__(self) -> None:
        super().__init__(config=None, name="progress")
        self._run: Run | None = None
        self._pace = Pace()
        self._live = False
        self._printed = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the run, until the end of this."""
        self._live = is_live()
        if not self._live:
            yield
            return
        with live(self._drawn):
            yield

    @hookimpl(wrapper=True, tryfirst=True)
    def expfw_load_data(self, run: Run) -> Iterator[None]:
        self._run = run
        return (yield)

    @hookimpl
    def expfw_steps_ended(self, run: Run) -> None:
        self._pace.note(run)
        if time.monotonic() - self._printed > _LONGEST_SILENCE_SECONDS:
            self._print(run)

    @hookimpl
    def expfw_epoch_ended(self, run: Run) -> None:
        if run.step == run.total_steps or time.monotonic() - self._printed > _PLAIN_SECONDS:
            self._print(run)

    def _print(self, run: Run) -> None:
        if not self._live:
            self._printed = time.monotonic()
            words = [_epochs(run), f"step {run.step}/{run.total_steps}", *_metrics(run), *self._pace.words(run)]
            print("  ".join(word for word in words if word), file=sys.stderr)

    def _drawn(self, room: Room) -> Sequence[Text]:
        if self._run is None:
            return []
        if not self._pace.began:
            return [_stage(self._run, room)]
        return bars(self._run, self._pace, room)


class Pace:
    """How fast a run trains, and when it will have ended.

    The first call, in which what is to be computed is traced, does not count. Neither does, for the throughput, what is
    not training; for the end it does.
    """

    def __init__(self) -> None:
        self._noted: deque[tuple[float, float, int]] = deque(maxlen=_WINDOW)  # wall time, time in training, step
        self._first: tuple[float, int] | None = None

    @property
    def began(self) -> bool:
        """Whether there was a step."""
        return self._first is not None

    def note(self, run: Run) -> None:
        """Steps have ended."""
        now = time.monotonic()
        self._first = self._first or (now, run.step)
        self._noted.append((now, run.stages.seconds(TRAINING), run.step))

    def per_second(self) -> float | None:
        """Steps, while it trains."""
        if len(self._noted) < 2:
            return None
        (_, began, first), (_, ended, last) = self._noted[0], self._noted[-1]
        return (last - first) / (ended - began) if ended > began else None

    def left(self, run: Run) -> float | None:
        """Seconds until the last step, evaluations with it, as if it went on as it did since the beginning."""
        if self._first is None or run.total_steps is None:
            return None
        (began, first), (noted, _, last) = self._first, self._noted[-1]
        if last == first:
            return None
        rest = (run.total_steps - last) * (noted - began) / (last - first)
        return max(0.0, rest - (time.monotonic() - noted))

    @property
    def stride(self) -> int:
        """Steps of the last call."""
        return self._noted[-1][2] - self._noted[-2][2] if len(self._noted) > 1 else 0

    def words(self, run: Run) -> list[str]:
        """The throughput."""
        rate = self.per_second()
        if rate is None:
            return []
        samples = rate * run.config.train.batch_size
        return [f"{samples:,.0f} samples/s" if samples >= 10 else f"{rate:.2g} steps/s"]


def bars(run: Run, pace: Pace, room: Room) -> list[Text]:
    """A bar over everything, one over the epoch where that takes longer than the blink of an eye, and the metrics."""
    from rich.text import Text

    whole, length, total = f"step {run.step:,}", run.steps_per_epoch, run.total_steps
    left = pace.left(run)
    times = [clock(run.seconds), *([f"about {clock(math.ceil(left))} left"] if left is not None else [])]
    doing = [_doing(run)] if run.leave_requested or run.stages.doing not in (TRAINING, OTHER) else pace.words(run)
    values = Text(fitting(_metrics(run), room.width, room))
    if not total:
        return [with_bar(whole, None, [*doing, *times], room), values]
    if not length or length == 1 or total <= length:
        return [with_bar(f"{whole}/{total:,}", run.step / total, [*times, *doing], room), values]
    if pace.stride >= length:
        return [with_bar(_epochs(run), run.step / total, [*times, *doing], room), values]
    within = run.step % length or (length if run.step else 0)
    labels = [_epochs(run), f"step {within:,}/{length:,}"]
    epochs = -(-total // length)
    wide = max(len(f"epoch {epochs}/{epochs}"), len(f"step {length:,}/{length:,}"))  # so that no bar jumps
    first = with_bar(labels[0], run.step / total, times, room, wide)
    return [first, with_bar(labels[1], within / length, doing, room, wide), values]


def _stage(run: Run, room: Room) -> Text:
    from rich.text import Text

    doing = _LEAVING if run.leave_requested else run.stages.doing
    return Text(fitting([doing, clock(time.monotonic() - run.stages.since)], room.width, room))


def _doing(run: Run) -> str:
    if run.leave_requested:
        return _LEAVING
    seconds = time.monotonic() - run.stages.since
    return f"{run.stages.doing}, {seconds:.0f} s" if seconds >= 1 else run.stages.doing


def _epochs(run: Run) -> str:
    length, total = run.steps_per_epoch, run.total_steps
    return f"epoch {-(-run.step // length)}/{-(-total // length)}" if length and total else ""


def _metrics(run: Run) -> list[str]:
    """Those that tell, and the best of what counts."""
    counts = run.objective.metric
    names = ("train/epoch_loss" if run.epoch else "train/loss", "val/loss", "val/accuracy", counts)
    words = []
    for name in dict.fromkeys(names):
        if name in run.metrics:
            best = f" (best {number(run.best_value)})" if name == counts and run.best_value is not None else ""
            words.append(f"{name} {number(run.metrics[name])}{best}")
    return words
