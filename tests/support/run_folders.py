"""Folders of runs and sweeps that nobody ran, as runs leave them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.cli import main
from expfw.tracking import journal, run_folders
from expfw.tracking.ledger import Ledger, Trial

DAY = 86400.0
CONFIG = {
    "dataset": {"plugin": "digits"},
    "model": {"plugin": "mlp_keras", "units": 16},
    "train": {"epochs": 3, "begin_from": None},
    "objective": {"metric": "val/loss", "mode": "min"},
    "tracker": {},
}
MLFLOW = {"mlflow": {"plugin": "mlflow", "uri": None, "experiment": "expfw", "log_model": True, "register": None}}


def run(
    runs_dir: Path,
    identity: str,
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
    """One run that ended `age` seconds ago; `status=None`: its process is gone before the end."""
    folder = folder or runs_dir.absolute() / "2026-01-01" / f"00-00-00-{identity}"
    (folder / "checkpoints" / "000000003").mkdir(parents=True)
    (folder / "checkpoints" / "000000003" / "arrays.safetensors").write_bytes(bytes(5000))
    (folder / "model").mkdir()
    (folder / "model" / "weights.safetensors").write_bytes(bytes(1000))
    surroundings = {"expfw": "0.1.0", "packages": packages or {"tensorflow": "2.21.0"}, "plugins": {}, "git": None}
    (folder / "environment.json").write_text(json.dumps(surroundings))
    config = {**CONFIG, "tracker": tracker or {}}
    flat = {"dataset.plugin": "digits", "model.plugin": "mlp_keras", "model.units": units, "seed": 0}
    flat |= {"objective.metric": "val/loss", "objective.mode": "min", "train.begin_from": begin_from, **params}
    whose = {"sweep_id": None, "sweep_folder": None, "trial": None}
    if sweep is not None:
        whose = dict(zip(whose, sweep, strict=True))
    began = time.time() - age - 10
    common = {"name": f"units={units}", "fingerprint": f"print{identity}", "files": {}, "environment": {}, "tags": {}}
    lines = [{"kind": "run_started", "id": identity, "config": config, "params": flat, "overrides": [], **whose}]
    lines[0] |= common
    if loss is not None:
        for step in range(4):
            values = {"val/loss": loss + 0.1 * (3 - step), "val/accuracy": 1 - loss}
            lines.append({"kind": "metrics", "step": step, "values": values})
    lines.append({"kind": "facts", "values": {"threads": 2}})
    if status is not None:
        metrics = {} if loss is None else {"val/loss": loss, "val/accuracy": 1 - loss}
        end = {"kind": "run_ended", "status": status, "metrics": metrics, "objective": loss, "seconds": 10.0}
        lines.append({**end, "objective_metric": None if loss is None else "val/loss", "error": None, "warnings": []})
    with open(folder / journal.NAME, "w") as file:
        for number, line in enumerate(lines):
            file.write(json.dumps({**line, "time": began + 10 * number / len(lines)}, default=str) + "\n")
    return folder


def sweep(
    runs_dir: Path,
    identity: str,
    losses: Sequence[float | None],
    statuses: Sequence[str] | None = None,
    age: float = 0.0,
    tracker: Mapping[str, Any] | None = None,
    status: str = "FINISHED",
) -> Path:
    """One sweep; see `trial_id` for the ids of its trials."""
    folder = runs_dir.absolute() / "2026-01-01" / f"00-00-01-{identity}"
    folder.mkdir(parents=True)
    statuses = statuses or ["FINISHED"] * len(losses)
    objective = {"metric": "val/loss", "mode": "min", "take": "best"}
    began = {"kind": "sweep_started", "id": identity, "name": "mlp_keras digits", "overrides": ["model.units=1,2"]}
    began |= {"files": [], "objective": objective, "tracker": tracker or {}, "trials": len(losses), "params": {}}
    for number, (loss, how) in enumerate(zip(losses, statuses, strict=True)):
        one = trial_id(identity, number)
        place = run_folders.trial_folder(folder, number, one)
        run(runs_dir, one, loss, how, age, 16 + number, None, place, tracker, (identity, folder, number))
        swept = [f"model.units={16 + number}"]
        metrics = {} if loss is None else {"val/loss": loss, "val/accuracy": 1 - loss}
        Ledger(folder).write(
            Trial(number, f"print{one}", swept, swept, how, one, str(place), loss, "val/loss", metrics, 10.0)
        )
    end = {"kind": "sweep_ended", "status": status}
    with open(folder / journal.NAME, "w") as file:
        for line in (began, end):
            file.write(json.dumps({**line, "time": time.time() - age}) + "\n")
    return folder


def trial_id(identity: str, number: int) -> str:
    return f"{'abcdefghjk'[number]}t{identity[:6]}"


def typed(*arguments: str) -> int:
    """Runs a command in this process, which imports no TensorFlow for it; returns the exit code."""
    return main.guarded(lambda: main.main.main(list(arguments), standalone_mode=False))
