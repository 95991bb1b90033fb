"""Kills a real run by SIGKILL at random moments, lets it go on until it is done, and compares everything.

    python benchmarks/engine/kills.py [--kills 20] [--seed 0]

First as many runs as asked for, each killed once, at a moment of its own: in training, in an evaluation, while a
checkpoint is forced to disk, while its arrays are written, while a line is written to the journal, between epochs. Then
one run that is killed at all of these moments, one after the other. Compared with a run that was left alone: every
metric at every step, the trained weights, the last checkpoint with all its arrays, what callbacks remember, why the run
stopped, and MLflow's history, point by point. Prints a table in Markdown.
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

MOST = {"training": 3000, "evaluation": 30, "checkpoint": 40, "arrays": 7, "journal": 12, "epoch": 5}


def moments(count: int, seed: int) -> list[str]:
    """Where and when, all places equally often."""
    made = random.Random(seed)
    places = [list(MOST)[number % len(MOST)] for number in range(count)]
    return [f"{place}:{made.randint(1, MOST[place])}" for place in places]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chosen = moments(options.kills, options.seed)
    began = time.monotonic()
    exact = 0
    with tempfile.TemporaryDirectory(prefix="expfw-kills-") as root:
        reference = kill_runs.uninterrupted(folder(root, "reference"))
        print(f"Left alone: {reference.last['steps']} steps, {reference.last['epochs']} epochs.\n")
        print("| run | killed at | died | differences |\n| --- | --- | --- | --- |")
        for number, moment in enumerate(chosen):
            entry, died = kill_runs.killed(folder(root, f"{number}"), [moment])
            found = kill_runs.differences(reference, entry)
            exact += bool(died) and not found
            print(f"| {number + 1} | {moment} | {died} | {'; '.join(found[:3]) or 'none'} |", flush=True)
        entry, died = kill_runs.killed(folder(root, "all"), chosen)
        found = kill_runs.differences(reference, entry)
        print(f"| all in one | {len(chosen)} moments | {died} | {'; '.join(found[:3]) or 'none'} |")
    print(f"\n{exact} of {len(chosen)} bit-identical, in {time.monotonic() - began:.0f} s.")
    return 0 if exact == len(chosen) and not found else 1


def folder(root: str, name: str) -> Path:
    made = Path(root) / name
    made.mkdir()
    return made


if __name__ == "__main__":
    sys.exit(main())
