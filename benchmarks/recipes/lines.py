"""What recipes that fit lines and polynomials must show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from outcomes import fitted_line, picture
from rows import Row, at_least, at_most, between, equal, near

if TYPE_CHECKING:
    from session import Outcome, Session

COSTS = [32.431, 6.011309, 1.446125, 0.656593, 0.519363, 0.494835, 0.489788, 0.488115, 0.487033, 0.486063]


def ols(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    costs = made.values("train/epoch_loss")
    weight, bias = fitted_line(made)
    long = session.run(*words, "train.epochs=3000", "train.log_every=1000")
    limit_weight, limit_bias = fitted_line(long)
    return [
        *(near(f"cost of epoch {i}", g, e, 1e-4) for i, (g, e) in enumerate(zip(costs, COSTS, strict=True), start=1)),
        near("w after 10 epochs", weight, 1.02732, 1e-4),
        near("b after 10 epochs", bias, 0.19570, 1e-4),
        near("w after 3,000 epochs, beside the closed form", limit_weight, 0.942424, 1e-4),
        near("b after 3,000 epochs, beside the closed form", limit_bias, 0.729091, 1e-4),
        picture(made, "fitted_line"),
    ]


def linear_lab(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    losses = made.points["train/loss"]
    weight, bias = fitted_line(made)
    x, y = np.arange(1, 5), -np.arange(4)
    line = (np.float32(weight) * x.astype(np.float32) + np.float32(bias)).astype(np.float32)
    end = float(np.sum(np.square(line - y.astype(np.float32))))
    return [
        near("loss at step 0", losses[0], 23.66, 1e-4),
        near("loss at step 100", losses[100], 0.146364, 1e-6),
        near("loss at step 200", losses[200], 0.0131513, 1e-7),
        near("W at the end", weight, -0.9999969, 1e-6),
        near("b at the end", bias, 0.9999908, 3e-6),
        near("loss at the end", end, 5.7e-11, 2e-11, digits=3),
    ]


def linear_lab_eval(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    return [
        at_most("train loss at the end", made.values("train/epoch_loss")[-1], 1e-6),
        near("evaluation loss at the end", made.values("val/loss")[-1], 0.0025, 1e-4, digits=4),
    ]


def polynomial(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    train, validation = _errors(made)
    best = int(np.argmin(validation))
    return [
        equal("trials", len(train), len(words[-1].split(","))),
        at_most("training error of the highest degree, beside the lowest", train[-1] / train[0], 0.5),
        at_most("validation error of the best degree, beside the lowest", validation[best] / validation[0], 0.5),
        at_least("validation error of the highest degree, beside the best", validation[-1] / validation[best], 1.2),
        picture(made, "against_model.degree"),
    ]


def polynomial_samples(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    train, validation = _errors(made)
    return [
        equal("trials", len(train), len(words[-1].split(","))),
        at_least("validation by training error, fewest samples", validation[0] / train[0], 2.0),
        between("validation by training error, most samples", validation[-1] / train[-1], 0.6, 1.5),
        between("training error, most samples; the noise is 0.09", train[-1], 0.06, 0.12),
        picture(made, "against_dataset.limit"),
    ]


def _errors(sweep: Outcome) -> tuple[list[float], list[float]]:
    trials = sweep.trials()
    return tuple(  # type: ignore[return-value]
        [trial.values(f"{split}mean_squared_error")[-1] for trial in trials] for split in ("train/epoch_", "val/")
    )
