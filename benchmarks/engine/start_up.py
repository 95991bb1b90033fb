"""Measures the start-up of `expfw run` against the bare import of TensorFlow: docs/reference/performance.md.

    python benchmarks/engine/start_up.py --data FOLDER [--rounds 5]

FOLDER holds the four MNIST files. In each round the bare import and the runs take turns; runs write to a folder of
their own, so that the first one finds no preprocessed data and the others do.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLOCK = '''
import time
from dataclasses import dataclass

import expfw


class Clock(expfw.Callback):
    """Writes down when the first step had ended."""

    @dataclass
    class Config:
        file: str = expfw.option("", help="where to")

    @expfw.hookimpl
    def expfw_run_started(self, run):
        run.wake_at(1)

    @expfw.hookimpl
    def expfw_steps_ended(self, run):
        if run.step == 1:
            with open(self.config.file, "w") as file:
                file.write(str(time.time()))
'''
QUICK = (["--help"], ["plugins", "list"], ["run", "--cfg", "job"], ["runs", "list"])
MODELS = ("mlp_keras", "cnn")


def seconds(command: list[str], folder: Path) -> float:
    """Of a whole command."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def to_first_step(model: str, data: Path, runs: Path, folder: Path) -> float:
    """Seconds from the start of the command to the end of the run's first step."""
    clock = folder / "first_step"
    command = [sys.executable, "-m", "expfw", "-p", str(folder / "clock.py"), "run", f"model={model}", "dataset=mnist"]
    command += [f"dataset.path={data}", "train.steps=2", f"runs_dir={runs}", "+callback=clock"]
    began = time.time()
    seconds([*command, f"callback.clock.file={clock}"], folder)
    return float(clock.read_text()) - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    bare: list[float] = []
    steps: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "clock.py").write_text(CLOCK)
        seconds([sys.executable, "-c", "import tensorflow"], folder)  # reads it from the disk
        for number in range(options.rounds):
            bare.append(seconds([sys.executable, "-c", "import tensorflow"], folder))
            for model in MODELS:
                for what, runs in (
                    ("data not kept yet", f"new-{model}-{number}"),
                    ("data kept", f"new-{model}-{number}"),
                ):
                    took = to_first_step(model, options.data.absolute(), folder / runs, folder)
                    steps.setdefault(f"`model={model}`, {what}", []).append(took)
        print("| to the end of the first step | s, median (lowest to highest) | times the bare import |")
        print("| --- | --- | --- |")
        print(f"| `python -c 'import tensorflow'`, no step | {_spread(bare)} | 1 |")
        for what, times in steps.items():
            print(f"| {what} | {_spread(times)} | {statistics.median(times) / statistics.median(bare):.2f} |")
        print("\n| command | s, median (lowest to highest) |\n| --- | --- |")
        for arguments in QUICK:
            times = [seconds([sys.executable, "-m", "expfw", *arguments], folder) for _ in range(options.rounds)]
            print(f"| `expfw {' '.join(arguments)}` | {_spread(times)} |")


def _spread(times: list[float]) -> str:
    return f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"


if __name__ == "__main__":
    main()
