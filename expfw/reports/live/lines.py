"""Lines that fit: bars, times, and as many words as there is room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

WIDEST = 110
"""Columns; a line that is longer is hard to read, and a terminal that becomes narrower would break it."""

INDENT = " " * 11
"""Of what goes on from the line above."""


@dataclass(frozen=True)
class Room:
    """What a terminal has room for.

    Attributes:
        width, height: columns and rows that may be filled.
        unicode: whether it shows more than ASCII.
    """

    width: int
    height: int
    unicode: bool = True


def clock(seconds: float) -> str:
    """A time as `m:ss` or `h:mm:ss`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def bar(fraction: float, width: int, room: Room) -> Text:
    """A bar that is filled so far; it can be read without colours."""
    from rich.text import Text

    full, rest = ("━", "─") if room.unicode else ("=", "-")
    filled = min(width, int(max(0.0, fraction) * width + 1e-9))
    return Text.assemble((full * filled, "bar.complete"), (rest * (width - filled), "bright_black"))


def cut(text: str, width: int, room: Room) -> str:
    """A text of at most so many columns."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    dots = "…" if room.unicode else "..."
    return set_cell_size(text, max(0, width - len(dots))) + dots if width > len(dots) else set_cell_size(text, width)


def folded(text: str, width: int) -> str:
    """The first line broken between words, and indented, to so many columns; the others, such as paths, as they are."""
    from textwrap import wrap

    first, *others = text.splitlines()
    fitted = wrap(first, width, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*fitted, *others])


def fitting(words: Sequence[str], width: int, room: Room) -> str:
    """As many of the words, the first ones, as there is room for; the first one always, cut."""
    line = cut(words[0], width, room) if words else ""
    for word in words[1:]:
        if len(line) + 2 + len(word) > width:
            break
        line += f"  {word}"
    return line


def with_bar(label: str, fraction: float | None, words: Sequence[str], room: Room, label_width: int = 0) -> Text:
    """A line of a label, a bar, and words behind it; without a fraction there is no bar."""
    from rich.text import Text

    label = label.ljust(label_width)
    if fraction is None:
        return Text(fitting([label, *words], room.width, room))
    behind = fitting(words, max(0, room.width - len(label) - 12), room)
    width = max(8, min(40, room.width - len(label) - len(behind) - 4))
    return Text.assemble(cut(label, room.width - 10, room), "  ", bar(fraction, width, room), "  ", behind)
