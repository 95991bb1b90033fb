"""Checks of the recipes that fit lines and polynomials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from outcomes import check_picture, read_fitted_line
from rows import Row, check_at_least, check_at_most, check_between, check_equal, check_near

if TYPE_CHECKING:
    from session import RecordedRun, Session

COSTS = [32.431, 6.011309, 1.446125, 0.656593, 0.519363, 0.494835, 0.489788, 0.488115, 0.487033, 0.486063]


def check_ols(session: Session, arguments: list[str]) -> list[Row]:
    recorded_run = session.run(*arguments)
    costs = recorded_run.get_values("train/epoch_loss")
    weight, bias = read_fitted_line(recorded_run)
    long_run = session.run(*arguments, "train.epochs=3000", "train.log_every=1000")
    limit_weight, limit_bias = read_fitted_line(long_run)
    return [
        *(
            check_near(f"cost of epoch {i}", g, e, 1e-4)
            for i, (g, e) in enumerate(zip(costs, COSTS, strict=True), start=1)
        ),
        check_near("w after 10 epochs", weight, 1.02732, 1e-4),
        check_near("b after 10 epochs", bias, 0.19570, 1e-4),
        check_near("w after 3,000 epochs, compared with the closed form", limit_weight, 0.942424, 1e-4),
        check_near("b after 3,000 epochs, compared with the closed form", limit_bias, 0.729091, 1e-4),
        check_picture(recorded_run, "fitted_line"),
    ]


def check_linear_lab(session: Session, arguments: list[str]) -> list[Row]:
    recorded_run = session.run(*arguments)
    losses = recorded_run.points["train/loss"]
    weight, bias = read_fitted_line(recorded_run)
    x, y = np.arange(1, 5), -np.arange(4)
    line = (np.float32(weight) * x.astype(np.float32) + np.float32(bias)).astype(np.float32)
    final_loss = float(np.sum(np.square(line - y.astype(np.float32))))
    return [
        check_near("loss at step 0", losses[0], 23.66, 1e-4),
        check_near("loss at step 100", losses[100], 0.146364, 1e-6),
        check_near("loss at step 200", losses[200], 0.0131513, 1e-7),
        check_near("W at the end", weight, -0.9999969, 1e-6),
        check_near("b at the end", bias, 0.9999908, 3e-6),
        check_near("loss at the end", final_loss, 5.7e-11, 2e-11, digits=3),
    ]


def check_linear_lab_eval(session: Session, arguments: list[str]) -> list[Row]:
    recorded_run = session.run(*arguments)
    return [
        check_at_most("train loss at the end", recorded_run.get_values("train/epoch_loss")[-1], 1e-6),
        check_near("evaluation loss at the end", recorded_run.get_values("val/loss")[-1], 0.0025, 1e-4, digits=4),
    ]


def check_polynomial(session: Session, arguments: list[str]) -> list[Row]:
    recorded_sweep = session.run(*arguments)
    train, validation = _read_errors(recorded_sweep)
    best_index = int(np.argmin(validation))
    return [
        check_equal("trials", len(train), len(arguments[-1].split(","))),
        check_at_most("training error: highest degree / lowest degree", train[-1] / train[0], 0.5),
        check_at_most("validation error: best degree / lowest degree", validation[best_index] / validation[0], 0.5),
        check_at_least("validation error: highest degree / best degree", validation[-1] / validation[best_index], 1.2),
        check_picture(recorded_sweep, "against_model.degree"),
    ]


def check_polynomial_samples(session: Session, arguments: list[str]) -> list[Row]:
    recorded_sweep = session.run(*arguments)
    train, validation = _read_errors(recorded_sweep)
    return [
        check_equal("trials", len(train), len(arguments[-1].split(","))),
        check_at_least("validation error / training error, fewest samples", validation[0] / train[0], 2.0),
        check_between("validation error / training error, most samples", validation[-1] / train[-1], 0.6, 1.5),
        check_between("training error, most samples; the noise is 0.09", train[-1], 0.06, 0.12),
        check_picture(recorded_sweep, "against_dataset.limit"),
    ]


def _read_errors(recorded_sweep: RecordedRun) -> tuple[list[float], list[float]]:
    trials = recorded_sweep.read_trials()
    return tuple(  # type: ignore[return-value]
        [trial.get_values(f"{split}mean_squared_error")[-1] for trial in trials] for split in ("train/epoch_", "val/")
    )
