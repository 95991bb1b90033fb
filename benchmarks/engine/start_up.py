"""Compares the start-up of `expfw run` with the import of TensorFlow alone: docs/reference/performance.md.

    python benchmarks/engine/start_up.py --data FOLDER [--rounds 5]

FOLDER contains the four MNIST files. In each round, the import and the runs take turns. Each model has a new runs
folder in each round: its first run preprocesses the data, its second run finds them in the cache.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLOCK_PLUGIN = '''
import time
from dataclasses import dataclass

import expfw


class Clock(expfw.Callback):
    """Writes the time at the end of the first step."""

    @dataclass
    class Config:
        file: str = expfw.option("", help="file to write")

    @expfw.hookimpl
    def expfw_run_started(self, run):
        run.call_hooks_at(1)

    @expfw.hookimpl
    def expfw_steps_ended(self, run):
        if run.step == 1:
            with open(self.config.file, "w") as file:
                file.write(str(time.time()))
'''
QUICK_COMMANDS = (["--help"], ["plugins", "list"], ["run", "--cfg", "job"], ["runs", "list"])
MODELS = ("mlp_keras", "cnn")


def measure_command(command: list[str], folder: Path) -> float:
    """Returns the seconds of a command."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure_first_step(model: str, data_folder: Path, runs_dir: Path, folder: Path) -> float:
    """Returns the seconds from the start of the command to the end of the first step."""
    clock_file = folder / "first_step"
    command = [sys.executable, "-m", "expfw", "-p", str(folder / "clock.py"), "run", f"model={model}", "dataset=mnist"]
    command += [f"dataset.path={data_folder}", "train.steps=2", f"runs_dir={runs_dir}", "+callback=clock"]
    began = time.time()
    measure_command([*command, f"callback.clock.file={clock_file}"], folder)
    return float(clock_file.read_text()) - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    import_seconds: list[float] = []
    first_step_seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "clock.py").write_text(CLOCK_PLUGIN)
        measure_command([sys.executable, "-c", "import tensorflow"], folder)  # fills the cache of the operating system
        for number in range(options.rounds):
            import_seconds.append(measure_command([sys.executable, "-c", "import tensorflow"], folder))
            for model in MODELS:
                for label, runs_name in (
                    ("data not cached", f"new-{model}-{number}"),
                    ("data cached", f"new-{model}-{number}"),
                ):
                    elapsed_seconds = measure_first_step(model, options.data.absolute(), folder / runs_name, folder)
                    first_step_seconds.setdefault(f"`model={model}`, {label}", []).append(elapsed_seconds)
        print("| to the end of the first step | s, median (lowest to highest) | times the import alone |")
        print("| --- | --- | --- |")
        print(f"| `python -c 'import tensorflow'`, no step | {_format_spread(import_seconds)} | 1 |")
        for label, times in first_step_seconds.items():
            print(
                f"| {label} | {_format_spread(times)} | "
                f"{statistics.median(times) / statistics.median(import_seconds):.2f} |"
            )
        print("\n| command | s, median (lowest to highest) |\n| --- | --- |")
        for arguments in QUICK_COMMANDS:
            times = [
                measure_command([sys.executable, "-m", "expfw", *arguments], folder) for _ in range(options.rounds)
            ]
            print(f"| `expfw {' '.join(arguments)}` | {_format_spread(times)} |")


def _format_spread(times: list[float]) -> str:
    return f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"


if __name__ == "__main__":
    main()
