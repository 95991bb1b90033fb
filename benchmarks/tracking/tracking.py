"""Measures the cost of tracking, in expfw and in peers, and lost points: tables of docs/reference/tracking.md.

    python benchmarks/tracking/tracking.py --data MNIST_FOLDER [--peer PYTHON] [--pairs 5] [--only cost|store|outages]

Cost: runs of 20 seconds or more, alternately with every step logged to MLflow and without logging and tracker, each in
a new process. The seconds are from the built model to the saved model, so they include saving the model and passing it
to the tracker. PYTHON is the Python of an environment with Keras, TensorFlow and MLflow; by default, the current one.
Store: four runs in parallel write 100,000 points to one SQLite store.
Outages: a real local MLflow server that is down, dies, responds with status 500, is slow or loses answers during a run.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from support.outages import CONDITIONS, find_mlflow_differences, run_training
from support.processes import run_expfw
from support.tracking_server import MLflowServer, ServerProxy

from expfw.tracking import run_index
from expfw.tracking.recorded_run import RecordedRun

PEERS = Path(__file__).with_name("tracking_peers.py")
SHARED = ("quiet=true", "callback=[checkpoint,system_metrics,classification_report]")
NETWORKS = {
    "784-50-50-10": ("model=mlp_keras", "train.epochs=60"),
    "convolutional": ("model=cnn", "dataset.scaling=unit", "train.steps=600", "train.evaluate_every.steps=400"),
}
PEER_NAMES = {"callback_step": "MLflow's callback, each step", "autolog_epoch": "autolog, each epoch"}
WITH_TRACKING, WITHOUT_TRACKING = (
    ("train.log_every=1", "tracker=[mlflow]"),
    ("train.log_every=1000000000", "tracker=[]"),
)


def measure_in_turn(
    pairs: int, measure_one: Callable[[], float], measure_other: Callable[[], float]
) -> tuple[float, float, float]:
    """Returns the medians of both and the median ratio of a pair; the order alternates between pairs."""
    timings = []
    for round_number in range(pairs):
        first, second = (measure_one, measure_other) if round_number % 2 else (measure_other, measure_one)
        a, b = first(), second()
        timings.append((a, b) if round_number % 2 else (b, a))
    medians = [statistics.median(pair[n] for pair in timings) for n in (0, 1)]
    return medians[0], medians[1], statistics.median(a / b for a, b in timings)


def measure_training(folder: Path, *options: str) -> float:
    """Returns the seconds of one run in a new process."""
    return run_training(folder, *options)[1]


def print_tracking_cost(data_folder: Path, pair_count: int, peer_python: str) -> None:
    print("| training | without, s | tracked, s | tracking adds (median of pairs) |\n| --- | --- | --- | --- |")
    for name, options in NETWORKS.items():
        shared = (*SHARED, *options, "dataset=mnist", f"dataset.path={data_folder}")
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            measure_with, measure_without = (
                partial(measure_training, folder, *shared, *more) for more in (WITH_TRACKING, WITHOUT_TRACKING)
            )
            a, b, ratio = measure_in_turn(pair_count, measure_with, measure_without)
            runs = run_index.list_runs(folder / "runs")
            saving_seconds = statistics.median(map(read_saving_seconds, runs))
        print(f"| expfw, {name}, each of {runs[0].last['steps']:,} steps | {b:.1f} | {a:.1f} | {ratio - 1:+.1%} |")
        print(f"| included: saving the model | {saving_seconds:.2f} | {saving_seconds:.2f} | |", flush=True)
    for name, label in PEER_NAMES.items():
        measure_with, measure_without = (
            partial(measure_peer, peer_python, kind, data_folder) for kind in (name, "keras")
        )
        a, b, ratio = measure_in_turn(max(1, pair_count // 2 + 1), measure_with, measure_without)
        print(f"| Keras, {label} | {b:.1f} | {a:.1f} | {ratio - 1:+.1%} |", flush=True)


def read_saving_seconds(run: RecordedRun) -> float:
    """Returns the seconds from the last metrics to the record of the saved model."""
    records = run.select("metrics", "model")
    return float(records[-1]["time"] - records[-2]["time"])


def measure_peer(python: str, name: str, data_folder: Path) -> float:
    done = subprocess.run([python, str(PEERS), name, str(data_folder)], check=True, capture_output=True, text=True)
    return float(re.findall(r"training ([0-9.]+) s", done.stdout)[-1])


def print_store_result() -> None:
    options = ("dataset=digits", "train.steps=12500", "train.log_every=1", "callback=[]", "quiet=true")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        command = [sys.executable, "-m", "expfw", "sweep", *options, "model.units=8,16,24,32", "sweep.slots=4"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        run_expfw(Path(folder), "runs", "sync")
        elapsed_seconds = time.perf_counter() - began
        runs = run_index.list_runs(Path(folder) / "runs")
        differences = [
            line for entry in runs for line in find_mlflow_differences(f"sqlite:///{folder}/runs/mlflow.db", entry)
        ]
        complete_flags = [json.loads((run.folder / "tracking" / "mlflow.json").read_text())["complete"] for run in runs]
        points = sum(len(point.values) for run in runs for point in run.points)
    print(
        f"\n{len(complete_flags)} parallel trials, {points:,} points, {elapsed_seconds:.0f} s in total; missing: "
        f"{differences or 'nothing'}."
    )


def print_outage_costs(data_folder: Path, pair_count: int) -> None:
    shared = (*SHARED, *NETWORKS["784-50-50-10"], "dataset=mnist", f"dataset.path={data_folder}", "train.log_every=1")
    print("\n| MLflow server | tracking adds (median of pairs) | missing after `runs sync` |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as root:
        server = MLflowServer(Path(root) / "server")
        server.start()
        try:
            for name in CONDITIONS:
                folder = Path(root) / name.replace(" ", "_")
                folder.mkdir()
                proxy, differences = ServerProxy(server), []
                measure_with = partial(measure_under, name, proxy, differences, folder, *shared)
                ratio = measure_in_turn(
                    pair_count, measure_with, partial(measure_training, folder, *shared, "tracker=[]")
                )[2]
                proxy.close()
                print(f"| {name} | {ratio - 1:+.1%} | {'; '.join(differences) or 'nothing'} |", flush=True)
        finally:
            server.kill()


def measure_under(condition: str, proxy: ServerProxy, differences: list[str], folder: Path, *options: str) -> float:
    """Returns the seconds of one run under a condition.

    Adds to `differences` everything that is missing in MLflow after `expfw runs sync`.
    """
    with CONDITIONS[condition](proxy):
        entry, training_seconds, _ = run_training(folder, *options, f"tracker.mlflow.uri={proxy.address}")
    run_expfw(folder, "runs", "sync")
    differences += find_mlflow_differences(proxy.address, entry)
    return training_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", choices=("cost", "store", "outages"))
    options = parser.parse_args()
    data = options.data.absolute()
    if options.only in (None, "cost"):
        print_tracking_cost(data, options.pairs, options.peer)
    if options.only in (None, "store"):
        print_store_result()
    if options.only in (None, "outages"):
        print_outage_costs(data, options.pairs)


if __name__ == "__main__":
    main()
