"""A command in a terminal of its own, and what its screen comes to show."""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path

_PART = re.compile(r"\x1b\[(\?)?(\d*)([A-Za-z])|(\x1b\[[\d;]*m)|(\r)|(\n)|([^\x1b\r\n]+)")


@dataclass
class Screen:
    """Understands what a display that draws its last lines anew needs: up, erase, begin of line."""

    columns: int
    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    column: int = 0
    cursor_shown: bool = True

    def write(self, text: str) -> None:
        for part in _PART.finditer(text):
            private, number, kind, _, begin, line, words = part.groups()
            if words:
                self._words(words)
            elif begin:
                self.column = 0
            elif line:
                self._down()
            elif private and number == "25":
                self.cursor_shown = kind == "h"
            elif kind == "A":
                self.row = max(0, self.row - int(number or 1))
            elif kind == "K":
                self.lines[self.row] = ""
            elif kind not in ("m", None):
                raise AssertionError(f"what is {part[0]!r}?")

    def _words(self, words: str) -> None:
        while words:
            if self.column == self.columns:
                self.column = 0
                self._down()
            room = self.columns - self.column
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + words[:room] + line[self.column + len(words[:room]) :]
            self.column, words = self.column + len(words[:room]), words[room:]

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).strip("\n")


@dataclass
class Shown:
    """How a command ended, and everything that its screen showed on the way."""

    code: int
    raw: str
    screen: Screen
    on_the_way: list[str]


def in_terminal(
    command: Sequence[str],
    folder: Path,
    columns: int = 80,
    rows: int = 24,
    when: Callable[[str, subprocess.Popen[bytes]], None] | None = None,
    **environment: str,
) -> Shown:
    """Runs a command whose input and output are a terminal.

    Args:
        when: is called with the screen after each of its changes, and with the process.
    """
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    around = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "", "LINES": "", **environment}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=around, start_new_session=True
    )
    os.close(theirs)
    screen, raw, on_the_way = Screen(columns), "", []
    rest = b""
    while True:
        data = b""
        with suppress(OSError):  # Linux says EIO where everybody has left
            data = os.read(ours, 1 << 16)
        if not data:
            break
        text, rest = _decoded(rest + data)
        raw += text
        screen.write(text)
        if not on_the_way or on_the_way[-1] != screen.text:
            on_the_way.append(screen.text)
            if when is not None:
                when(screen.text, process)
    os.close(ours)
    return Shown(process.wait(60), raw, screen, on_the_way)


def _decoded(data: bytes) -> tuple[str, bytes]:
    """Whole characters and escape sequences, and what was read of the next one."""
    whole = len(data)
    begun = re.search(rb"(\x1b(\[[\d;?]*)?|[\xc0-\xff][\x80-\xbf]{0,2})$", data)
    if begun is not None:
        try:
            data[begun.start() :].decode()
            whole = begun.start() if data[begun.start()] == 0x1B else whole
        except UnicodeDecodeError:
            whole = begun.start()
    return data[:whole].decode(), data[whole:]


def expfw_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "expfw", *arguments]
