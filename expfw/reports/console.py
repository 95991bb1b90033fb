"""The console that commands print to, and the most important metrics in a line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from expfw.system.formatting import format_number

if TYPE_CHECKING:
    from rich.console import Console


def format_main_metrics(metrics: Mapping[str, float], max_count: int = 6, separator: str = "  ") -> str:
    """The first of the metrics that tell: test, validation, and the means of the last epoch."""
    order = ("test/", "val/", "train/epoch_")
    ranked_names = [(order.index(prefix), name) for name in metrics for prefix in order if name.startswith(prefix)]
    return separator.join(f"{name} {format_number(metrics[name])}" for _, name in sorted(ranked_names)[:max_count])


def make_console(stderr: bool = False) -> Console:
    """Where we print: as wide as the terminal; 200 columns into files and pipes."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 200, highlight=False, markup=False)
