"""Contenders of the sweep benchmark: expfw and its peers, each in a separate environment."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sweep_stores import StoredRun, make_sqlite_uri, read_stored_runs

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from machine import log

EPOCHS, SEED, CORES = 3, 123, 2
RATES, WIDTHS, MOMENTA = ("0.001", "0.003", "0.01", "0.03"), ("50", "100"), ("0.5", "0.8", "0.9")
HYDRA_PACKAGES = ("mlflow==3.17.2", "hydra-core==1.3.2")
PACKAGES = {
    "keras": (
        "tensorflow==2.21.0",
        "tensorboard==2.21.0",
        "keras==3.15.1",
        *HYDRA_PACKAGES,
        "hydra-joblib-launcher==1.2.0",
    ),
    "lightning": ("torch==2.13.0", "lightning", *HYDRA_PACKAGES),
}
REPORTED_PACKAGES = ["tensorflow", "keras", "torch", "lightning", "mlflow", "hydra-core", "hydra-joblib-launcher"]
EXPFW_PARAMS = ("model.optimizer.learning_rate", "model.units", "model.optimizer.momentum")
PEER_PARAMS = ("lr", "units", "momentum")
CREATE_TABLES_CODE = "import sys, mlflow; mlflow.MlflowClient(sys.argv[1]).search_experiments()"
"""Creates the tables of a store before the clock starts; two joblib workers that create them at once fail."""
MAX_SECONDS_PER_TRIAL, MAX_MEMORY_GROWTH_MIB, MAX_DELIVERY_SECONDS = 0.25, 16, 600


@dataclass(frozen=True)
class Contender:
    """A program that runs the sweep.

    Attributes:
        label: name in the table.
        script: file name of a peer's script; empty for expfw.
        environment: name of a peer's environment; empty for expfw.
        extra_arguments: additional arguments of the command.
        min_ratio: smallest expected ratio of the contender's time to expfw's time; None without an expectation.
    """

    label: str
    script: str = ""
    environment: str = ""
    extra_arguments: tuple[str, ...] = ()
    min_ratio: float | None = None

    @property
    def params(self) -> tuple[str, ...]:
        return PEER_PARAMS if self.script else EXPFW_PARAMS

    @property
    def metric(self) -> str:
        return "test_accuracy" if self.script else "test/accuracy"


@dataclass
class SweepResults:
    """Results of one contender's sweeps."""

    seconds: list[float] = field(default_factory=list)
    trials: list[list[StoredRun]] = field(default_factory=list)


JOBLIB_ARGUMENTS = ("hydra/launcher=joblib", f"hydra.launcher.n_jobs={CORES}")
PICTURE_ARGUMENTS = ("callback.pictures.trials=true",)
CONTENDERS = {
    "expfw": Contender("expfw"),
    "pictures": Contender("expfw, with pictures of each trial", extra_arguments=PICTURE_ARGUMENTS),
    "autolog": Contender("Hydra, Keras, autolog", "peer_hydra_autolog.py", "keras", min_ratio=15),
    "lightning": Contender("Hydra, Lightning, its MLflow logger", "peer_lightning.py", "lightning", min_ratio=6),
    "expert": Contender(
        "Hydra, Keras by an expert, 2 joblib workers", "peer_expert.py", "keras", JOBLIB_ARGUMENTS, min_ratio=2
    ),
}


class CommandError(Exception):
    """A command failed; the message contains its last output."""


def make_grid(trials: int) -> tuple[Sequence[str], ...]:
    """Returns the values of each parameter for a grid of this many trials."""
    for momenta in range(1, len(MOMENTA) + 1):
        for widths in range(1, len(WIDTHS) + 1):
            rates, remainder = divmod(trials, momenta * widths)
            if not remainder and 1 <= rates <= len(RATES):
                return RATES[:rates], WIDTHS[:widths], MOMENTA[-momenta:]
    raise SystemExit(f"--trials is {trials}; expected the size of a grid, such as 2, 8 or 24")


def prepare_interpreter(environments: Path, name: str) -> str:
    """Returns the Python of a peer's environment; creates the environment if it is missing."""
    folder = environments.absolute() / f"peer-{name}"
    python = str(folder / "bin" / "python")
    if not (folder / "ready").exists():
        log.print(f"creating {folder}", highlight=False)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES[name]], check=True)
        (folder / "ready").touch()
    return python


def run_sweep(contender: Contender, folder: Path, options: argparse.Namespace) -> tuple[float, list[StoredRun]]:
    """Runs a sweep; returns the seconds until all trials are in MLflow, and the runs there."""
    values = make_grid(options.trials)
    swept = [
        f"{name}={','.join(parameter_values)}" for name, parameter_values in zip(contender.params, values, strict=True)
    ]
    data = options.data.absolute()
    if contender.script:
        script = str(options.peers.absolute() / contender.script)
        command = [
            prepare_interpreter(options.environments, contender.environment),
            script,
            "-m",
            *contender.extra_arguments,
        ]
        uri, experiment = make_sqlite_uri(folder / "peer.db"), "peer"
        command += [f"data={data}", f"uri={uri}", f"epochs={EPOCHS}", f"seed={SEED}", *swept]
    else:
        command = [sys.executable, "-m", "expfw", "sweep", "model=mlp_keras", "dataset=mnist", f"dataset.path={data}"]
        command += [f"train.epochs={EPOCHS}", f"seed={SEED}", *contender.extra_arguments, *swept]
        (folder / "runs").mkdir()
        uri, experiment = make_sqlite_uri(folder / "runs" / "mlflow.db"), "expfw"
    tables = [command[0], "-c", CREATE_TABLES_CODE, uri]  # once per database; not part of the measured time
    subprocess.run(tables, cwd=folder, check=True, capture_output=True)
    seconds = measure_command(command, folder)
    return seconds, read_stored_runs(uri, experiment, contender.params, contender.metric)


def measure_command(command: list[str], folder: Path, memory_by_trial: dict[int, float] | None = None) -> float:
    """Returns the seconds of a command, including deliveries that continue after its end.

    Args:
        command: command to run.
        folder: working directory.
        memory_by_trial: filled with the MiB of the process by the number of trials that had started.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    with open(folder / "output.txt", "wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        try:
            while memory_by_trial is not None and process.poll() is None:
                memory_by_trial.setdefault(
                    len(list(folder.glob("runs/*/*/trials/*"))), _measure_memory_mib(process.pid)
                )
                time.sleep(1)
            code = process.wait()
        finally:
            process.terminate()
        while any(folder.glob("runs/.delivery/*")) and time.perf_counter() - began < MAX_DELIVERY_SECONDS:
            time.sleep(0.1)
        seconds = time.perf_counter() - began
    if code:
        raise CommandError(
            f"{' '.join(command)}\n{(folder / 'output.txt').read_text()[-3000:]}\nfailed with exit code {code}"
        )
    return seconds


def _measure_memory_mib(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss / 2**20)
    except psutil.NoSuchProcess:
        return 0.0
