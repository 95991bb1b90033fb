"""Runs the command of a recipe and reads its results."""

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
    """A run or sweep that has ended, read from disk.

    Attributes:
        folder: folder of the run or sweep.
        data_folder: folder of the real data.
        seconds: wall time of the command.
    """

    folder: Path
    data_folder: Path
    seconds: float

    @cached_property
    def points(self) -> dict[str, dict[int, float]]:
        """Values of each metric by step."""
        values_by_metric: dict[str, dict[int, float]] = {}
        for record in journal.read_records(self.folder / journal.NAME)[0]:
            if record["kind"] == "metrics":
                for name, value in record["values"].items():
                    values_by_metric.setdefault(name, {})[record["step"]] = value
        return values_by_metric

    def get_values(self, metric: str) -> list[float]:
        """Returns the values of a metric in order of steps."""
        return [value for _, value in sorted(self.points[metric].items())]

    def read_trials(self) -> list[RecordedRun]:
        """Returns the trials of a sweep in order."""
        return [RecordedRun(folder, self.data_folder, 0.0) for folder in sorted((self.folder / "trials").iterdir())]


@dataclass
class Session:
    """Runs commands in a working directory.

    Attributes:
        workdir: working directory of the commands.
        data_folder: folder of the real data.
        first_runs: first run of each experiment, by its name.
    """

    workdir: Path
    data_folder: Path
    first_runs: dict[str, RecordedRun] = field(default_factory=dict)

    def run(self, *arguments: str) -> RecordedRun:
        """Runs `expfw run` or `sweep` without a tracker; replaces FOLDER_WITH_... by folders of real data."""
        previous_folders = set(self._list_folders())
        real_arguments = [w.replace("FOLDER_WITH_MNIST", f"{self.data_folder}/mnist") for w in arguments]
        real_arguments = [w.replace("FOLDER_WITH_CIFAR10", f"{self.data_folder}/cifar10") for w in real_arguments]
        began = time.perf_counter()
        done = subprocess.run([*EXPFW, *real_arguments, "tracker=[]"], cwd=self.workdir, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(
                f"{shlex.join(real_arguments)} failed with exit code {done.returncode}:\n{done.stderr[-2000:]}"
            )
        (folder,) = set(self._list_folders()) - previous_folders
        recorded_run = RecordedRun(folder, self.data_folder, seconds)
        self.first_runs.setdefault(arguments[1].removeprefix("experiment="), recorded_run)
        return recorded_run

    def show(self, *arguments: str) -> dict[str, object]:
        """Returns the output of `expfw show --json`."""
        done = subprocess.run(
            [*EXPFW, "show", "--json", *arguments], cwd=self.workdir, capture_output=True, text=True, check=True
        )
        description: dict[str, object] = json.loads(done.stdout)
        return description

    def _list_folders(self) -> Iterator[Path]:
        return self.workdir.glob("runs/*-*-*/*")


@dataclass(frozen=True)
class RecipeResult:
    """Result of a recipe."""

    name: str
    source: str
    command: str
    rows: list[Row]
    seconds: float
