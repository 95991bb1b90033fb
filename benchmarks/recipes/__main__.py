"""Runs every recipe by its own command and writes docs/guide/recipes.md: expected, got, command, time.

    python benchmarks/recipes --data FOLDER [--only NAME ...]

FOLDER holds `mnist/` and `cifar10/`. With `--only`, the named ones run and nothing is written.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from checks import RECIPES
from page import page
from rows import Row
from session import Done, Session

PICTURES = {"against_degree": ("polynomial", "against_model.degree"), "perceptron_weights": ("perceptron", "weights")}


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
    docs = Path(__file__).resolve().parents[2] / "docs"
    (docs / "guide" / "recipes.md").write_text(page(done))
    (docs / "images").mkdir(exist_ok=True)
    for name, (experiment, picture) in PICTURES.items():
        made = session.first[experiment].folder / "pictures" / f"{picture}.png"
        shutil.copy(made, docs / "images" / f"{name}.png")
    print(f"written: {docs / 'guide' / 'recipes.md'} and its pictures")


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
