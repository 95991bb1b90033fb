"""What people see while a run goes on: one live line on a terminal, plain lines elsewhere, native noise in the log."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from expfw.api import Plugin, hookimpl
from expfw.run_state import Run


@contextmanager
def noise_to(path: Path) -> Iterator[None]:
    """Sends what native libraries write to file descriptor 2, and Python's log, to a file.

    What Python itself writes to `sys.stderr` still reaches the screen.
    """
    sys.stderr.flush()
    screen = os.dup(2)
    python_stderr = sys.stderr
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    with open(path, "ab") as file:
        os.dup2(file.fileno(), 2)
    writes_to_2 = _descriptor(python_stderr) == 2
    if writes_to_2:
        sys.stderr = os.fdopen(os.dup(screen), "w", buffering=1)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
        if writes_to_2:
            sys.stderr.close()
            sys.stderr = python_stderr
        os.dup2(screen, 2)
        os.close(screen)


def _descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError):  # replaced by something that is no file, in a notebook for example
        return None


def number(value: float) -> str:
    """A metric for people: four significant digits."""
    return f"{value:.4g}"


def main_metrics(metrics: dict[str, float]) -> str:
    """The metrics that fit on a line, test before validation before training."""
    order = ("test/", "val/", "train/")
    chosen = sorted((name for name in metrics if name.startswith(order)), key=lambda n: (order.index(n.split("/")[0] + "/"), n))
    return "  ".join(f"{name} {number(metrics[name])}" for name in chosen if not name.startswith("train/epoch_"))


class Progress(Plugin):
    """A live line for one run; where there is no terminal, a plain line per epoch, at most one a second."""

    kind = "display"

    def __init__(self) -> None:
        super().__init__(config=None, name="progress")
        self._live: Any = None
        self._task: Any = None
        self._printed = 0.0

    @hookimpl
    def expfw_run_started(self, run: Run) -> None:
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_terminal:
            self._live = _line(console)
            self._live.start()
            self._task = self._live.add_task("", total=None, metrics="first step")

    @hookimpl
    def expfw_steps_ended(self, run: Run) -> None:
        if self._live is not None:
            epochs = f"epoch {run.step / run.steps_per_epoch:.1f}" if run.steps_per_epoch else ""
            self._live.update(self._task, total=run.total_steps, completed=run.step, description=epochs, metrics=_short(run))

    @hookimpl
    def expfw_epoch_ended(self, run: Run) -> None:
        if self._live is None and (time.monotonic() - self._printed > 1 or run.step == run.total_steps):
            self._printed = time.monotonic()
            print(f"epoch {run.epoch}  step {run.step}/{run.total_steps}  {_short(run)}", file=sys.stderr)

    @hookimpl
    def expfw_run_ended(self, run: Run) -> None:
        if self._live is not None:
            self._live.stop()


def _line(console: Any) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = [TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn()]
    return Bars(*columns, TextColumn("{task.fields[metrics]}"), console=console, transient=True)


def _short(run: Run) -> str:
    names = ("train/loss", "val/loss", "val/accuracy")
    shown = [f"{name} {number(run.metrics[name])}" for name in names if name in run.metrics]
    if run.best_step is not None:
        shown.append(f"best {number(run.best_value or 0.0)}")
    return "  ".join(shown)
