"""Folders of fake runs and sweeps: journals, ledgers and files, without training."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from expfw.tracking import journal
from expfw.tracking.ledger import Ledger, Trial

DAY_SECONDS = 86400.0
METRIC = "val/loss"
CONFIG = {
    "dataset": {"plugin": "digits"},
    "model": {"plugin": "mlp_keras", "units": 16},
    "train": {"epochs": 3, "begin_from": None},
    "objective": {"metric": "val/loss", "mode": "min"},
    "tracker": {},
}
MLFLOW_CONFIG = {
    "mlflow": {"plugin": "mlflow", "uri": None, "experiment": "expfw", "log_model": True, "register": None}
}


def write_run(
    runs_dir: Path,
    run_id: str,
    loss: float | None = 0.5,
    status: str | None = "FINISHED",
    age: float = 0.0,
    units: int = 16,
    begin_from: str | None = None,
    folder: Path | None = None,
    tracker: Mapping[str, Any] | None = None,
    sweep: tuple[str, Path, int] | tuple[None, None, None] = (None, None, None),
    packages: Mapping[str, str] | None = None,
    **params: Any,
) -> Path:
    """Writes a run that ended `age` seconds ago; with `status=None`, its process ended before the run."""
    folder = folder or runs_dir.absolute() / "2026-01-01" / f"00-00-00-{run_id}"
    (folder / "checkpoints" / "000000003").mkdir(parents=True)
    (folder / "checkpoints" / "000000003" / "arrays.safetensors").write_bytes(bytes(5000))
    (folder / "model").mkdir()
    (folder / "model" / "weights.safetensors").write_bytes(bytes(1000))
    environment = {"expfw": "0.1.0", "packages": packages or {"tensorflow": "2.21.0"}, "plugins": {}, "git": None}
    environment["relevant_packages"] = ["tensorflow"]
    (folder / "environment.json").write_text(json.dumps(environment))
    flat_config = {"dataset.plugin": "digits", "model.plugin": "mlp_keras", "model.units": units, "seed": 0}
    flat_config |= {"objective.metric": "val/loss", "objective.mode": "min", "train.begin_from": begin_from, **params}
    start = {"id": run_id, "config": {**CONFIG, "tracker": tracker or {}}, "params": flat_config, "overrides": []}
    start |= dict(zip(("sweep_id", "sweep_folder", "trial"), sweep, strict=True))
    start |= {"name": f"units={units}", "fingerprint": f"print{run_id}", "files": {}, "environment": {}, "tags": {}}
    records = [{"kind": "run_started", **start}]
    for step in range(4 if loss is not None else 0):
        values = {"val/loss": loss + 0.1 * (3 - step), "val/accuracy": 1 - loss}
        records.append({"kind": "metrics", "step": step, "values": values})
    records.append({"kind": "info", "values": {"threads": 2}})
    if status is not None:
        records.append({"kind": "run_ended", "status": status, "error": None, "warnings": [], **_make_result(loss)})
    _write_journal(folder, records, ended_at=time.time() - age)
    return folder


def _make_result(loss: float | None) -> dict[str, Any]:
    metrics = {} if loss is None else {"val/loss": loss, "val/accuracy": 1 - loss}
    metric = None if loss is None else "val/loss"
    return {"metrics": metrics, "objective": loss, "objective_metric": metric, "seconds": 10.0}


def _write_journal(folder: Path, records: Sequence[Mapping[str, Any]], ended_at: float) -> None:
    with open(folder / journal.NAME, "w") as file:
        for number, record in enumerate(records):
            recorded_at = ended_at - 10 * (1 - number / len(records))
            file.write(json.dumps({**record, "time": recorded_at}, default=str) + "\n")


def write_sweep(
    runs_dir: Path,
    sweep_id: str,
    losses: Sequence[float | None],
    statuses: Sequence[str] | None = None,
    age: float = 0.0,
    tracker: Mapping[str, Any] | None = None,
    status: str = "FINISHED",
) -> Path:
    """Writes a sweep with the runs of its trials; see `make_trial_id` for their IDs."""
    folder, trials = runs_dir.absolute() / "2026-01-01" / f"00-00-01-{sweep_id}", []
    for number, loss in enumerate(losses):
        run_id, units = make_trial_id(sweep_id, number), 16 + number
        trial_status = statuses[number] if statuses else "FINISHED"
        trial_folder = folder / "trials" / f"{number:03d}-{run_id}"
        write_run(
            runs_dir, run_id, loss, trial_status, age, units, None, trial_folder, tracker, (sweep_id, folder, number)
        )
        result = {**_make_result(loss), "objective_metric": METRIC}
        trials.append(make_trial(number, [f"model.units={units}"], status=trial_status, run_id=run_id, **result))
    start = {"id": sweep_id, "overrides": ["model.units=1,2"], "tracker": tracker or {}}
    return write_sweep_of_trials(folder, trials, status=status, ended_at=time.time() - age, **start)


def make_trial_id(sweep_id: str, number: int) -> str:
    return f"{'abcdefghjk'[number]}t{sweep_id[:6]}"


def make_trial(number: int, swept: Sequence[str], objective: float | None = None, **other_fields: Any) -> Trial:
    """Returns a finished trial; `other_fields` replace the defaults."""
    fields = {"status": "FINISHED", "run_id": f"run{number:05d}", "seconds": 1.5, "objective_metric": METRIC}
    fields |= {"objective": objective, **other_fields}
    return Trial(number, f"print{number}", ["model=mlp_keras", *swept], swept, **fields)


def write_sweep_of_trials(
    folder: Path,
    trials: Sequence[Trial],
    mode: str = "min",
    status: str = "FINISHED",
    ended_at: float | None = None,
    **start_fields: Any,
) -> Path:
    """Writes the folder of a sweep with these trials, without their runs."""
    (folder / "ledger").mkdir(parents=True)
    for trial in trials:
        if trial.run_id is not None:
            trial = replace(trial, folder=str(folder / "trials" / f"{trial.number:03d}-{trial.run_id}"))
        Ledger(folder).write(trial)
    start = {"id": "abcd2345", "name": "mlp_keras digits", "overrides": ["model=mlp_keras", "model.units=8,16"]}
    start |= {"objective": {"metric": METRIC, "mode": mode, "take": "best"}, "files": {}, "tracker": {}, "params": {}}
    start |= {"trials": len(trials), **start_fields}
    records = [{"kind": "sweep_started", **start}, {"kind": "sweep_ended", "status": status}]
    _write_journal(folder, records, ended_at or time.time())
    return folder


def write_learning_curve(folder: Path, trial: Trial, final_value: float, point_count: int = 20) -> None:
    """Writes the journal of a trial, with curves that fall to `final_value`."""
    assert trial.folder is not None
    records: list[dict[str, Any]] = [{"kind": "run_started", "id": trial.run_id, "name": trial.name}]
    for point in range(point_count):
        value = final_value + 2 * math.exp(-4 * point / point_count)
        records.append({"kind": "metrics", "step": point * 10, "values": {METRIC: value, "train/loss": value * 0.9}})
    Path(trial.folder).mkdir(parents=True)
    _write_journal(Path(trial.folder), records, ended_at=time.time())


def write_mixed_sweep(folder: Path, count: int = 200, seed: int = 1) -> Path:
    """Writes a sweep of two models, only one with units and dropout; some trials are pruned or failed."""
    generator = random.Random(seed)
    trials, final_values = [], {}
    for number in range(count):
        model = generator.choice(["mlp_keras", "cnn"])
        rate = 10 ** generator.uniform(-5, 0)
        optimizer = generator.choice(["sgd", "adam", "rmsprop", "adagrad"])
        swept = [f"model={model}", f"model.optimizer.learning_rate={rate:.6g}", f"model.optimizer.name={optimizer}"]
        loss = 0.1 + 0.1 * (math.log10(rate) + 2.5) ** 2 + (0.2 if optimizer == "adagrad" else 0)
        if model == "mlp_keras":
            units, dropout = generator.choice([16, 32, 64, 128, 256]), generator.uniform(0, 0.6)
            swept += [f"model.units={units}", f"model.dropout={dropout:.3f}"]
            loss += 0.4 - 0.05 * math.log2(units / 16) + 0.2 * (dropout - 0.2) ** 2
        swept += [f"train.batch_size={generator.choice([32, 64, 128])}", f"seed={number % 5}"]
        loss *= generator.uniform(0.9, 1.1)
        if number % 29 == 7:
            error = "TrainingError: train/loss is nan at step 140; a smaller learning rate may help"
            trials.append(make_trial(number, swept, None, status="FAILED", error=error))
        elif number % 17 == 3:
            metrics = {"val/accuracy": 1 - loss / 3}
            trials.append(make_trial(number, swept, loss * 1.3, status="PRUNED", metrics=metrics))
        elif number == 60:
            trials.append(make_trial(number, swept, math.nan))
        else:
            metrics = {"test/accuracy": 1 - loss / 3.2, "val/accuracy": 1 - loss / 3}
            trials.append(make_trial(number, swept, loss, metrics=metrics))
        final_values[number] = loss
    write_sweep_of_trials(folder, trials, name="model=mlp_keras,cnn learning_rate=interval(1e-5, 1)")
    for trial in Ledger(folder).read_trials():
        write_learning_curve(folder, trial, final_values[trial.number], point_count=60)
    return folder
