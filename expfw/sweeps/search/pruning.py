"""When a trial is given up: by Optuna's pruners, made anew for each question, or for want of progress."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from expfw.api.settings import Objective, Sweep

if TYPE_CHECKING:
    import optuna


def gives_up(study: optuna.Study, trial: optuna.trial.FrozenTrial, settings: Sweep, mode: str) -> bool:
    """Whether to give up a trial after its last evaluation.

    median: its best value so far is worse than the median of the others' at this evaluation; once `startup` trials
    have finished. hyperband: only the best third goes on to three times the evaluations, beginning early or late by
    the bracket that the trial is in; once a trial has finished. patience: no new best value for `patience` evaluations,
    whatever the others do.
    """
    evaluation = trial.last_step
    if evaluation is None or evaluation < settings.warmup:
        return False
    if settings.pruner == "median":
        return _median(settings).prune(study, trial)
    if settings.pruner == "hyperband":
        longest = _longest(study)
        return evaluation < longest and _hyperband(settings, longest).prune(study, trial)
    if settings.pruner == "patience":
        values = (value for _, value in sorted(trial.intermediate_values.items()))
        return _since_the_best(values, mode) >= settings.patience
    return False


def _median(settings: Sweep) -> optuna.pruners.BasePruner:
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=settings.startup, n_warmup_steps=settings.warmup)


def _longest(study: optuna.Study) -> int:
    """How many evaluations a trial has, as far as those that finished tell."""
    from optuna.trial import TrialState

    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max((trial.last_step or 0 for trial in finished), default=0)


def _hyperband(settings: Sweep, longest: int) -> optuna.pruners.BasePruner:
    from optuna.pruners import HyperbandPruner

    return HyperbandPruner(min_resource=settings.warmup, max_resource=longest)


def _since_the_best(values: Iterable[float], mode: str) -> int:
    """How many of these come after the best one."""
    objective = Objective(mode="min" if mode == "min" else "max")
    best, since = None, 0
    for value in values:
        if objective.better(value, best):
            best, since = value, 0
        else:
            since += 1
    return since
