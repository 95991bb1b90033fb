"""Measures what tracking costs a training, here and in peers, and lost points: tables of docs/reference/tracking.md.

    python benchmarks/tracking/tracking.py --data MNIST_FOLDER [--peer PYTHON] [--pairs 5] [--only cost|store|outages]

Cost: trainings of 20 seconds or more, with every step logged to MLflow and with neither logging nor tracker, in turn,
each in a process of its own; seconds are from the built model to the saved one, so that saving and handing over the
model is within. PYTHON is that of an environment with Keras, TensorFlow and MLflow, by default ours.
Store: four trainings at a time write 100,000 points into one SQLite store.
Outages: a real MLflow server on the loopback that is down, dies, answers 500 or is slow while a run trains.
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
from support.outages import CONDITIONS, lacking, sync, trained
from support.tracking_server import Gate, MLflowServer

from expfw.tracking import journal, run_index

PEERS = Path(__file__).with_name("tracking_peers.py")
SHARED = ("quiet=true", "callback=[checkpoint,system_metrics,classification_report]")
NETWORKS = {
    "784-50-50-10": ("model=mlp_keras", "train.epochs=60"),
    "convolutional": ("model=cnn", "dataset.scaling=unit", "train.steps=600", "train.evaluate_every.steps=400"),
}
PEER_NAMES = {"callback_step": "MLflow's callback, each step", "autolog_epoch": "autolog, each epoch"}
EVERY, NOTHING = ("train.log_every=1", "tracker=[mlflow]"), ("train.log_every=1000000000", "tracker=[]")


def alternated(pairs: int, one: Callable[[], float], other: Callable[[], float]) -> tuple[float, float, float]:
    """Medians of both, and of the ratio within a pair; each goes first as often as the other."""
    found = []
    for number in range(pairs):
        first, second = (one, other) if number % 2 else (other, one)
        a, b = first(), second()
        found.append((a, b) if number % 2 else (b, a))
    medians = [statistics.median(pair[n] for pair in found) for n in (0, 1)]
    return medians[0], medians[1], statistics.median(a / b for a, b in found)


def seconds(folder: Path, *options: str) -> float:
    """Of one training in a process of its own."""
    return trained(folder, *options)[1]


def cost(data: Path, pairs: int, peer: str) -> None:
    print("| training | without, s | tracked, s | tracking adds (median of pairs) |\n| --- | --- | --- | --- |")
    for name, options in NETWORKS.items():
        shared = (*SHARED, *options, "dataset=mnist", f"dataset.path={data}")
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            with_it, without = (partial(seconds, folder, *shared, *more) for more in (EVERY, NOTHING))
            a, b, ratio = alternated(pairs, with_it, without)
            runs = list(run_index.runs(folder / "runs"))
            saving = statistics.median(map(saving_seconds, runs))
        print(f"| expfw, {name}, each of {runs[0].last['steps']:,} steps | {b:.1f} | {a:.1f} | {ratio - 1:+.1%} |")
        print(f"| of it, waiting for the model to be saved | {saving:.2f} | {saving:.2f} | |", flush=True)
    for name, what in PEER_NAMES.items():
        with_it, without = (partial(peer_seconds, peer, kind, data) for kind in (name, "keras"))
        a, b, ratio = alternated(max(1, pairs // 2 + 1), with_it, without)
        print(f"| Keras, {what} | {b:.1f} | {a:.1f} | {ratio - 1:+.1%} |", flush=True)


def saving_seconds(entry: run_index.Entry) -> float:
    """From the last metrics to the record that gives the saved model to the tracker."""
    records = [r for r in journal.read(entry.folder / journal.NAME)[0] if r["kind"] in ("metrics", "model")]
    return float(records[-1]["time"] - records[-2]["time"])


def peer_seconds(python: str, name: str, data: Path) -> float:
    done = subprocess.run([python, str(PEERS), name, str(data)], check=True, capture_output=True, text=True)
    return float(re.findall(r"training ([0-9.]+) s", done.stdout)[-1])


def store() -> None:
    options = ("dataset=digits", "train.steps=12500", "train.log_every=1", "callback=[]", "quiet=true")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        command = [sys.executable, "-m", "expfw", "sweep", *options, "model.units=8,16,24,32", "sweep.slots=4"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        sync(Path(folder))
        spent = time.perf_counter() - began
        runs = list(run_index.runs(Path(folder) / "runs"))
        missing = [line for entry in runs for line in lacking(f"sqlite:///{folder}/runs/mlflow.db", entry)]
        kept = [json.loads((run.folder / "tracking" / "mlflow.json").read_text())["complete"] for run in runs]
        points = sum(len(v) for run in runs for _, v in journal.points(run.folder / journal.NAME))
    print(f"\n{len(kept)} trials at a time, {points:,} points, {spent:.0f} s in all; lacking: {missing or 'nothing'}.")


def outages(data: Path, pairs: int) -> None:
    shared = (*SHARED, *NETWORKS["784-50-50-10"], "dataset=mnist", f"dataset.path={data}", "train.log_every=1")
    print("\n| the server | tracking adds (median of pairs) | after `runs sync` MLflow lacks |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as root:
        server = MLflowServer(Path(root) / "server")
        server.start()
        try:
            for name in CONDITIONS:
                folder = Path(root) / name.replace(" ", "_")
                folder.mkdir()
                gate, missing = Gate(server), []
                with_it = partial(under, name, gate, missing, folder, *shared)
                ratio = alternated(pairs, with_it, partial(seconds, folder, *shared, "tracker=[]"))[2]
                gate.close()
                print(f"| {name} | {ratio - 1:+.1%} | {'; '.join(missing) or 'nothing'} |", flush=True)
        finally:
            server.kill()


def under(condition: str, gate: Gate, missing: list[str], folder: Path, *options: str) -> float:
    """Seconds of one training under that condition; what MLflow lacks after `expfw runs sync` goes to `missing`."""
    with CONDITIONS[condition](gate):
        entry, spent, _ = trained(folder, *options, f"tracker.mlflow.uri={gate.address}")
    sync(folder)
    missing += lacking(gate.address, entry)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", choices=("cost", "store", "outages"))
    options = parser.parse_args()
    data = options.data.absolute()
    if options.only in (None, "cost"):
        cost(data, options.pairs, options.peer)
    if options.only in (None, "store"):
        store()
    if options.only in (None, "outages"):
        outages(data, options.pairs)


if __name__ == "__main__":
    main()
