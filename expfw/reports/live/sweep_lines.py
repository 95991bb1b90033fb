"""How a sweep looks while it goes on: a line of totals, a bar, a line for each trial that runs, and the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expfw.reports.live.lines import Room, clock, cut, fitting, with_bar
from expfw.system.formatting import number
from expfw.tracking.ledger import Trial

if TYPE_CHECKING:
    from rich.text import Text

OTHER_LINES = 5
"""Lines of the screen for all but the trials that run."""


@dataclass(frozen=True)
class Row:
    """A trial that runs."""

    number: int
    name: str
    place: str
    value: str
    seconds: float


@dataclass(frozen=True)
class Totals:
    """How far a sweep is.

    Attributes:
        ended: trials that came to an end, whichever; failed, pruned: of these.
        elapsed, left: seconds, so far and about how many more.
    """

    total: int
    ended: int
    failed: int
    pruned: int
    running: int
    elapsed: float
    left: float | None

    @property
    def words(self) -> list[str]:
        """In the order of what is most worth knowing."""
        waiting = self.total - self.ended - self.running
        counts = {"running": self.running, "waiting": waiting, "failed": self.failed, "pruned": self.pruned}
        return [f"{count:,} {what}" for what, count in counts.items() if count]


def sweep_lines(name: str, totals: Totals, rows: Sequence[Row], best: Trial | None, room: Room) -> list[Text]:
    """The lines; trials that there is no room for are only counted."""
    from rich.text import Text

    times = [clock(totals.elapsed), *([f"about {clock(totals.left)} left"] if totals.left is not None else [])]
    fraction = totals.ended / totals.total if totals.total else 0.0
    done = f"{totals.ended:,}/{totals.total:,} ended"
    most = max(1, room.height - OTHER_LINES)
    shown = rows if len(rows) <= most else rows[: most - 1] or rows[:1]
    lines = [
        with_bar(name, fraction, times, room),
        Text(fitting([done, *totals.words], room.width, room)),
        *(Text(line) for line in _rows(shown, room)),
    ]
    if len(rows) > len(shown):
        lines.append(Text(f"      and {len(rows) - len(shown)} more that run", style="bright_black"))
    if best is not None and best.objective is not None:
        words = f"best so far: {best.objective_metric} {number(best.objective)}  trial {best.number}"
        words += f"  {best.name}" if best.swept else ""
        lines.append(Text(cut(words, room.width, room), style="green"))
    return lines


def _rows(rows: Sequence[Row], room: Room) -> list[str]:
    """In columns; the names get what is left."""
    from rich.cells import cell_len, set_cell_size

    if not rows:
        return []
    numbers = [str(row.number) for row in rows]
    behind = [[row.place, row.value, clock(row.seconds).rjust(5)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*behind, strict=True)]
    wide = max(map(len, numbers))
    left = room.width - wide - 4 - sum(width + 2 for width in widths if width)
    if left < 12 and widths[1]:  # too narrow for all
        widths[1], left = 0, left + widths[1] + 2
    name_width = max(8, min(left, max(cell_len(row.name) for row in rows)))
    lines = []
    for row, one, words in zip(rows, numbers, behind, strict=True):
        columns = [word.ljust(width) for word, width in zip(words, widths, strict=True) if width]
        name = cut(row.name, name_width, room)
        lines.append(cut("  ".join([f"  {one:>{wide}}", set_cell_size(name, name_width), *columns]), room.width, room))
    return lines
