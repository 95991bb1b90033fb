"""The gallery of errors: what is typed, what is said, and the exit code, as in a terminal.

`python tests/support/error_gallery.py [NAME...]` writes the present answers; `git diff` shows what changed.
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

FOLDER = Path(__file__).parents[1] / "gallery"
_VOLATILE = {
    r"\b[0-9a-f]{16}\b": "HASH",
    r"\b(?!2026-01-01)\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-\w{8}\b": "NEW",
    r"at byte \d+": "at byte NUMBER",
    r"the \d+ cores": "the NUMBER cores",
    r"(?m)^.*INFO mlflow\.store.*\n": "",
}
"""What differs each time, and what stands for it."""


@dataclass(frozen=True)
class Case:
    """A command with variables of its environment in front, and what it says on both streams; `code` it ends with."""

    file: str
    typed: str
    said: str = ""
    code: int = 2

    def __str__(self) -> str:
        return f"$ {self.typed}\n{self.said}[{self.code}]"


def cases(file: Path) -> list[Case]:
    """The cases of a file: blocks that begin with `$`, separated by blank lines; other blocks are remarks."""
    return [one for one in _blocks(file) if isinstance(one, Case)]


def _blocks(file: Path) -> list[Case | str]:
    return [_block(file, text.strip("\n")) for text in re.split(r"\n\n+(?=[$#])", file.read_text())]


def _block(file: Path, text: str) -> Case | str:
    if not text.startswith("$ "):
        return text
    first, _, rest = text.partition("\n")
    ended = re.search(r"^\[(\d+)\]$", rest, re.MULTILINE)
    return (
        Case(file.stem, first[2:], rest[: ended.start()], int(ended[1])) if ended else Case(file.stem, first[2:], rest)
    )


class Place:
    """Where the commands are typed: the working directory, and words that stand for what differs each time."""

    def __init__(self, folder: Path, words: Mapping[str, str]) -> None:
        self.folder = folder
        self._words = {"HERE": str(folder), **words}

    def answer(self, case: Case) -> Case:
        """The case with what is said now."""
        typed = case.typed
        for word, meant in self._words.items():
            typed = re.sub(rf"\b{word}\b", meant, typed)
        words = shlex.split(typed)
        begin = words.index("expfw")
        said, before = io.StringIO(), Path.cwd()
        os.chdir(self.folder)
        installed = (
            gallery_workspace.packages(self.folder / "packages") if case.file == "plugins" else contextlib.nullcontext()
        )
        try:
            with (
                installed,
                mock.patch.object(logging.getLogger(), "handlers", []),  # of pytest: warnings go where they always do
                mock.patch.dict(os.environ, dict(word.split("=", 1) for word in words[:begin]), COLUMNS="500"),
                contextlib.redirect_stdout(said),
                contextlib.redirect_stderr(said),
            ):
                code = cli.guarded(lambda: cli.main.main(words[begin + 1 :], standalone_mode=False))
        finally:
            os.chdir(before)
        return replace(case, said=self._without_what_differs(said.getvalue()), code=code)

    def _without_what_differs(self, text: str) -> str:
        for word, meant in self._words.items():
            text = text.replace(meant, word)
        for pattern, word in _VOLATILE.items():
            text = re.sub(pattern, word, text)
        return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


@contextlib.contextmanager
def place(folder: Path) -> Iterator[Place]:
    """A place with runs, sweeps, plugins and data, good and bad."""
    with gallery_workspace.filled(folder), socket.create_server(("127.0.0.1", 0)) as listening:
        yield Place(folder, {"TAKEN_PORT": str(listening.getsockname()[1])})


def main(names: list[str]) -> None:
    """Writes the files anew."""
    for file in sorted(FOLDER.glob("*.txt")):
        if names and file.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder, place(Path(folder)) as here:
            blocks = [here.answer(one) if isinstance(one, Case) else one for one in _blocks(file)]
        file.write_text("\n\n".join(map(str, blocks)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
