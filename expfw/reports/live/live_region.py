"""Live region of a terminal, redrawn below all other output."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from expfw.system.redirection import redact_stream

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_MAX_WIDTH = 110
"""Columns; longer lines are hard to read."""
_REFRESH_PER_SECOND = 5
_BAR_WIDTH = 40


@contextmanager
def live_view(draw: Callable[[], RenderableType]) -> Iterator[bool]:
    """Shows what `draw` returns until the context exits, if stderr is a terminal that can redraw; yields whether it is.

    Lines that this process writes to `sys.stderr`, and to stdout if it is a terminal, are printed above it. The cursor
    is never hidden, so the terminal stays usable even if the process is killed.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        yield False
        return
    from rich.console import Console, ConsoleDimensions
    from rich.file_proxy import FileProxy
    from rich.live import Live

    class LineProxy(FileProxy):
        """Prints complete lines only; Rich also prints an incomplete line when it is flushed."""

        def flush(self) -> None: ...

    def print_lines(descriptor: int) -> None:
        proxy = LineProxy(console, sys.stdout)
        with os.fdopen(descriptor, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                proxy.write(line)

    def draw_for_terminal() -> RenderableType:
        columns, rows = os.get_terminal_size(terminal_file.fileno())  # some terminals report 0 for unknown
        console.size = ConsoleDimensions(min(columns or 80, _MAX_WIDTH) - 1, rows or 24)
        return draw()

    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="replace") as terminal_file:
        console = Console(file=redact_stream(terminal_file), highlight=False, markup=False, soft_wrap=True)
        region = Live(
            get_renderable=draw_for_terminal,
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            refresh_per_second=_REFRESH_PER_SECOND,
        )
        with ExitStack() as stack:
            stack.enter_context(redirect_stderr(LineProxy(console, terminal_file)))
            if sys.stdout.isatty():
                sys.stdout.flush()
                stack.enter_context(_pipe_stdout(print_lines))
                stack.enter_context(redirect_stdout(LineProxy(console, sys.stdout)))
            stack.enter_context(region)
            console.show_cursor(True)
            yield True


@contextmanager
def _pipe_stdout(read: Callable[[int], None]) -> Iterator[None]:
    """Passes what native code and child processes write to stdout to `read`, in a thread."""
    saved_descriptor = os.dup(1)
    read_end, write_end = os.pipe()
    os.dup2(write_end, 1)
    os.close(write_end)
    thread = threading.Thread(target=read, args=(read_end,), name="lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(saved_descriptor, 1)
        os.close(saved_descriptor)
        thread.join(1.0)  # a child process that is still running may keep the pipe open


def make_line(*parts: str) -> Text:
    """Creates a line that is truncated if it does not fit."""
    from rich.text import Text

    return Text("  ".join(part for part in parts if part), no_wrap=True, overflow="ellipsis")


def make_bars(*bars: tuple[str, int, int, str]) -> Table:
    """Creates aligned progress bars: label, completed part, total, and text after the bar."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    for no_wrap in (True, False, True):
        grid.add_column(no_wrap=no_wrap)
    for label, completed, total, text in bars:
        grid.add_row(label, ProgressBar(total, completed, width=_BAR_WIDTH), text)
    return grid


def format_clock(seconds: float, seconds_left: float | None = None) -> str:
    """Formats a time as `m:ss` or `h:mm:ss`, and the remaining time if it is known."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    text = f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
    return text if seconds_left is None else f"{text}  about {format_clock(seconds_left)} left"
