"""Runs every recipe, each by its own command, and writes docs/recipes.md: expected, got, difference, command, time.

    python benchmarks/recipes.py --data FOLDER [--only NAME ...]

FOLDER holds `mnist/` and `cifar10/`. With `--only`, the named ones run and nothing is written.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from recipe_checks import RECIPES
from recipe_page import page
from recipe_rows import Row

from expfw import journal

PICTURES = {"against_degree": ("polynomial", "against_model.degree"), "perceptron_weights": ("perceptron", "weights")}
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


def measured(name: str, source: str, command: str, check: Callable[..., list[Row]], session: Session) -> Done:
    """Runs one recipe and compares; what goes wrong is a row that is missed."""
    began = time.perf_counter()
    try:
        rows = check(session, shlex.split(command.removeprefix("expfw ")))
    except Exception as error:  # the other recipes shall run, and the page say what went wrong with this one
        traceback.print_exc()
        text = " ".join(f"{type(error).__name__}: {error}".split())
        rows = [Row("all of it", "runs", text[:300].replace("|", "/"), "", False)]
    return Done(name, source, command, rows, time.perf_counter() - began)


def write(session: Session, done: list[Done]) -> None:
    """The page, and the pictures that README shows."""
    docs = Path(__file__).resolve().parent.parent / "docs"
    (docs / "recipes.md").write_text(page(done))
    (docs / "pictures").mkdir(exist_ok=True)
    for name, (experiment, picture) in PICTURES.items():
        made = session.first[experiment].folder / "pictures" / f"{picture}.png"
        shutil.copy(made, docs / "pictures" / f"{name}.png")
    print(f"written: {docs / 'recipes.md'} and its pictures")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[])
    options = parser.parse_args()
    all_done = []
    with tempfile.TemporaryDirectory(prefix="expfw-recipes-") as work:
        session = Session(Path(work), options.data.absolute())
        for name, recipe in RECIPES.items():
            if options.only and name not in options.only:
                continue
            done = measured(name, recipe.source, recipe.command, recipe.check, session)
            all_done.append(done)
            print(f"{name}  {done.seconds:.0f} s", flush=True)
            for row in done.rows:
                print(
                    f"  {'met   ' if row.met else 'MISSED'}  {row.what}: {row.got} (expected {row.expected})",
                    flush=True,
                )
        if not options.only:
            write(session, all_done)
    return 0 if all(row.met for done in all_done for row in done.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
