"""Folders of fake runs and sweeps, without training."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.cli import main
from expfw.tracking import journal, run_folders
from expfw.tracking.ledger import Ledger, Trial

DAY_SECONDS = 86400.0
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
    sweep: tuple[str, Path, int] | None = None,
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
    (folder / "environment.json").write_text(json.dumps(environment))
    config = {**CONFIG, "tracker": tracker or {}}
    flat_config = {"dataset.plugin": "digits", "model.plugin": "mlp_keras", "model.units": units, "seed": 0}
    flat_config |= {"objective.metric": "val/loss", "objective.mode": "min", "train.begin_from": begin_from, **params}
    sweep_fields = {"sweep_id": None, "sweep_folder": None, "trial": None}
    if sweep is not None:
        sweep_fields = dict(zip(sweep_fields, sweep, strict=True))
    started_at = time.time() - age - 10
    common_fields = {
        "name": f"units={units}",
        "fingerprint": f"print{run_id}",
        "files": {},
        "environment": {},
        "tags": {},
    }
    records = [
        {"kind": "run_started", "id": run_id, "config": config, "params": flat_config, "overrides": [], **sweep_fields}
    ]
    records[0] |= common_fields
    if loss is not None:
        for step in range(4):
            values = {"val/loss": loss + 0.1 * (3 - step), "val/accuracy": 1 - loss}
            records.append({"kind": "metrics", "step": step, "values": values})
    records.append({"kind": "info", "values": {"threads": 2}})
    if status is not None:
        metrics = {} if loss is None else {"val/loss": loss, "val/accuracy": 1 - loss}
        end_record = {"kind": "run_ended", "status": status, "metrics": metrics, "objective": loss, "seconds": 10.0}
        records.append(
            {**end_record, "objective_metric": None if loss is None else "val/loss", "error": None, "warnings": []}
        )
    with open(folder / journal.NAME, "w") as file:
        for number, record in enumerate(records):
            file.write(json.dumps({**record, "time": started_at + 10 * number / len(records)}, default=str) + "\n")
    return folder


def write_sweep(
    runs_dir: Path,
    sweep_id: str,
    losses: Sequence[float | None],
    statuses: Sequence[str] | None = None,
    age: float = 0.0,
    tracker: Mapping[str, Any] | None = None,
    status: str = "FINISHED",
) -> Path:
    """Writes a sweep; see `make_trial_id` for the IDs of its trials."""
    folder = runs_dir.absolute() / "2026-01-01" / f"00-00-01-{sweep_id}"
    folder.mkdir(parents=True)
    statuses = statuses or ["FINISHED"] * len(losses)
    objective = {"metric": "val/loss", "mode": "min", "take": "best"}
    start_record = {
        "kind": "sweep_started",
        "id": sweep_id,
        "name": "mlp_keras digits",
        "overrides": ["model.units=1,2"],
    }
    start_record |= {"files": [], "objective": objective, "tracker": tracker or {}, "trials": len(losses), "params": {}}
    for number, (loss, trial_status) in enumerate(zip(losses, statuses, strict=True)):
        run_id = make_trial_id(sweep_id, number)
        trial_folder = run_folders.get_trial_folder(folder, number, run_id)
        write_run(
            runs_dir,
            run_id,
            loss,
            trial_status,
            age,
            16 + number,
            None,
            trial_folder,
            tracker,
            (sweep_id, folder, number),
        )
        swept = [f"model.units={16 + number}"]
        metrics = {} if loss is None else {"val/loss": loss, "val/accuracy": 1 - loss}
        Ledger(folder).write(
            Trial(
                number,
                f"print{run_id}",
                swept,
                swept,
                trial_status,
                run_id,
                str(trial_folder),
                loss,
                "val/loss",
                metrics,
                10.0,
            )
        )
    end_record = {"kind": "sweep_ended", "status": status}
    with open(folder / journal.NAME, "w") as file:
        for record in (start_record, end_record):
            file.write(json.dumps({**record, "time": time.time() - age}) + "\n")
    return folder


def make_trial_id(sweep_id: str, number: int) -> str:
    return f"{'abcdefghjk'[number]}t{sweep_id[:6]}"


def run_expfw_in_process(*arguments: str) -> int:
    """Runs a command in this process; returns the exit code."""
    return main.run_command(lambda: main.main.main(list(arguments), standalone_mode=False))
