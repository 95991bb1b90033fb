"""What is printed: how numbers are written, how wide it may be, and native noise kept in the log."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from expfw.system.formatting import number

if TYPE_CHECKING:
    from rich.console import Console


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
