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
class RecordedRun:
    """A run or sweep that has ended, as it lies on disk.

    Attributes:
        folder: of the run or sweep.
        data_folder: with the real data.
        seconds: of the whole command.
    """

    folder: Path
    data_folder: Path
    seconds: float

    @cached_property
    def points(self) -> dict[str, dict[int, float]]:
        """Every metric's values by step."""
        values_by_metric: dict[str, dict[int, float]] = {}
        for record in journal.read_records(self.folder / journal.NAME)[0]:
            if record["kind"] == "metrics":
                for name, value in record["values"].items():
                    values_by_metric.setdefault(name, {})[record["step"]] = value
        return values_by_metric

    def get_values(self, metric: str) -> list[float]:
        """A metric's values in order."""
        return [value for _, value in sorted(self.points[metric].items())]

    def read_trials(self) -> list[RecordedRun]:
        """Those of a sweep, in order."""
        return [RecordedRun(folder, self.data_folder, 0.0) for folder in sorted((self.folder / "trials").iterdir())]


@dataclass
class Session:
    """Runs commands in a working directory.

    Attributes:
        first_runs: what came of the first run of each experiment.
    """

    workdir: Path
    data_folder: Path
    first_runs: dict[str, RecordedRun] = field(default_factory=dict)

    def run(self, *arguments: str) -> RecordedRun:
        """`expfw run` or `sweep`, without a tracker; FOLDER_WITH_... stands for real data."""
        previous_folders = set(self._list_folders())
        real_arguments = [w.replace("FOLDER_WITH_MNIST", f"{self.data_folder}/mnist") for w in arguments]
        real_arguments = [w.replace("FOLDER_WITH_CIFAR10", f"{self.data_folder}/cifar10") for w in real_arguments]
        began = time.perf_counter()
        done = subprocess.run([*EXPFW, *real_arguments, "tracker=[]"], cwd=self.workdir, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"{shlex.join(real_arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        (folder,) = set(self._list_folders()) - previous_folders
        recorded_run = RecordedRun(folder, self.data_folder, seconds)
        self.first_runs.setdefault(arguments[1].removeprefix("experiment="), recorded_run)
        return recorded_run

    def show(self, *arguments: str) -> dict[str, object]:
        """`expfw show --json`."""
        done = subprocess.run(
            [*EXPFW, "show", "--json", *arguments], cwd=self.workdir, capture_output=True, text=True, check=True
        )
        description: dict[str, object] = json.loads(done.stdout)
        return description

    def _list_folders(self) -> Iterator[Path]:
        return self.workdir.glob("runs/*-*-*/*")


@dataclass(frozen=True)
class RecipeResult:
    """A recipe, run."""

    name: str
    source: str
    command: str
    rows: list[Row]
    seconds: float
