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
_LAYOUT_PATTERNS = {"─+": "─", r"\s+": " "}
_VARYING_PATTERNS = {r"\b[a-z0-9]{8}\b": "RUN", r"-?\d[\d,]*(\.\d+)?(e[-+]?\d+)?": "NUMBER"}
_ELLIPSIS = "..."


@dataclass(frozen=True)
class Command:
    """What is typed at a line of the page, and what should be printed then."""

    line: int
    command_line: str
    expected_output: str
    is_varying: bool

    @property
    def expects_failure(self) -> bool:
        """Whether the page shows that it does not succeed."""
        return re.search(r"\bfailed\b|^expfw: ", self.expected_output, re.MULTILINE) is not None


@dataclass(frozen=True)
class File:
    """What is to be the whole content of a file."""

    line: int
    path: str
    content: str


def parse_steps(page: str) -> Iterator[Command | File]:
    """All there is to do, in order."""
    for block in _BLOCK.finditer(page):
        line, text = page.count("\n", 0, block.start(3)) + 1, block[3]
        if block[2] == "python":
            path = text.splitlines()[0].removeprefix("# ")
            yield File(line, path, text.partition("\n")[2])
        else:
            for command in re.finditer(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
                yield Command(line + text.count("\n", 0, command.start()), command[1], command[2], bool(block[1]))


def is_expected_output(expected: str, printed: str, is_varying: bool) -> bool:
    """Whether it is what the page shows."""
    expected_lines, printed_lines = _normalize_lines(expected, is_varying), _normalize_lines(printed, is_varying)
    if not is_varying:
        patterns = [r"(.*\n)*?" if line == _ELLIPSIS else _make_pattern(line) + r"\n" for line in expected_lines]
        return re.fullmatch("".join(patterns), "".join(f"{line}\n" for line in printed_lines)) is not None
    for pattern in (_make_pattern(line) for line in expected_lines if line != _ELLIPSIS):
        matching_line = next((line for line in printed_lines if re.fullmatch(pattern, line)), None)
        if matching_line is None:
            return False
        printed_lines.remove(matching_line)
    return not printed_lines or _ELLIPSIS in expected_lines


def _make_pattern(line: str) -> str:
    return re.escape(line).replace(re.escape(_ELLIPSIS), ".*")


def _normalize_lines(text: str, is_varying: bool) -> list[str]:
    """As they are compared: neither the widths of columns nor blank lines count."""
    lines = [line for line in text.splitlines() if line.strip()]
    for pattern, name in {**(_VARYING_PATTERNS if is_varying else {}), **_LAYOUT_PATTERNS}.items():
        lines = [re.sub(pattern, name, line) for line in lines]
    return [line.strip() for line in lines]


@dataclass
class PageRunner:
    """Somebody who follows a page, at first in an empty folder."""

    folder: Path
    environment: Mapping[str, str]
    outputs: list[tuple[str, str]] = field(default_factory=list)

    def run_page(self, page: Path) -> None:
        """Does everything; fails at the first thing that is not as the page says."""
        for step in parse_steps(page.read_text()):
            if isinstance(step, File):
                self.write_file(step)
                continue
            code, output = self.run_command(step)
            if (code != 0) != step.expects_failure or not is_expected_output(
                step.expected_output, output, step.is_varying
            ):
                raise AssertionError(
                    f"{page.name}:{step.line}: $ {step.command_line}\nended with {code} and printed\n{output}\n"
                    f"where the page has\n{step.expected_output}"
                )

    def write_file(self, file: File) -> None:
        """Into a folder that is there."""
        (self.folder / file.path).write_text(file.content)

    def run_command(self, command: Command) -> tuple[int, str]:
        """Its exit code and what it prints; where it changes the folder, the next one begins there."""
        script = f"set -o pipefail\n{command.command_line}\ncode=$?\npwd >&9\nexit $code"
        with open(self.folder.parent / "where", "w+") as cwd_file:
            done = subprocess.run(
                ["bash", "-c", f"exec 9>&{cwd_file.fileno()}\n{script}"],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[cwd_file.fileno()],
                text=True,
                timeout=600,
            )
            cwd_file.seek(0)
            self.folder = Path(cwd_file.read().strip() or self.folder)
        self.outputs.append((command.command_line, done.stdout))
        return done.returncode, done.stdout
