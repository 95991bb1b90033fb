"""Live region of a terminal, redrawn below all other output."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from expfw.reports.live.lines import MAX_WIDTH, ScreenSize

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

REFRESH_PER_SECOND = 5


def can_show_live_view() -> bool:
    """Whether stderr is a terminal that supports redrawing; otherwise plain lines are printed."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


@contextmanager
def live_view(draw: Callable[[ScreenSize], Sequence[RenderableType]]) -> Iterator[Console]:
    """Shows the lines that `draw` returns until the context exits; yields a console that prints above them.

    Lines that this process writes to `sys.stderr`, and to stdout if it is a terminal, are printed above them, too. The
    cursor is never hidden, so the terminal stays usable even if the process is killed.
    """
    from rich.console import Console

    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="replace") as terminal_file:
        console = Console(file=terminal_file, highlight=False, markup=False)
        region = _make_live_region(console, draw)
        with ExitStack() as stack:
            stack.enter_context(redirect_stderr(_LiveViewStream(console, terminal_file.fileno())))
            if sys.stdout.isatty():
                sys.stdout.flush()
                stack.enter_context(_redirect_descriptor(1, console))
                stack.enter_context(redirect_stdout(_LiveViewStream(console, 1)))
            stack.callback(region.stop)
            region.start(refresh=True)
            console.show_cursor(True)
            yield console


def _make_live_region(console: Console, draw: Callable[[ScreenSize], Sequence[RenderableType]]) -> Live:
    from rich.live import Live

    renderer = _LiveRenderer(console, draw)
    renderer.region = Live(
        get_renderable=renderer,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        refresh_per_second=REFRESH_PER_SECOND,
    )
    return renderer.region


class _LiveRenderer:
    """Renders the live view for the current width of the terminal."""

    def __init__(self, console: Console, draw: Callable[[ScreenSize], Sequence[RenderableType]]) -> None:
        self._console, self._draw = console, draw
        self._unicode = console.encoding.startswith("utf")
        self.region: Live | None = None
        self._last_columns = 0

    def __call__(self) -> RenderableType:
        from rich.console import Group

        columns, rows = _measure_terminal(self._console)
        if self.region is not None and columns < self._last_columns:
            _adjust_region_height(self.region, columns)
        self._last_columns = columns
        return Group(*self._draw(ScreenSize(min(columns, MAX_WIDTH) - 1, rows, self._unicode)))


def _measure_terminal(console: Console) -> tuple[int, int]:
    """Returns the current columns and rows of the console's terminal; some terminals report 0 for unknown."""
    columns, rows = os.get_terminal_size(console.file.fileno())
    console.size = console.size._replace(width=columns or 80, height=rows or 24)
    return console.width, console.height


def _adjust_region_height(region: Live, columns: int) -> None:
    """Increases the height of the region after the terminal became narrower and wrapped its lines."""
    live_render = region._live_render
    if live_render._shape is not None:
        width, height = live_render._shape
        live_render._shape = (width, height * -(-width // columns))


class _LiveViewStream(io.TextIOBase):
    """Replacement for stdout or stderr that prints complete lines above the live view.

    Args:
        console: console of the live view.
        descriptor: file descriptor for code that does not write through Python.
    """

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, console: Console, descriptor: int) -> None:
        self._console = console
        self._descriptor = descriptor
        self._partial_line = ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        with self._lock:
            lines, _, self._partial_line = (self._partial_line + text).rpartition("\n")
            self._partial_line = self._partial_line.rpartition("\r")[2]  # a carriage return discards the text before it
            has_whole_line = "\n" in text
        if has_whole_line:
            self._console.print(_parse_ansi_lines(lines), soft_wrap=True)
        return len(text)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor


def _parse_ansi_lines(lines: str) -> Text:
    from rich.text import Text

    return Text.from_ansi("\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines.split("\n")))


@contextmanager
def _redirect_descriptor(descriptor: int, console: Console) -> Iterator[None]:
    """Prints lines of native code and child processes, written to this descriptor, above the live view."""
    saved_descriptor = os.dup(descriptor)
    read_end, write_end = os.pipe()
    os.dup2(write_end, descriptor)
    os.close(write_end)
    thread = threading.Thread(target=_print_lines_above, args=(read_end, console), name="lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(saved_descriptor, descriptor)
        os.close(saved_descriptor)
        thread.join(1.0)  # a child process that is still running may keep the pipe open


def _print_lines_above(read_end: int, console: Console) -> None:
    stream = _LiveViewStream(console, read_end)
    with os.fdopen(read_end, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            stream.write(line)
