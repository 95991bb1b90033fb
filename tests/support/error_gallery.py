"""Gallery of errors: commands with their output and exit code, as in a terminal.

`python tests/support/error_gallery.py [NAME...]` updates the files; `git diff` shows the changes.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shlex
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from support import gallery_workspace

from expfw.cli import main as cli

GALLERY_FOLDER = Path(__file__).parents[1] / "gallery"
_VOLATILE_PATTERNS = {
    r"\b[0-9a-f]{16}\b": "HASH",
    r"\b(?!2026-01-01)\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-\w{8}\b": "NEW",
    r"at byte \d+": "at byte NUMBER",
    r"the \d+ available CPU cores": "the NUMBER available CPU cores",
    r"(?m)^.*INFO mlflow\.store.*\n": "",
}
"""Texts that differ each time, and their placeholders."""


@dataclass(frozen=True)
class Case:
    """A command with its environment variables, its output (stdout and stderr) and its exit code."""

    file: str
    command_line: str
    output: str = ""
    exit_code: int = 2

    def __str__(self) -> str:
        return f"$ {self.command_line}\n{self.output}[{self.exit_code}]"


def read_cases(file: Path) -> list[Case]:
    """Returns the cases of a file: blocks that begin with `$`, separated by blank lines. Other blocks are comments."""
    return [block for block in _read_blocks(file) if isinstance(block, Case)]


def _read_blocks(file: Path) -> list[Case | str]:
    blocks: list[Case | str] = []
    for text in re.split(r"\n\n+(?=[$#])", file.read_text().strip("\n")):
        case = re.fullmatch(r"\$ ([^\n]*)(?:\n(.*)\[(\d+)\])?", text, re.DOTALL)
        blocks.append(Case(file.stem, case[1], case[2] or "", int(case[3] or 2)) if case else text)
    return blocks


class Workspace:
    """The working directory of the commands, and placeholders for texts that differ each time."""

    def __init__(self, folder: Path, placeholders: Mapping[str, str]) -> None:
        self.folder = folder
        self._placeholders = {"HERE": str(folder), **placeholders}

    def run_case(self, case: Case) -> Case:
        """Runs a case; returns it with the current output and exit code."""
        command_line = case.command_line
        for word, value in self._placeholders.items():
            command_line = re.sub(rf"\b{word}\b", value, command_line)
        arguments = shlex.split(command_line)
        command_index = arguments.index("expfw")
        output, variables = io.StringIO(), dict(word.split("=", 1) for word in arguments[:command_index])
        with contextlib.ExitStack() as stack:
            if case.file == "plugins":
                stack.enter_context(gallery_workspace.installed_packages(self.folder / "packages"))
            stack.enter_context(contextlib.chdir(self.folder))
            # without pytest's handlers, warnings go to stderr
            stack.enter_context(mock.patch.object(logging.getLogger(), "handlers", []))
            stack.enter_context(mock.patch.dict(os.environ, variables, COLUMNS="500"))
            stack.enter_context(contextlib.redirect_stdout(output))
            stack.enter_context(contextlib.redirect_stderr(output))
            code = cli.run_command(arguments[command_index + 1 :])
        return replace(case, output=self._normalize_output(output.getvalue()), exit_code=code)

    def _normalize_output(self, text: str) -> str:
        for word, value in self._placeholders.items():
            text = text.replace(value, word)
        for pattern, word in _VOLATILE_PATTERNS.items():
            text = re.sub(pattern, word, text)
        return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


@contextlib.contextmanager
def open_workspace(folder: Path) -> Iterator[Workspace]:
    """Creates a workspace with valid and invalid runs, sweeps, plugins and data."""
    with gallery_workspace.filled_workspace(folder), socket.create_server(("127.0.0.1", 0)) as listener:
        yield Workspace(folder, {"TAKEN_PORT": str(listener.getsockname()[1])})


def main(names: list[str]) -> None:
    """Updates the files."""
    for file in sorted(GALLERY_FOLDER.glob("*.txt")):
        if names and file.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder, open_workspace(Path(folder)) as workspace:
            blocks = [workspace.run_case(block) if isinstance(block, Case) else block for block in _read_blocks(file)]
        file.write_text("\n\n".join(map(str, blocks)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
