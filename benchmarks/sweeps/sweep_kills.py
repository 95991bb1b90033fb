"""Kills real sweeps with all their processes, resumes them and compares the tables of trials.

    python benchmarks/sweeps/sweep_kills.py [--kills 20] [--seed 0]

Half of the sweeps are grids, half are TPE searches. Each is killed once with SIGKILL: the main process, the fork
server, the trial processes and the shipper process. The moments are spread over the whole duration. `expfw sweeps
resume` then resumes the sweep, and `expfw runs sync` the delivery. It is compared with an uninterrupted sweep as in
`sweep_part_kills.py`. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from support import kill_sweeps
from support.processes import start_expfw

SWEEPS = {"grid": kill_sweeps.GRID, "search": kill_sweeps.SEARCH}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    same_count = 0
    with tempfile.TemporaryDirectory(prefix="expfw-kills-") as root:
        references = {}
        for name, overrides in SWEEPS.items():
            references[name] = kill_sweeps.run_uninterrupted(make_folder(root, name), *overrides)
            print(f"{name}, uninterrupted: {references[name][1]:.0f} s.")
        print("\n| sweep | killed after | trials started | differences |\n| --- | --- | --- | --- |")
        for number in range(options.kills):
            name = list(SWEEPS)[number % len(SWEEPS)]
            reference, seconds = references[name]
            moment = seconds * (number + chance.random()) / options.kills
            started_trials, differences = kill_and_compare(
                make_folder(root, str(number)), SWEEPS[name], moment, reference
            )
            same_count += differences == "none"
            print(f"| {name} | {moment:.1f} s | {started_trials} | {differences} |", flush=True)
    print(f"\n{same_count} of {options.kills} have the same table.")
    return 0 if same_count == options.kills else 1


def make_folder(root: str, name: str) -> Path:
    folder = Path(root) / name
    folder.mkdir()
    return folder


def kill_and_compare(workdir: Path, overrides: tuple[str, ...], moment: float, reference: object) -> tuple[int, str]:
    """Kills and resumes a sweep; returns the number of trials started before the kill, and the differences."""
    process = start_expfw(workdir, "sweep", *overrides)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        kill_sweeps.kill_process_tree(process)
    entry = kill_sweeps.get_only_sweep(workdir)
    if entry is None:
        return 0, "none"
    started_count = len(list(entry.folder.glob("trials/*")))
    kill_sweeps.finish_sweep(workdir)
    return started_count, "; ".join(kill_sweeps.find_faults(workdir, ("trial",), reference)) or "none"


if __name__ == "__main__":
    sys.exit(main())
