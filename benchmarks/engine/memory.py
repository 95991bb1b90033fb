"""Measures memory for data larger than the memory budget, and the loading time of cached data.

    python benchmarks/engine/memory.py [--gib 6] [--data MNIST_FOLDER]

Writes a .npz file of bytes to a temporary folder; `--gib` is the size of its preprocessed float32 samples. Trains one
epoch on it with default options in a new process. Memory is the private memory of the process (RssAnon). Pages of a
mapped file do not count: they belong to the cache of the operating system, which can free them.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FEATURES, PORTIONS = 4096, 10
CHILD_SCRIPT = """
import re, sys
import expfw
from expfw.config.compose import compose
from expfw.runs.one_run import execute; from expfw.runs.request import prepare_run

class Memory(expfw.Callback):
    @expfw.hookimpl
    def expfw_run_started(self, run):
        self.print_memory(run)
    @expfw.hookimpl
    def expfw_steps_ended(self, run):
        every = run.total_steps // {portions}
        if run.step % every == 0:
            self.print_memory(run)
        run.call_hooks_at((run.step // every + 1) * every)
    def print_memory(self, run):
        status = open("/proc/self/status").read()
        own = int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]) / 1024
        print("memory", run.step, round(own), flush=True)
        run.call_hooks_at(1)

overrides = sys.argv[1:]
config = compose(overrides)
execute(prepare_run(config), [Memory(None, "memory")])
"""


def write_archive(path: Path, gib: float) -> int:
    """Writes an uncompressed archive in chunks; returns the number of samples."""
    import zipfile

    samples = int(gib * 2**30 / (FEATURES * 4))
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, samples)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("y_train.npy", "w") as file:
            np.lib.format.write_array(file, labels)
        with archive.open("x_train.npy", "w", force_zip64=True) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (samples, FEATURES)}
            np.lib.format.write_array_header_1_0(file, header)
            for begin in range(0, samples, 4096):
                count = min(4096, samples - begin)
                file.write(generator.integers(0, 256, (count, FEATURES), np.uint8).tobytes())
    return samples


def measure_training(*overrides: str) -> tuple[list[tuple[int, int]], float]:
    """Trains in a new process; returns (step, MiB) at several steps, and the seconds of the process."""
    began = time.perf_counter()
    command = [sys.executable, "-c", CHILD_SCRIPT.format(portions=PORTIONS), "tracker=[]", "callback=[]", *overrides]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    memory_by_step = [(int(step), int(mib)) for step, mib in re.findall(r"memory (\d+) (\d+)", done.stdout)]
    return memory_by_step, time.perf_counter() - began


def measure_large_data(folder: Path, gib: float) -> None:
    samples = write_archive(folder / "large.npz", gib)
    shared = (f"dataset.path={folder / 'large.npz'}", "dataset=npz", "dataset.scaling=unit", "model=mlp_keras")
    shared = (*shared, "train.epochs=1", "train.batch_size=256", f"runs_dir={folder / 'runs'}", "dataset.validation=0")
    memory_by_step, seconds = measure_training(*shared)
    print(f"{samples:,} samples, {gib} GiB preprocessed, budget 4 GiB, one epoch in {seconds:.0f} s\n")
    print("| step | private memory, MiB |\n| --- | --- |")
    for step, mib in memory_by_step:
        print(f"| {step} | {mib} |")
    later_memory = [(step, mib) for step, mib in memory_by_step if step > 1]
    (first_step, first), (last_step, last) = later_memory[0], later_memory[-1]
    print(f"\nGrowth from step {first_step} to step {last_step}: {last - first:+d} MiB.")


def measure_loading(folder: Path, data: Path) -> None:
    from expfw.config.compose import compose
    from expfw.config.run_plugins import make_plugins
    from expfw.plugins.catalogue import get_catalogue

    config = compose(["dataset=mnist", f"dataset.path={data}", f"runs_dir={folder / 'runs'}", "model=mlp_keras"])
    (dataset,) = make_plugins(config, get_catalogue(), kinds=("dataset",))
    print("\n| MNIST | s |\n| --- | --- |")
    for label in ("loaded and preprocessed", "loaded again", "loaded again"):
        began = time.perf_counter()
        dataset.expfw_load_data(config=config)  # type: ignore[attr-defined]
        print(f"| {label} | {time.perf_counter() - began:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=6.0)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure_large_data(Path(folder), options.gib)
        if options.data:
            measure_loading(Path(folder), options.data.absolute())


if __name__ == "__main__":
    main()
