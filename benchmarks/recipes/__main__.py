"""Runs every recipe with its command and writes docs/guide/recipes.md: expected and actual values, command, time.

    python benchmarks/recipes --data FOLDER [--only NAME ...]
    python benchmarks/recipes --check

FOLDER contains `mnist/` and `cifar10/`. With `--only`, only the named recipes run and no page is written. With
`--check`, no recipe runs; the exit code is 1 if the engine has changed since the page was written.
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
from page import PAGE, is_page_current, render_page
from rows import Row
from session import RecipeResult, Session

PICTURES = {"against_degree": ("polynomial", "against_model.degree"), "perceptron_weights": ("perceptron", "weights")}


def run_recipe(name: str, source: str, command: str, check: Callable[..., list[Row]], session: Session) -> RecipeResult:
    """Runs one recipe and checks its values; an error becomes a failed row."""
    began = time.perf_counter()
    try:
        rows = check(session, shlex.split(command.removeprefix("expfw ")))
    except Exception as error:  # the other recipes still run; the page shows this error
        traceback.print_exc()
        text = " ".join(f"{type(error).__name__}: {error}".split())
        rows = [Row("recipe", "completed", text[:300].replace("|", "/"), "", False)]
    return RecipeResult(name, source, command, rows, time.perf_counter() - began)


def write_page(session: Session, results: list[RecipeResult]) -> None:
    """Writes the page, and the pictures that the README shows."""
    PAGE.write_text(render_page(results))
    images = PAGE.parents[1] / "images"
    images.mkdir(exist_ok=True)
    for name, (experiment, picture) in PICTURES.items():
        picture_path = session.first_runs[experiment].folder / "pictures" / f"{picture}.png"
        shutil.copy(picture_path, images / f"{name}.png")
    print(f"wrote {PAGE} and its pictures")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.check:
        if not is_page_current():
            print("out of date: recipes.md, the engine has changed; to update: python benchmarks/recipes --data FOLDER")
        return 0 if is_page_current() else 1
    if options.data is None:
        parser.error("--data is missing; expected --data FOLDER, or --check")
    results = []
    with tempfile.TemporaryDirectory(prefix="expfw-recipes-") as workdir:
        session = Session(Path(workdir), options.data.absolute())
        for name, recipe in RECIPES.items():
            if options.only and name not in options.only:
                continue
            result = run_recipe(name, recipe.source, recipe.command, recipe.check, session)
            results.append(result)
            print(f"{name}  {result.seconds:.0f} s", flush=True)
            for row in result.rows:
                print(
                    f"  {'met    ' if row.is_met else 'NOT MET'}  {row.label}: {row.actual} (expected {row.expected})",
                    flush=True,
                )
        if not options.only:
            write_page(session, results)
    return 0 if all(row.is_met for result in results for row in result.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
