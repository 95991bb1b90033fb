"""Lines of a sweep in progress: a bar, totals, a line for each running trial, and the best trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expfw.reports.live.lines import ScreenSize, fit_parts, format_clock, make_bar_line, truncate_text
from expfw.system.formatting import format_number
from expfw.tracking.ledger import Trial

if TYPE_CHECKING:
    from rich.text import Text

NON_TRIAL_LINES = 5
"""Lines of the screen that are not for running trials."""


@dataclass(frozen=True)
class RunningTrialRow:
    """Row of a running trial."""

    number: int
    name: str
    position: str
    metric_text: str
    seconds: float


@dataclass(frozen=True)
class SweepTotals:
    """Progress of a sweep.

    Attributes:
        trial_count: all trials.
        ended_count: trials that ended with any status.
        failed_count: failed trials.
        pruned_count: pruned trials.
        running_count: running trials.
        elapsed_seconds: seconds since the start or resume.
        seconds_left: estimated seconds until the end, or None.
    """

    trial_count: int
    ended_count: int
    failed_count: int
    pruned_count: int
    running_count: int
    elapsed_seconds: float
    seconds_left: float | None

    @property
    def count_texts(self) -> list[str]:
        """Counts that are not 0, most important first."""
        waiting = self.trial_count - self.ended_count - self.running_count
        counts = {
            "running": self.running_count,
            "waiting": waiting,
            "failed": self.failed_count,
            "pruned": self.pruned_count,
        }
        return [f"{count:,} {status}" for status, count in counts.items() if count]


def make_sweep_lines(
    name: str, totals: SweepTotals, rows: Sequence[RunningTrialRow], best_trial: Trial | None, size: ScreenSize
) -> list[Text]:
    """Creates the lines; trials that do not fit are only counted."""
    from rich.text import Text

    times = [
        format_clock(totals.elapsed_seconds),
        *([f"about {format_clock(totals.seconds_left)} left"] if totals.seconds_left is not None else []),
    ]
    fraction = totals.ended_count / totals.trial_count if totals.trial_count else 0.0
    ended_text = f"{totals.ended_count:,}/{totals.trial_count:,} ended"
    max_rows = max(1, size.height - NON_TRIAL_LINES)
    visible_rows = rows if len(rows) <= max_rows else rows[: max_rows - 1] or rows[:1]
    lines = [
        make_bar_line(name, fraction, times, size),
        Text(fit_parts([ended_text, *totals.count_texts], size.width, size)),
        *(Text(line) for line in _format_rows(visible_rows, size)),
    ]
    if len(rows) > len(visible_rows):
        lines.append(Text(f"      and {len(rows) - len(visible_rows)} more running", style="bright_black"))
    if best_trial is not None and best_trial.objective is not None:
        best_text = (
            f"best so far: {best_trial.objective_metric} {format_number(best_trial.objective)}  trial "
            f"{best_trial.number}"
        )
        best_text += f"  {best_trial.name}" if best_trial.swept else ""
        lines.append(Text(truncate_text(best_text, size.width, size), style="green"))
    return lines


def _format_rows(rows: Sequence[RunningTrialRow], size: ScreenSize) -> list[str]:
    """Formats rows in columns; the names get the remaining width."""
    from rich.cells import cell_len, set_cell_size

    if not rows:
        return []
    numbers = [str(row.number) for row in rows]
    detail_rows = [[row.position, row.metric_text, format_clock(row.seconds).rjust(5)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*detail_rows, strict=True)]
    number_width = max(map(len, numbers))
    remaining_width = size.width - number_width - 4 - sum(width + 2 for width in widths if width)
    if remaining_width < 12 and widths[1]:  # too narrow for the metric
        widths[1], remaining_width = 0, remaining_width + widths[1] + 2
    name_width = max(8, min(remaining_width, max(cell_len(row.name) for row in rows)))
    lines = []
    for row, number_text, details in zip(rows, numbers, detail_rows, strict=True):
        columns = [detail.ljust(width) for detail, width in zip(details, widths, strict=True) if width]
        name = truncate_text(row.name, name_width, size)
        lines.append(
            truncate_text(
                "  ".join([f"  {number_text:>{number_width}}", set_cell_size(name, name_width), *columns]),
                size.width,
                size,
            )
        )
    return lines
