"""Lines that fit the terminal: bars, times and shortened text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

MAX_WIDTH = 110
"""Columns; longer lines are hard to read, and they wrap if the terminal becomes narrower."""

INDENT = " " * 11
"""Indentation of continuation lines."""


@dataclass(frozen=True)
class ScreenSize:
    """Available size of a terminal.

    Attributes:
        width: usable columns.
        height: usable rows.
        has_unicode: whether the terminal shows more than ASCII.
    """

    width: int
    height: int
    has_unicode: bool = True


def format_clock(seconds: float) -> str:
    """Formats a time as `m:ss` or `h:mm:ss`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def make_bar(fraction: float, width: int, size: ScreenSize) -> Text:
    """Creates a progress bar that is readable without colours."""
    from rich.text import Text

    full, rest = ("━", "─") if size.has_unicode else ("=", "-")
    filled = min(width, int(max(0.0, fraction) * width + 1e-9))
    return Text.assemble((full * filled, "bar.complete"), (rest * (width - filled), "bright_black"))


def truncate_text(text: str, width: int, size: ScreenSize) -> str:
    """Truncates text to at most `width` columns."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    dots = "…" if size.has_unicode else "..."
    return set_cell_size(text, max(0, width - len(dots))) + dots if width > len(dots) else set_cell_size(text, width)


def fold_first_line(text: str, width: int) -> str:
    """Wraps and indents the first line at `width` columns; other lines, such as paths, stay unchanged."""
    from textwrap import wrap

    first, *others = text.splitlines()
    wrapped_lines = wrap(first, width, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*wrapped_lines, *others])


def fit_parts(parts: Sequence[str], width: int, size: ScreenSize) -> str:
    """Joins as many of the first parts as fit into `width` columns; the first part is truncated if necessary."""
    line = truncate_text(parts[0], width, size) if parts else ""
    for part in parts[1:]:
        if len(line) + 2 + len(part) > width:
            break
        line += f"  {part}"
    return line


def make_bar_line(
    label: str, fraction: float | None, parts: Sequence[str], size: ScreenSize, label_width: int = 0
) -> Text:
    """Creates a line with a label, a bar and parts after it; without a fraction there is no bar."""
    from rich.text import Text

    label = label.ljust(label_width)
    if fraction is None:
        return Text(fit_parts([label, *parts], size.width, size))
    suffix = fit_parts(parts, max(0, size.width - len(label) - 12), size)
    width = max(8, min(40, size.width - len(label) - len(suffix) - 4))
    return Text.assemble(
        truncate_text(label, size.width - 10, size), "  ", make_bar(fraction, width, size), "  ", suffix
    )
