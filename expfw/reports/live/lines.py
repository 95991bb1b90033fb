"""Lines that fit: bars, times, and as many words as there is room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

MAX_WIDTH = 110
"""Columns; a line that is longer is hard to read, and a terminal that becomes narrower would break it."""

INDENT = " " * 11
"""Of what goes on from the line above."""


@dataclass(frozen=True)
class ScreenSize:
    """What a terminal has room for.

    Attributes:
        width, height: columns and rows that may be filled.
        has_unicode: whether it shows more than ASCII.
    """

    width: int
    height: int
    has_unicode: bool = True


def format_clock(seconds: float) -> str:
    """A time as `m:ss` or `h:mm:ss`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def make_bar(fraction: float, width: int, size: ScreenSize) -> Text:
    """A bar that is filled so far; it can be read without colours."""
    from rich.text import Text

    full, rest = ("━", "─") if size.has_unicode else ("=", "-")
    filled = min(width, int(max(0.0, fraction) * width + 1e-9))
    return Text.assemble((full * filled, "bar.complete"), (rest * (width - filled), "bright_black"))


def truncate_text(text: str, width: int, size: ScreenSize) -> str:
    """A text of at most so many columns."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    dots = "…" if size.has_unicode else "..."
    return set_cell_size(text, max(0, width - len(dots))) + dots if width > len(dots) else set_cell_size(text, width)


def fold_first_line(text: str, width: int) -> str:
    """The first line broken between words, and indented, to so many columns; the others, such as paths, as they are."""
    from textwrap import wrap

    first, *others = text.splitlines()
    wrapped_lines = wrap(first, width, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*wrapped_lines, *others])


def fit_parts(parts: Sequence[str], width: int, size: ScreenSize) -> str:
    """As many of the words, the first ones, as there is room for; the first one always, cut."""
    line = truncate_text(parts[0], width, size) if parts else ""
    for part in parts[1:]:
        if len(line) + 2 + len(part) > width:
            break
        line += f"  {part}"
    return line


def make_bar_line(
    label: str, fraction: float | None, parts: Sequence[str], size: ScreenSize, label_width: int = 0
) -> Text:
    """A line of a label, a bar, and words behind it; without a fraction there is no bar."""
    from rich.text import Text

    label = label.ljust(label_width)
    if fraction is None:
        return Text(fit_parts([label, *parts], size.width, size))
    suffix = fit_parts(parts, max(0, size.width - len(label) - 12), size)
    width = max(8, min(40, size.width - len(label) - len(suffix) - 4))
    return Text.assemble(
        truncate_text(label, size.width - 10, size), "  ", make_bar(fraction, width, size), "  ", suffix
    )
