"""The part of a terminal, below all other output, that is drawn again and again."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from expfw.reports.live.lines import WIDEST, Room

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

REFRESH_PER_SECOND = 5


def is_live() -> bool:
    """Whether stderr is a terminal whose lines can be drawn again; where it is none, plain lines are printed."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


@contextmanager
def live(draw: Callable[[Room], Sequence[RenderableType]]) -> Iterator[Console]:
    """Shows what `draw` returns, until the end; yields a console whose lines come above it.

    So do the lines that this process writes to stdout, where that is a terminal, and to `sys.stderr`. The cursor is
    never hidden: whatever ends the process, the terminal is as it was.
    """
    from rich.console import Console

    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="replace") as screen:
        console = Console(file=screen, highlight=False, markup=False)
        region = _region(console, draw)
        with ExitStack() as over:
            over.enter_context(redirect_stderr(_Above(console, screen.fileno())))
            if sys.stdout.isatty():
                sys.stdout.flush()
                over.enter_context(_descriptor_above(1, console))
                over.enter_context(redirect_stdout(_Above(console, 1)))
            over.callback(region.stop)
            region.start(refresh=True)
            console.show_cursor(True)
            yield console


def _region(console: Console, draw: Callable[[Room], Sequence[RenderableType]]) -> Live:
    from rich.live import Live

    drawing = _Drawing(console, draw)
    drawing.region = Live(
        get_renderable=drawing,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        refresh_per_second=REFRESH_PER_SECOND,
    )
    return drawing.region


class _Drawing:
    """Makes what is shown, for the terminal as wide as it is now."""

    def __init__(self, console: Console, draw: Callable[[Room], Sequence[RenderableType]]) -> None:
        self._console, self._draw = console, draw
        self._unicode = console.encoding.startswith("utf")
        self.region: Live | None = None
        self._width = 0

    def __call__(self) -> RenderableType:
        from rich.console import Group

        columns, rows = _size(self._console)
        if self.region is not None and columns < self._width:
            _broken_into(self.region, columns)
        self._width = columns
        return Group(*self._draw(Room(min(columns, WIDEST) - 1, rows, self._unicode)))


def _size(console: Console) -> tuple[int, int]:
    """Columns and rows as they are now, of this very terminal; some say 0 for what they do not know."""
    columns, rows = os.get_terminal_size(console.file.fileno())
    console.size = console.size._replace(width=columns or 80, height=rows or 24)
    return console.width, console.height


def _broken_into(region: Live, columns: int) -> None:
    """The terminal became narrower and broke lines, so that what was drawn has more of them."""
    drawn = region._live_render
    if drawn._shape is not None:
        width, height = drawn._shape
        drawn._shape = (width, height * -(-width // columns))


class _Above(io.TextIOBase):
    """Stands for stdout or stderr: whole lines are printed above what is drawn.

    Args:
        descriptor: for those who do not write through Python.
    """

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, console: Console, descriptor: int) -> None:
        self._console = console
        self._descriptor = descriptor
        self._begun = ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        with self._lock:
            lines, _, self._begun = (self._begun + text).rpartition("\n")
            self._begun = self._begun.rpartition("\r")[2]  # what is drawn over by more of it
            ended = "\n" in text
        if ended:
            self._console.print(_text(lines), soft_wrap=True)
        return len(text)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor


def _text(lines: str) -> Text:
    from rich.text import Text

    return Text.from_ansi("\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines.split("\n")))


@contextmanager
def _descriptor_above(descriptor: int, console: Console) -> Iterator[None]:
    """Lines that native code, or a process that was started meanwhile, writes there are printed above, too."""
    kept = os.dup(descriptor)
    read, write = os.pipe()
    os.dup2(write, descriptor)
    os.close(write)
    thread = threading.Thread(target=_print_all, args=(read, console), name="lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
        thread.join(1.0)  # a process that was started meanwhile, and lives on, may still hold its end


def _print_all(read: int, console: Console) -> None:
    above = _Above(console, read)
    with os.fdopen(read, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            above.write(line)
