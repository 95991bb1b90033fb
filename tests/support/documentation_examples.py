"""Follows a page of the documentation to the letter: writes its files, types its commands, compares what they print.

A block `python` begins with a comment that is the path of a file; the block becomes the whole of it. A block `console`
has commands behind `$`, and below each what it prints; `...` stands for what is left out, lines or a part of one. In a
block `console` below a line `<!-- varies -->` every number and every name of a run stands for any other, and lines may
come in another order. A command must succeed, unless the page shows that it does not: `failed`, or a line that begins
with `expfw: `.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = re.compile(r"^(<!-- varies -->\n)?```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LAYOUT = {"─+": "─", r"\s+": " "}
_VARYING = {r"\b[a-z0-9]{8}\b": "RUN", r"-?\d[\d,]*(\.\d+)?(e[-+]?\d+)?": "NUMBER"}
_LEFT_OUT = "..."


@dataclass(frozen=True)
class Command:
    """What is typed at a line of the page, and what should be printed then."""

    line: int
    typed: str
    expected: str
    varies: bool

    @property
    def fails(self) -> bool:
        """Whether the page shows that it does not succeed."""
        return re.search(r"\bfailed\b|^expfw: ", self.expected, re.MULTILINE) is not None


@dataclass(frozen=True)
class File:
    """What is to be the whole content of a file."""

    line: int
    path: str
    content: str


def steps(page: str) -> Iterator[Command | File]:
    """All there is to do, in order."""
    for block in _BLOCK.finditer(page):
        line, text = page.count("\n", 0, block.start(3)) + 1, block[3]
        if block[2] == "python":
            path = text.splitlines()[0].removeprefix("# ")
            yield File(line, path, text.partition("\n")[2])
        else:
            for command in re.finditer(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
                yield Command(line + text.count("\n", 0, command.start()), command[1], command[2], bool(block[1]))


def same(expected: str, printed: str, varies: bool) -> bool:
    """Whether it is what the page shows."""
    shown, found = _lines(expected, varies), _lines(printed, varies)
    if not varies:
        patterns = [r"(.*\n)*?" if line == _LEFT_OUT else _pattern(line) + r"\n" for line in shown]
        return re.fullmatch("".join(patterns), "".join(f"{line}\n" for line in found)) is not None
    for pattern in (_pattern(line) for line in shown if line != _LEFT_OUT):
        there = next((line for line in found if re.fullmatch(pattern, line)), None)
        if there is None:
            return False
        found.remove(there)
    return not found or _LEFT_OUT in shown


def _pattern(line: str) -> str:
    return re.escape(line).replace(re.escape(_LEFT_OUT), ".*")


def _lines(text: str, varies: bool) -> list[str]:
    """As they are compared: neither the widths of columns nor blank lines count."""
    lines = [line for line in text.splitlines() if line.strip()]
    for pattern, name in {**(_VARYING if varies else {}), **_LAYOUT}.items():
        lines = [re.sub(pattern, name, line) for line in lines]
    return [line.strip() for line in lines]


@dataclass
class Follower:
    """Somebody who follows a page, at first in an empty folder."""

    folder: Path
    environment: Mapping[str, str]
    printed: list[tuple[str, str]] = field(default_factory=list)

    def follow(self, page: Path) -> None:
        """Does everything; fails at the first thing that is not as the page says."""
        for step in steps(page.read_text()):
            if isinstance(step, File):
                self.write(step)
                continue
            code, printed = self.type(step)
            if (code != 0) != step.fails or not same(step.expected, printed, step.varies):
                raise AssertionError(
                    f"{page.name}:{step.line}: $ {step.typed}\nended with {code} and printed\n{printed}\n"
                    f"where the page has\n{step.expected}"
                )

    def write(self, file: File) -> None:
        """Into a folder that is there."""
        (self.folder / file.path).write_text(file.content)

    def type(self, command: Command) -> tuple[int, str]:
        """Its exit code and what it prints; where it changes the folder, the next one begins there."""
        script = f"set -o pipefail\n{command.typed}\ncode=$?\npwd >&9\nexit $code"
        with open(self.folder.parent / "where", "w+") as where:
            done = subprocess.run(
                ["bash", "-c", f"exec 9>&{where.fileno()}\n{script}"],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[where.fileno()],
                text=True,
                timeout=600,
            )
            where.seek(0)
            self.folder = Path(where.read().strip() or self.folder)
        self.printed.append((command.typed, done.stdout))
        return done.returncode, done.stdout
