"""Executes a page of the documentation: writes its files, runs its commands and compares their output.

A `python` block begins with a comment that contains the path of a file. The rest of the block is the content of the
file. A `console` block contains commands after `$` and the output below each command; `...` matches any lines or any
part of a line. In a `console` block below `<!-- varies -->`, each number and each run ID matches any other, and the
lines can have any order. A command must succeed, unless its output on the page contains `failed` or a line that begins
with `expfw: `. If its output contains the line `^C`, it is interrupted after its first line of output.

A run of the page has another folder and ID than the run here. Later commands and files use the ones from here.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

_BLOCK = re.compile(r"^(<!-- varies -->\n)?```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LAYOUT_PATTERNS = {"─+": "─", r"[^\S\n]+": " "}
_VARYING_PATTERNS = {r"\b[a-z0-9]{8}\b": "RUN", r"-?\d[\d,]*(\.\d+)?(e[-+]?\d+)?": "NUMBER"}
_RUN_NAMES = r"\b\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-\w{8}\b", r"\bexpfw (?:runs|sweeps) \w+ (\w{8})\b"
"""Patterns of run folders and of run IDs."""
_ELLIPSIS, _CTRL_C = "...", "^C"


@dataclass(frozen=True)
class Command:
    """A command of the page and its expected output."""

    line: int
    command_line: str
    expected_output: str
    is_varying: bool
    is_interrupted: bool = False


@dataclass(frozen=True)
class File:
    """A file of the page with its content."""

    line: int
    path: str
    content: str


def parse_steps(page: str) -> Iterator[Command | File]:
    """Yields the commands and files of a page in order."""
    for block in _BLOCK.finditer(page):
        line, text = page.count("\n", 0, block.start(3)) + 1, block[3]
        if block[2] == "python":
            path = text.splitlines()[0].removeprefix("# ")
            yield File(line, path, text.partition("\n")[2])
        else:
            for command in re.finditer(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
                output = command[2].replace(f"{_CTRL_C}\n", "")
                command_line_number = line + text.count("\n", 0, command.start())
                yield Command(command_line_number, command[1], output, bool(block[1]), output != command[2])


def is_expected_output(expected: str, printed: str, is_varying: bool) -> bool:
    """Returns whether the output matches the page."""
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
    """Returns the lines without column widths and blank lines."""
    for pattern, name in {**(_VARYING_PATTERNS if is_varying else {}), **_LAYOUT_PATTERNS}.items():
        text = re.sub(pattern, name, text)
    return [line.strip() for line in text.splitlines() if line.strip()]


@dataclass
class PageRunner:
    """Executes pages, beginning in an empty folder."""

    folder: Path
    environment: Mapping[str, str]
    outputs: list[tuple[str, str]] = field(default_factory=list)
    run_names: dict[str, str] = field(default_factory=dict)

    def run_page(self, page: Path) -> None:
        """Executes all steps; fails at the first difference from the page."""
        for step in parse_steps(page.read_text()):
            if isinstance(step, File):
                self.write_file(replace(step, content=self._replace_run_names(step.content)))
                continue
            code, output = self.run_command(replace(step, command_line=self._replace_run_names(step.command_line)))
            is_expected = is_expected_output(step.expected_output, output, step.is_varying)
            expects_failure = re.search(r"\bfailed\b|^expfw: ", step.expected_output, re.MULTILINE) is not None
            assert (is_expected, code != 0) == (True, expects_failure), (
                f"{page.name}:{step.line}: $ {step.command_line}\nexit code {code}, output:\n{output}\n"
                f"expected:\n{step.expected_output}"
            )
            for pattern in _RUN_NAMES:
                names_here = re.findall(pattern, output)
                self.run_names.update(zip(re.findall(pattern, step.expected_output), names_here, strict=False))

    def _replace_run_names(self, text: str) -> str:
        for name_on_page in sorted(self.run_names, key=len, reverse=True):  # a folder contains the ID
            text = text.replace(name_on_page, self.run_names[name_on_page])
        return text

    def write_file(self, file: File) -> None:
        """Writes a file to an existing folder."""
        (self.folder / file.path).write_text(file.content)

    def run_command(self, command: Command) -> tuple[int, str]:
        """Returns the exit code and the output; the next command starts in the folder where this one ended."""
        script = f"set -o pipefail\n{command.command_line}\ncode=$?\npwd >&9\nexit $code"
        with open(self.folder.parent / "where", "w+") as cwd_file:
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "pass_fds": [cwd_file.fileno()]}
            command_line = ["bash", "-c", f"exec 9>&{cwd_file.fileno()}\n{script}"]
            # in a new session, so the signal reaches only this command
            with subprocess.Popen(
                command_line, cwd=self.folder, env=self.environment, text=True, start_new_session=True, **pipes
            ) as process:
                output = process.stdout.readline()
                if command.is_interrupted:
                    os.killpg(process.pid, signal.SIGINT)
                output += process.stdout.read()
            cwd_file.seek(0)
            self.folder = Path(cwd_file.read().strip() or self.folder)
        self.outputs.append((command.command_line, output))
        return process.returncode, output
