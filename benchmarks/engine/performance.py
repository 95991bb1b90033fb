"""Compares the engine with other training loops: the tables of docs/reference/performance.md.

    python benchmarks/engine/performance.py --data FOLDER [--loops SCRIPT] [--peer NAME=PYTHON ...] [--rounds 3]

FOLDER contains the four MNIST files. The contenders take turns, each in a new process. The first epoch of each process
is reported separately; the median is over all other epochs of all rounds. `--peer` sets the Python of a peer's
environment. Keras runs with the current Python, unless `--peer keras=PYTHON` is given. SCRIPT times other loops
(`python SCRIPT torch FOLDER`) and prints `... epoch N X s`.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from machine import describe_machine, format_versions, log

CONTENDERS = Path(__file__).with_name("contenders.py")
MLP = ["engine_loss", "keras_loss", "engine_everything", "keras_everything", "engine_accuracy", "keras_accuracy"]
CNN = ["engine_cnn", "engine_cnn_bfloat16", "keras_cnn"]
RATIOS = [
    ("loss only: Keras fit / engine", "keras_loss", "engine_loss", "at least 4.5"),
    ("loss only: PyTorch / engine", "torch", "engine_loss", "at least 1.7"),
    ("loss only: engine / JAX scan", "engine_loss", "jax", "at most 1.25"),
    ("accuracy: Keras fit / engine", "keras_accuracy", "engine_accuracy", ""),
    ("accuracy, validation, callbacks: Keras fit / engine", "keras_everything", "engine_everything", "at least 3.5"),
    ("CNN: Keras fit / engine", "keras_cnn", "engine_cnn", "at least 1"),
    ("CNN: Keras fit float32 / engine bfloat16", "keras_cnn", "engine_cnn_bfloat16", "at least 1.4"),
]


@dataclass
class EpochSeconds:
    """Seconds per epoch of one contender."""

    first_epochs: list[float] = field(default_factory=list)
    later_epochs: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.later_epochs)

    def add_output(self, output: str) -> None:
        seconds = [float(text) for text in re.findall(r"epoch.* ([0-9.]+) s", output)]
        self.first_epochs.append(seconds[0])
        self.later_epochs += seconds[1:]


def run_command(command: list[str]) -> str:
    """Runs a command; returns its output."""
    log.print(" ".join(command[-3:]), highlight=False)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--loops", type=Path)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    data = str(options.data.absolute())
    peers = dict(peer.split("=", 1) for peer in options.peer)
    keras = peers.pop("keras", sys.executable)
    commands = {
        name: [keras if name.startswith("keras") else sys.executable, str(CONTENDERS), name, data]
        for name in [*MLP, *CNN]
    }
    if options.loops:
        commands |= {name: [python, str(options.loops), name, data] for name, python in peers.items()}
    times = {name: EpochSeconds() for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            times[name].add_output(run_command(command))
    print_report(times)
    print("\n| CNN, validation accuracy after 1,000 steps, three seeds | |\n| --- | --- |")
    for precision in ("float32", "bfloat16"):
        output = run_command([sys.executable, str(CONTENDERS), f"accuracy_{precision}", data])
        print(f"| {precision} | {', '.join(re.findall(r'accuracy ([0-9.]+)', output))} |")
    print(
        f"\nMachine: {describe_machine()}.\nexpfw: {format_versions(sys.executable, ['tensorflow', 'keras', 'numpy'])}."
    )
    for name, python in {"keras": keras, **peers}.items():
        print(f"{name}: {format_versions(python, ['tensorflow', 'keras', 'torch', 'jax', 'optax', 'lightning'])}.")


def print_report(times: dict[str, EpochSeconds]) -> None:
    print("| contender | s per epoch, median (lowest to highest) | first epoch, s, with building and tracing |")
    print("| --- | --- | --- |")
    for name, epoch_seconds in times.items():
        spread = (
            f"{epoch_seconds.median:.3f} ({min(epoch_seconds.later_epochs):.3f} to "
            f"{max(epoch_seconds.later_epochs):.3f})"
        )
        print(f"| {name} | {spread} | {statistics.median(epoch_seconds.first_epochs):.2f} |")
    print("\n| ratio of medians | measured | target |\n| --- | --- | --- |")
    for label, numerator, denominator, goal in RATIOS:
        if numerator in times and denominator in times:
            print(f"| {label} | {times[numerator].median / times[denominator].median:.2f} | {goal} |")
    engine = times["engine_loss"]
    first_epoch_overhead = statistics.median(engine.first_epochs) - engine.median
    print(f"| engine: first epoch minus a later epoch, s | {first_epoch_overhead:.2f} | at most 0.8 |")


if __name__ == "__main__":
    main()
