"""Kills real runs with SIGKILL at random moments, resumes them to the end and compares all results.

    python benchmarks/engine/kills.py [--kills 20] [--seed 0]

First, it kills each of `--kills` runs once, each at a different moment: during training, during an evaluation, while a
checkpoint is forced to disk, while its arrays are written, while a line is written to the journal, or between epochs.
Then it kills a single run at all these moments, one after the other. It compares each run with an uninterrupted run:
every metric at every step, the trained weights, the last checkpoint with all its arrays, the state of callbacks, the
stop reason, and MLflow's history, point by point. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from support import kill_runs

MAX_COUNTS = {"training": 3000, "evaluation": 30, "checkpoint": 40, "arrays": 7, "journal": 12, "epoch": 5}


def draw_moments(count: int, seed: int) -> list[str]:
    """Draws the place and the count of each kill; all places are equally frequent."""
    generator = random.Random(seed)
    places = [list(MAX_COUNTS)[number % len(MAX_COUNTS)] for number in range(count)]
    return [f"{place}:{generator.randint(1, MAX_COUNTS[place])}" for place in places]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = draw_moments(options.kills, options.seed)
    began = time.monotonic()
    identical_count = 0
    with tempfile.TemporaryDirectory(prefix="expfw-kills-") as root:
        reference = kill_runs.run_uninterrupted(make_folder(root, "reference"))
        print(f"Uninterrupted: {reference.last['steps']} steps, {reference.last['epochs']} epochs.\n")
        print("| run | killed at | kills | differences |\n| --- | --- | --- | --- |")
        for number, moment in enumerate(moments):
            entry, kill_count = kill_runs.run_with_kills(make_folder(root, f"{number}"), [moment])
            differences = kill_runs.find_differences(reference, entry)
            identical_count += bool(kill_count) and not differences
            print(f"| {number + 1} | {moment} | {kill_count} | {'; '.join(differences[:3]) or 'none'} |", flush=True)
        entry, kill_count = kill_runs.run_with_kills(make_folder(root, "all"), moments)
        differences = kill_runs.find_differences(reference, entry)
        print(f"| all in one | {len(moments)} moments | {kill_count} | {'; '.join(differences[:3]) or 'none'} |")
    print(f"\n{identical_count} of {len(moments)} bit-identical, in {time.monotonic() - began:.0f} s.")
    return 0 if identical_count == len(moments) and not differences else 1


def make_folder(root: str, name: str) -> Path:
    path = Path(root) / name
    path.mkdir()
    return path


if __name__ == "__main__":
    sys.exit(main())
