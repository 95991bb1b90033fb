"""Runs the command of a recipe, and reads what came of it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rows import Row

from expfw.tracking import journal

EXPFW = [sys.executable, "-P", "-m", "expfw"]


@dataclass(frozen=True)
class Outcome:
    """A run or sweep that has ended, as it lies on disk.

    Attributes:
        folder: of the run or sweep.
        data: with the real data.
        seconds: of the whole command.
    """

    folder: Path
    data: Path
    seconds: float

    @cached_property
    def points(self) -> dict[str, dict[int, float]]:
        """Every metric's values by step."""
        found: dict[str, dict[int, float]] = {}
        for record in journal.read(self.folder / journal.NAME)[0]:
            if record["kind"] == "metrics":
                for name, value in record["values"].items():
                    found.setdefault(name, {})[record["step"]] = value
        return found

    def values(self, metric: str) -> list[float]:
        """A metric's values in order."""
        return [value for _, value in sorted(self.points[metric].items())]

    def trials(self) -> list[Outcome]:
        """Those of a sweep, in order."""
        return [Outcome(folder, self.data, 0.0) for folder in sorted((self.folder / "trials").iterdir())]


@dataclass
class Session:
    """Runs commands in a working directory.

    Attributes:
        first: what came of the first run of each experiment.
    """

    work: Path
    data: Path
    first: dict[str, Outcome] = field(default_factory=dict)

    def run(self, *words: str) -> Outcome:
        """`expfw run` or `sweep`, without a tracker; FOLDER_WITH_... stands for real data."""
        before = set(self._folders())
        real = [w.replace("FOLDER_WITH_MNIST", f"{self.data}/mnist") for w in words]
        real = [w.replace("FOLDER_WITH_CIFAR10", f"{self.data}/cifar10") for w in real]
        began = time.perf_counter()
        done = subprocess.run([*EXPFW, *real, "tracker=[]"], cwd=self.work, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"{shlex.join(real)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        (made,) = set(self._folders()) - before
        outcome = Outcome(made, self.data, seconds)
        self.first.setdefault(words[1].removeprefix("experiment="), outcome)
        return outcome

    def show(self, *words: str) -> dict[str, object]:
        """`expfw show --json`."""
        done = subprocess.run(
            [*EXPFW, "show", "--json", *words], cwd=self.work, capture_output=True, text=True, check=True
        )
        shown: dict[str, object] = json.loads(done.stdout)
        return shown

    def _folders(self) -> Iterator[Path]:
        return self.work.glob("runs/*-*-*/*")


@dataclass(frozen=True)
class Done:
    """A recipe, run."""

    name: str
    source: str
    command: str
    rows: list[Row]
    seconds: float
