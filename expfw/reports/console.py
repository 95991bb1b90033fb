"""Console for the output of commands, and the main metrics in one line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from expfw.api.result import Result
from expfw.system.formatting import format_number

if TYPE_CHECKING:
    from rich.console import Console


def format_main_metrics(result: Result, max_count: int = 6, separator: str = "  ") -> str:
    """Formats the main metrics in one line: test, validation, then training means; last, their epoch or step."""
    metrics = result.metrics
    order = ("test/", "val/", "train/epoch_")
    ranked_names = [(order.index(prefix), name) for name in metrics for prefix in order if name.startswith(prefix)]
    texts = [f"{name} {format_number(metrics[name])}" for _, name in sorted(ranked_names)[:max_count]]
    return separator.join([*texts, result.position] if texts and result.position else texts)


def make_console(stderr: bool = False) -> Console:
    """Creates the console for output: as wide as the terminal, or 200 columns for files and pipes."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 200, highlight=False, markup=False)
