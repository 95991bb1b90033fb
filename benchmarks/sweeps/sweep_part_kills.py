"""Kills single processes of real sweeps, and pairs of them, and compares the tables of trials.

    python benchmarks/sweeps/sweep_part_kills.py [--sweeps grid search] [--seed 0]

The processes are the command, the fork server, the shipper and the trial that trains: each alone and each pair, with
SIGKILL, at a random moment of a grid and of a TPE search, so 20 sweeps. If the command ends early,
`expfw sweeps resume` finishes the sweep, and `expfw runs sync` the delivery. Each sweep is compared with an
uninterrupted one: numbers, names, fingerprints, statuses, objectives and every metric of every trial, to the bit.
Each journal must have each point once, and its end as the last record; MLflow must contain each trial once, finished,
under one parent. Without a killed trial, there must be no second attempt. No temporary file may be left. Prints a table
in Markdown.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from support import kill_sweeps

SWEEPS = {"grid": kill_sweeps.GRID, "search": kill_sweeps.SEARCH}
MAX_DELAY_SECONDS = 4.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, parts = random.Random(options.seed), [*((name,) for name in kill_sweeps.PARTS), *kill_sweeps.PAIRS]
    cases, same_count = [(kind, names) for kind in options.sweeps for names in parts], 0
    with tempfile.TemporaryDirectory(prefix="kills-") as root:

        def make_folder(name: str) -> Path:
            folder = Path(root) / name
            folder.mkdir()
            return folder

        references = {
            kind: kill_sweeps.run_uninterrupted(make_folder(kind), *SWEEPS[kind])[0] for kind in options.sweeps
        }
        print("| sweep | killed | delay | differences |\n| --- | --- | --- | --- |")
        for number, (kind, names) in enumerate(cases):
            folder, delay = make_folder(str(number)), chance.uniform(0.0, MAX_DELAY_SECONDS)
            faults = kill_sweeps.kill_and_compare(folder, SWEEPS[kind], names, references[kind], delay)
            same_count += not faults
            print(f"| {kind} | {' and '.join(names)} | {delay:.1f} s | {'; '.join(faults) or 'none'} |", flush=True)
    print(f"\n{same_count} of {len(cases)} have no differences.")
    return 0 if same_count == len(cases) else 1


if __name__ == "__main__":
    sys.exit(main())
