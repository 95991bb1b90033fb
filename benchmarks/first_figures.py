"""The figures of the README, measured on this machine: start-up, one sweep.

    python benchmarks/first_figures.py --data FOLDER [--peer SCRIPT ...]

FOLDER holds the four MNIST files. A SCRIPT is a Hydra application that does the same sweep
(`python SCRIPT -m data=FOLDER epochs=3 lr=... units=...`); it runs with the same Python.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EPOCHS, REPEATS = 3, 5
RATES, WIDTHS = "0.001,0.003,0.01,0.03", "50,100"


def seconds(command: list[str], cwd: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def start_up(cwd: str) -> None:
    print("| command | seconds (median of five) |\n| --- | --- |")
    for arguments in (["--help"], ["plugins", "list"], ["run", "--cfg", "job"]):
        times = [seconds([sys.executable, "-m", "expfw", *arguments], cwd) for _ in range(REPEATS)]
        print(f"| `expfw {' '.join(arguments)}` | {statistics.median(times):.2f} |")


def sweeps(data: Path, peers: list[Path], cwd: str) -> None:
    print(f"\n| sweep of 8 trials, {EPOCHS} epochs each | seconds |\n| --- | --- |")
    ours = [f"model.optimizer.learning_rate={RATES}", f"model.units={WIDTHS}", f"train.epochs={EPOCHS}"]
    command = [sys.executable, "-m", "expfw", "sweep", "model=mlp_keras", "dataset=mnist", f"dataset.path={data}"]
    print(f"| expfw | {seconds([*command, *ours], cwd):.1f} |")
    for peer in peers:
        theirs = ["-m", f"data={data}", f"epochs={EPOCHS}", f"lr={RATES}", f"units={WIDTHS}"]
        print(f"| {peer.stem} | {seconds([sys.executable, str(peer), *theirs], cwd):.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer", type=Path, action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start_up(folder)
        sweeps(options.data.absolute(), [peer.absolute() for peer in options.peer], folder)


if __name__ == "__main__":
    main()
