"""Commands in a pseudo-terminal, and the text on its screen."""

from __future__ import annotations

import codecs
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path

_OUTPUT_PART = re.compile(r"\x1b\[(\?)?(\d*)([A-Za-z])|(\x1b\[[\d;]*m)|(\r)|(\n)|([^\x1b\r\n]+)")


@dataclass
class Screen:
    """A screen that supports the escape sequences of a live view: cursor up, erase line, start of line."""

    columns: int
    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    column: int = 0
    is_cursor_visible: bool = True

    def write(self, text: str) -> None:
        for part in _OUTPUT_PART.finditer(text):
            private, number, kind, _, begin, line, words = part.groups()
            if words:
                self._write_words(words)
            elif begin:
                self.column = 0
            elif line:
                self._move_down()
            elif private and number == "25":
                self.is_cursor_visible = kind == "h"
            elif kind == "A":
                self.row = max(0, self.row - int(number or 1))
            elif kind == "K":
                self.lines[self.row] = ""
            elif kind not in ("m", None):
                raise AssertionError(f"unknown escape sequence {part[0]!r}")

    def _write_words(self, words: str) -> None:
        while words:
            if self.column == self.columns:
                self.column = 0
                self._move_down()
            line, written = self.lines[self.row].ljust(self.column), words[: self.columns - self.column]
            end = self.column + len(written)
            self.lines[self.row] = line[: self.column] + written + line[end:]
            self.column, words = end, words[len(written) :]

    def _move_down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).strip("\n")


@dataclass
class TerminalResult:
    """Exit code and output of a command, and all states of its screen."""

    exit_code: int
    raw_output: str
    screen: Screen
    screens: list[str]


def run_in_terminal(
    command: Sequence[str],
    folder: Path,
    columns: int = 80,
    rows: int = 24,
    on_change: Callable[[str, subprocess.Popen[bytes]], None] | None = None,
    **environment: str,
) -> TerminalResult:
    """Runs a command whose input and output are a terminal.

    Calls `on_change` after each change of the screen, with its text and the process.
    """
    controller_descriptor, terminal_descriptor = pty.openpty()
    ioctl(terminal_descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    full_environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "", "LINES": "", **environment}
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal_descriptor)
    process = subprocess.Popen(command, **streams, cwd=folder, env=full_environment, start_new_session=True)
    os.close(terminal_descriptor)
    screen, raw_output, screens, undecoded = Screen(columns), "", [], b""
    with suppress(OSError):  # Linux raises EIO when all processes have closed the terminal
        while data := os.read(controller_descriptor, 1 << 16):
            text, undecoded = _decode_complete(undecoded + data)
            raw_output += text
            screen.write(text)
            if not screens or screens[-1] != screen.text:
                screens.append(screen.text)
                if on_change is not None:
                    on_change(screen.text, process)
    os.close(controller_descriptor)
    return TerminalResult(process.wait(60), raw_output, screen, screens)


def _decode_complete(data: bytes) -> tuple[str, bytes]:
    """Returns the complete characters and escape sequences, and the bytes of an incomplete one."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    text = decoder.decode(data)
    incomplete_sequence = re.search(r"(\x1b(\[[\d;?]*)?)?$", text)[0]
    return text.removesuffix(incomplete_sequence), incomplete_sequence.encode() + decoder.getstate()[0]
