"""Console for the output of commands, and the main metrics in one line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from expfw.system.formatting import format_number

if TYPE_CHECKING:
    from rich.console import Console


def format_main_metrics(metrics: Mapping[str, float], max_count: int = 6, separator: str = "  ") -> str:
    """Formats the main metrics in one line: test, validation, then the training means of the last epoch."""
    order = ("test/", "val/", "train/epoch_")
    ranked_names = [(order.index(prefix), name) for name in metrics for prefix in order if name.startswith(prefix)]
    return separator.join(f"{name} {format_number(metrics[name])}" for _, name in sorted(ranked_names)[:max_count])


def make_console(stderr: bool = False) -> Console:
    """Creates the console for output: as wide as the terminal, or 200 columns for files and pipes."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 200, highlight=False, markup=False)
