"""Measures the cost of checkpoints during training.

    python benchmarks/engine/checkpoints.py --data MNIST_FOLDER [--rounds 5]

Trains the convolutional network (3.3 million parameters, Adam: 37 MiB of state) on MNIST for 400 steps of 64 samples,
alternately with a checkpoint every 100 steps and without checkpoints. Then does the same with the network
784-1024-1024-10. The seconds are from step 20 to the end of the last step, without start-up. The table also shows how
long a checkpoint pauses the training (the copy in memory), and how long the thread takes to write it and force it to
disk.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CHILD_SCRIPT = """
import json, sys, time
import expfw
from expfw.api import checkpoints
from expfw.config.compose import compose
from expfw.runs.one_run import execute; from expfw.runs.request import prepare_run

class Clock(expfw.Callback):
    began = spent = 0.0
    @expfw.hookimpl
    def expfw_run_started(self, run):
        run.call_hooks_at(20)
    @expfw.hookimpl
    def expfw_steps_ended(self, run):
        if run.step == 20:
            self.began = time.perf_counter()
    @expfw.hookimpl
    def expfw_safe_point(self, run):
        self.spent = time.perf_counter() - self.began

paused, written, size = [], [], []
snapshot, write = expfw.Run.snapshot, checkpoints.Snapshot.write
def timed_snapshot(self, model):
    began = time.perf_counter()
    copy = snapshot(self, model)
    paused.append(time.perf_counter() - began)
    return copy
def timed_write(self, folder):
    began = time.perf_counter()
    path = write(self, folder)
    written.append(time.perf_counter() - began)
    size.append(sum(array.nbytes for array in self.model.arrays.values()))
    return path
expfw.Run.snapshot, checkpoints.Snapshot.write = timed_snapshot, timed_write
clock = Clock(None, "clock")
execute(prepare_run(compose(sys.argv[1:])), [clock])
print(json.dumps({"spent": clock.spent, "paused": paused, "written": written, "bytes": size}))
"""
MODELS = {
    "cnn": ("model=cnn",),
    "784-1024-1024-10": ("model=mlp_keras", "model.units=1024", "model.optimizer.name=adam"),
}
CHECKPOINT_OVERRIDES = ("callback=[checkpoint]", "callback.checkpoint.every.steps=100")


def run_training(data_folder: Path, *overrides: str) -> dict[str, list[float]]:
    """Trains once in a new process and returns its timings."""
    shared = (
        "dataset=mnist",
        f"dataset.path={data_folder}",
        "tracker=[]",
        "train.steps=420",
        "train.evaluate_every.epochs=9",
    )
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", CHILD_SCRIPT, *shared, f"runs_dir={folder}/runs", "quiet=true", *overrides]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    timings: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return timings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| network | state | without | with 4 | training paused for each | written in |\n" + "| --- " * 6 + "|")
    for name, model in MODELS.items():
        pairs = [
            (
                run_training(options.data, *model, "callback=[]"),
                run_training(options.data, *model, *CHECKPOINT_OVERRIDES),
            )
            for _ in range(options.rounds)
        ]
        seconds_without, seconds_with = (statistics.median(pair[n]["spent"] for pair in pairs) for n in (0, 1))
        pause_seconds, write_seconds = (
            statistics.median(value for _, pair in pairs for value in pair[key]) for key in ("paused", "written")
        )
        mib = pairs[0][1]["bytes"][0] / 2**20
        print(
            f"| {name} | {mib:.0f} MiB | {seconds_without:.2f} s | {seconds_with:.2f} s "
            f"({seconds_with / seconds_without - 1:+.1%}) | "
            f"{1000 * pause_seconds:.0f} ms | {1000 * write_seconds:.0f} ms |",
            flush=True,
        )


if __name__ == "__main__":
    main()
