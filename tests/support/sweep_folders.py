"""Folders of fake sweeps: journals and ledger, without training."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from expfw.tracking import journal, run_folders
from expfw.tracking.ledger import Ledger, Trial

METRIC = "val/loss"


def make_trial(number: int, swept: Sequence[str], objective: float | None = None, **other_fields) -> Trial:
    """Returns a finished trial; `other_fields` replace the defaults."""
    values = {
        "status": "FINISHED",
        "run_id": f"run{number:05d}",
        "seconds": 1.5,
        "objective_metric": METRIC,
        **other_fields,
    }
    return Trial(number, f"print{number}", ["model=mlp_keras", *swept], swept, objective=objective, **values)


def write_sweep_of_trials(folder: Path, trials: Sequence[Trial], mode: str = "min", **start_fields) -> Path:
    """Writes the folder of a sweep with these trials."""
    folder.mkdir(parents=True)
    ledger = Ledger(folder)
    with journal.Journal(folder / journal.NAME) as sweep_journal:
        default_fields = {
            "id": "abcd2345",
            "name": "mlp_keras digits",
            "overrides": ["model=mlp_keras", "model.units=8,16"],
            "files": [],
            "objective": {"metric": METRIC, "mode": mode, "take": "best"},
            "tracker": {},
            "trials": len(trials),
        }
        sweep_journal.write("sweep_started", **{**default_fields, **start_fields})
        for trial in trials:
            if trial.run_id is not None:
                trial = replace(trial, folder=str(run_folders.get_trial_folder(folder, trial.number, trial.run_id)))
            ledger.write(trial)
        sweep_journal.write("sweep_ended", status="FINISHED")
    return folder


def write_learning_curve(folder: Path, trial: Trial, final_value: float, point_count: int = 20) -> None:
    """Writes the journal of a trial, with curves that fall to `final_value`."""
    assert trial.folder is not None
    Path(trial.folder).mkdir(parents=True)
    with journal.Journal(Path(trial.folder) / journal.NAME) as trial_journal:
        trial_journal.write("run_started", id=trial.run_id, name=trial.name)
        for point in range(point_count):
            value = final_value + 2 * math.exp(-4 * point / point_count)
            trial_journal.write("metrics", step=point * 10, values={METRIC: value, "train/loss": value * 0.9})


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
            trials.append(
                make_trial(number, swept, loss * 1.3, status="PRUNED", metrics={"val/accuracy": 1 - loss / 3})
            )
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
