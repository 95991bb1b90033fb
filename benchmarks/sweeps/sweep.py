"""Compares sweeps of expfw with its peers, and runs 1,000 small trials: tables of docs/reference/performance.md.

    python benchmarks/sweeps/sweep.py --data MNIST_FOLDER --peers FOLDER --environments FOLDER
        [--only expfw|autolog|lightning|expert|many ...] [--repeats 1] [--trials 24] [--many 1000]

FOLDER of the peers holds the Hydra applications `peer_hydra_autolog.py`, `peer_lightning.py` and `peer_expert.py`
(`python SCRIPT -m data=FOLDER uri=STORE epochs=3 lr=... units=... momentum=...`). Their virtual environments are made
once, by pip, in the FOLDER of environments. All run on two cores of the machine, each in a new folder; expfw comes
first, last and between the others, so that it shows whether the machine changed meanwhile.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from performance import log, machine, versions
from sweep_stores import Stored, sqlite, stored

EPOCHS, SEED, CORES = 3, 123, 2
RATES, WIDTHS, MOMENTA = ("0.001", "0.003", "0.01", "0.03"), ("50", "100"), ("0.5", "0.8", "0.9")
HYDRA = ("mlflow==3.17.2", "hydra-core==1.3.2")
PACKAGES = {
    "keras": ("tensorflow==2.21.0", "tensorboard==2.21.0", "keras==3.15.1", *HYDRA, "hydra-joblib-launcher==1.2.0"),
    "lightning": ("torch==2.13.0", "lightning", *HYDRA),
}
SHOWN = ["tensorflow", "keras", "torch", "lightning", "mlflow", "hydra-core", "hydra-joblib-launcher"]
OURS = ("model.optimizer.learning_rate", "model.units", "model.optimizer.momentum")
THEIRS = ("lr", "units", "momentum")
TABLES = "import sys, mlflow; mlflow.MlflowClient(sys.argv[1]).search_experiments()"
"""Two joblib workers that make the tables of a store at once fail; peers find them made, before the clock runs."""
SECONDS_EACH, FLAT_MIB, LONGEST_DELIVERY_SECONDS = 0.25, 16, 600


@dataclass(frozen=True)
class Contender:
    """Who sweeps.

    Attributes:
        label: what the table calls it; wanted: how many times faster expfw should be, at least.
        script, environment: of a peer; more: further arguments.
    """

    label: str
    script: str = ""
    environment: str = ""
    more: tuple[str, ...] = ()
    wanted: float | None = None

    @property
    def params(self) -> tuple[str, ...]:
        return THEIRS if self.script else OURS

    @property
    def metric(self) -> str:
        return "test_accuracy" if self.script else "test/accuracy"


@dataclass
class Outcome:
    """What came of one contender's sweeps."""

    seconds: list[float] = field(default_factory=list)
    trials: list[list[Stored]] = field(default_factory=list)


JOBLIB = ("hydra/launcher=joblib", f"hydra.launcher.n_jobs={CORES}")
PICTURES = ("callback.pictures.trials=true",)
CONTENDERS = {
    "expfw": Contender("expfw"),
    "pictures": Contender("expfw, with pictures of each trial", more=PICTURES),
    "autolog": Contender("Hydra, Keras, autolog", "peer_hydra_autolog.py", "keras", wanted=15),
    "lightning": Contender("Hydra, Lightning, its MLflow logger", "peer_lightning.py", "lightning", wanted=6),
    "expert": Contender("Hydra, Keras by an expert, 2 joblib workers", "peer_expert.py", "keras", JOBLIB, wanted=2),
}


class CommandError(Exception):
    """A command that did not end well; what it said last."""


def grid(trials: int) -> tuple[Sequence[str], ...]:
    """So many combinations of a few values each."""
    for momenta in range(1, len(MOMENTA) + 1):
        for widths in range(1, len(WIDTHS) + 1):
            rates, left = divmod(trials, momenta * widths)
            if not left and 1 <= rates <= len(RATES):
                return RATES[:rates], WIDTHS[:widths], MOMENTA[-momenta:]
    raise SystemExit(f"there is no grid of {trials} trials; expected a number such as 2, 8 or 24")


def interpreter(environments: Path, name: str) -> str:
    """That of a peer's environment, which is made if it is not there."""
    folder = environments.absolute() / f"peer-{name}"
    python = str(folder / "bin" / "python")
    if not (folder / "ready").exists():
        log.print(f"making {folder}", highlight=False)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES[name]], check=True)
        (folder / "ready").touch()
    return python


def sweep(one: Contender, folder: Path, options: argparse.Namespace) -> tuple[float, list[Stored]]:
    """Seconds until all is in MLflow, and what is there."""
    values = grid(options.trials)
    swept = [f"{name}={','.join(some)}" for name, some in zip(one.params, values, strict=True)]
    data = options.data.absolute()
    if one.script:
        script = str(options.peers.absolute() / one.script)
        command = [interpreter(options.environments, one.environment), script, "-m", *one.more]
        uri, experiment = sqlite(folder / "peer.db"), "peer"
        command += [f"data={data}", f"uri={uri}", f"epochs={EPOCHS}", f"seed={SEED}", *swept]
    else:
        command = [sys.executable, "-m", "expfw", "sweep", "model=mlp_keras", "dataset=mnist", f"dataset.path={data}"]
        command += [f"train.epochs={EPOCHS}", f"seed={SEED}", *one.more, *swept]
        (folder / "runs").mkdir()
        uri, experiment = sqlite(folder / "runs" / "mlflow.db"), "expfw"
    tables = [command[0], "-c", TABLES, uri]  # once in the life of a database; nobody's sweep pays for it
    subprocess.run(tables, cwd=folder, check=True, capture_output=True)
    seconds = timed(command, folder)
    return seconds, stored(uri, experiment, one.params, one.metric)


def timed(command: list[str], folder: Path, resident: dict[int, float] | None = None) -> float:
    """Seconds of a command and of the deliveries that it leaves to go on behind it.

    Args:
        resident: gets the MiB of its process when so many trials had begun.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    with open(folder / "output.txt", "wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        try:
            while resident is not None and process.poll() is None:
                resident.setdefault(len(list(folder.glob("runs/*/*/trials/*"))), _mib(process.pid))
                time.sleep(1)
            code = process.wait()
        finally:
            process.terminate()
        while any(folder.glob("runs/.shipping/*")) and time.perf_counter() - began < LONGEST_DELIVERY_SECONDS:
            time.sleep(0.1)
        seconds = time.perf_counter() - began
    if code:
        raise CommandError(f"{' '.join(command)}\n{(folder / 'output.txt').read_text()[-3000:]}\nended with {code}")
    return seconds


def _mib(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss / 2**20)
    except psutil.NoSuchProcess:
        return 0.0


def compare(names: Sequence[str], options: argparse.Namespace) -> None:
    """Each in turn, expfw once more behind each of the others; prints the tables."""
    found: dict[str, Outcome] = {}
    missed: list[str] = []
    others = [name for name in names if name != "expfw"] * options.repeats
    ours = ["expfw"] if "expfw" in names else []
    turns = [*ours, *(one for other in others for one in (other, *ours))] if others else ours * options.repeats
    for name in turns:
        with tempfile.TemporaryDirectory() as folder:
            try:
                seconds, trials = sweep(CONTENDERS[name], Path(folder), options)
            except CommandError as error:
                log.print(f"{name}: {error}", highlight=False, markup=False)
                missed.append(f"{CONTENDERS[name].label} failed")
                continue
        log.print(f"{name}: {seconds:.1f} s, {len(trials)} trials", highlight=False)
        found.setdefault(name, Outcome()).seconds.append(seconds)
        found[name].trials.append(trials)
    print(f"| sweep of {options.trials} trials, {EPOCHS} epochs each | s, each time | times expfw's median |", end="")
    print(" test accuracy, mean (lowest to highest) | furthest from expfw's, same options | complete in MLflow |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, outcome in found.items():
        print(_row(CONTENDERS[name], outcome, found.get("expfw")), flush=True)
    _print_goals([*missed, *(x for name, one in found.items() for x in _missed(name, one, found, options.trials))])
    for environment in sorted({CONTENDERS[name].environment for name in names}):
        python = interpreter(options.environments, environment) if environment else sys.executable
        print(f"{environment or 'Ours'}: {versions(python, SHOWN)}.")


def _row(one: Contender, outcome: Outcome, ours: Outcome | None) -> str:
    accuracies = _accuracies(one, outcome)
    spread = f"{statistics.mean(accuracies):.4f} ({min(accuracies):.4f} to {max(accuracies):.4f})" if accuracies else ""
    furthest = f"{_furthest(one, outcome, ours):.4f}" if ours else ""
    complete = ", ".join(f"{sum(not t.lacking for t in trials)} of {len(trials)}" for trials in outcome.trials)
    seconds = ", ".join(f"{one:.1f}" for one in outcome.seconds)
    return f"| {one.label} | {seconds} | {_ratio(outcome, ours)} | {spread} | {furthest} | {complete} |"


def _ratio(outcome: Outcome, ours: Outcome | None) -> str:
    return f"{statistics.median(outcome.seconds) / statistics.median(ours.seconds):.2f}" if ours else ""


def _accuracies(one: Contender, outcome: Outcome) -> list[float]:
    return [trial.metrics[one.metric] for trials in outcome.trials for trial in trials if one.metric in trial.metrics]


def _furthest(one: Contender, outcome: Outcome, ours: Outcome) -> float:
    """The largest difference between two trials of the same options; their random initial weights differ."""
    theirs, first = (_by_options(c, o) for c, o in ((one, outcome), (CONTENDERS["expfw"], ours)))
    return max((abs(theirs[key] - first[key]) for key in theirs.keys() & first.keys()), default=float("nan"))


def _by_options(one: Contender, outcome: Outcome) -> dict[tuple[float, ...], float]:
    return {
        tuple(map(float, trial.options)): trial.metrics[one.metric]
        for trial in outcome.trials[-1]
        if one.metric in trial.metrics and all(trial.options)
    }


def _missed(name: str, outcome: Outcome, found: dict[str, Outcome], trials: int) -> Iterator[str]:
    one, ours = CONTENDERS[name], found.get("expfw")
    for number, some in enumerate(outcome.trials, start=1):
        lacking = [f"{' '.join(t.options)}: {', '.join(t.lacking)}" for t in some if t.lacking]
        if len(some) != trials or lacking:
            yield f"{one.label}, time {number}: {len(some)} of {trials} trials in MLflow; {'; '.join(lacking)}"
    if ours and one.wanted is not None and float(_ratio(outcome, ours)) < one.wanted:
        yield f"{one.label}: {_ratio(outcome, ours)} times expfw's seconds, wanted at least {one.wanted:g}"
    means = [statistics.mean(_accuracies(c, o)) for c, o in ((one, outcome), (CONTENDERS["expfw"], ours)) if o]
    if max(means) - min(means) > 0.01:
        yield f"{one.label}: mean accuracy {means[0]:.4f}, that of expfw {means[-1]:.4f}"


def many(trials: int) -> None:
    """So many trials of one epoch of the smallest model; prints seconds of each, memory and what MLflow has."""
    resident: dict[int, float] = {}
    command = [sys.executable, "-m", "expfw", "sweep", "dataset=line", "model=ols", "train.epochs=1"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = timed([*command, f"seed=range({trials})"], folder, resident)
        found = stored(sqlite(folder / "runs" / "mlflow.db"), "expfw", ("seed",), "train/epoch_loss")
    complete = len({trial.options for trial in found if not trial.lacking})
    marks = {mark: _at(resident, mark) for mark in sorted({trials // 10, trials // 2, trials})}
    print(f"\n| {trials:,} trials of `ols`, one epoch each | |\n| --- | --- |")
    print(f"| seconds, until all is in MLflow | {seconds:.1f} |\n| seconds of each | {seconds / trials:.3f} |")
    for mark, mib in marks.items():
        print(f"| MiB of the command's process at trial {mark:,} | {mib:.0f} |")
    print(f"| complete in MLflow, with metrics, parameters and model | {complete:,} |")
    missed = [f"{trial.options}: {', '.join(trial.lacking)}" for trial in found if trial.lacking][:5]
    if complete != trials or len(found) != trials:
        missed.append(f"{complete:,} of {trials:,} trials are complete in MLflow, which has {len(found):,}")
    if seconds / trials > SECONDS_EACH:
        missed.append(f"{seconds / trials:.3f} s for each trial, wanted at most {SECONDS_EACH}")
    if max(marks.values()) - min(marks.values()) > FLAT_MIB:
        missed.append(f"the memory of the command's process is not flat: {marks}")
    _print_goals(missed)


def _at(resident: dict[int, float], trial: int) -> float:
    """What was measured when so many trials had begun, or last before."""
    return next((resident[count] for count in sorted(resident, reverse=True) if 0 < count <= trial), 0.0)


def _print_goals(missed: Sequence[str]) -> None:
    print("\nMissed:" if missed else "\nNo goal was missed.", *(f"\n- {line}" for line in missed), "\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--environments", type=Path)
    parser.add_argument("--only", action="append", choices=[*CONTENDERS, "many"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--many", type=int, default=1000)
    options = parser.parse_args()
    names = [name for name in CONTENDERS if name in (options.only or CONTENDERS)]
    if any(CONTENDERS[name].script for name in names) and not (options.peers and options.environments):
        parser.error("the peers need --peers and --environments; or choose with --only expfw --only many")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # and all that is started from here
    print(f"Machine: {machine()}.\n")
    if names:
        compare(names, options)
    if "many" in (options.only or ["many"]):
        many(options.many)


if __name__ == "__main__":
    main()
