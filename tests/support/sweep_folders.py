"""Folders of sweeps that nobody ran: journals and ledger as a sweep leaves them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from expfw.tracking import journal, run_folders
from expfw.tracking.ledger import Ledger, Trial

METRIC = "val/loss"


def trial(number: int, swept: Sequence[str], objective: float | None = None, **more) -> Trial:
    """A finished trial, unless `more` says otherwise."""
    values = {"status": "FINISHED", "run_id": f"run{number:05d}", "seconds": 1.5, "objective_metric": METRIC, **more}
    return Trial(number, f"print{number}", ["model=mlp_keras", *swept], swept, objective=objective, **values)


def make(folder: Path, trials: Sequence[Trial], mode: str = "min", **first) -> Path:
    """The folder of a sweep of these trials, each with a journal where it has a run."""
    folder.mkdir(parents=True)
    ledger = Ledger(folder)
    with journal.Journal(folder / journal.NAME) as record:
        begin = {
            "id": "abcd2345",
            "name": "mlp_keras digits",
            "overrides": ["model=mlp_keras", "model.units=8,16"],
            "files": [],
            "objective": {"metric": METRIC, "mode": mode, "take": "best"},
            "tracker": {},
            "trials": len(trials),
        }
        record.write("sweep_started", **{**begin, **first})
        for one in trials:
            if one.run_id is not None:
                one = replace(one, folder=str(run_folders.trial_folder(folder, one.number, one.run_id)))
            ledger.write(one)
        record.write("sweep_ended", status="FINISHED")
    return folder


def learn(folder: Path, one: Trial, end: float, points: int = 20) -> None:
    """Writes the journal of a trial, with curves that fall to `end`."""
    assert one.folder is not None
    Path(one.folder).mkdir(parents=True)
    with journal.Journal(Path(one.folder) / journal.NAME) as record:
        record.write("run_started", id=one.run_id, name=one.name)
        for point in range(points):
            value = end + 2 * math.exp(-4 * point / points)
            record.write("metrics", step=point * 10, values={METRIC: value, "train/loss": value * 0.9})


def mixed(folder: Path, count: int = 200, seed: int = 1) -> Path:
    """A sweep of two models of which only one has units and a dropout, with pruned and failed trials."""
    drawn = random.Random(seed)
    trials, ends = [], {}
    for number in range(count):
        model = drawn.choice(["mlp_keras", "cnn"])
        rate = 10 ** drawn.uniform(-5, 0)
        optimizer = drawn.choice(["sgd", "adam", "rmsprop", "adagrad"])
        swept = [f"model={model}", f"model.optimizer.learning_rate={rate:.6g}", f"model.optimizer.name={optimizer}"]
        loss = 0.1 + 0.1 * (math.log10(rate) + 2.5) ** 2 + (0.2 if optimizer == "adagrad" else 0)
        if model == "mlp_keras":
            units, dropout = drawn.choice([16, 32, 64, 128, 256]), drawn.uniform(0, 0.6)
            swept += [f"model.units={units}", f"model.dropout={dropout:.3f}"]
            loss += 0.4 - 0.05 * math.log2(units / 16) + 0.2 * (dropout - 0.2) ** 2
        swept += [f"train.batch_size={drawn.choice([32, 64, 128])}", f"seed={number % 5}"]
        loss *= drawn.uniform(0.9, 1.1)
        if number % 29 == 7:
            error = "TrainingError: train/loss is nan at step 140; a smaller learning rate may help"
            trials.append(trial(number, swept, None, status="FAILED", error=error))
        elif number % 17 == 3:
            trials.append(trial(number, swept, loss * 1.3, status="PRUNED", metrics={"val/accuracy": 1 - loss / 3}))
        elif number == 60:
            trials.append(trial(number, swept, math.nan))
        else:
            metrics = {"test/accuracy": 1 - loss / 3.2, "val/accuracy": 1 - loss / 3}
            trials.append(trial(number, swept, loss, metrics=metrics))
        ends[number] = loss
    make(folder, trials, name="model=mlp_keras,cnn learning_rate=interval(1e-5, 1)")
    for one in Ledger(folder).trials():
        learn(folder, one, ends[one.number], points=60)
    return folder
