"""Decision to prune a trial: with Optuna's pruners, or after a number of evaluations without progress."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from expfw.api.run_config import Objective, Sweep

if TYPE_CHECKING:
    import optuna


def should_prune(study: optuna.Study, trial: optuna.trial.FrozenTrial, settings: Sweep, mode: str) -> bool:
    """Returns whether to prune a trial after its last evaluation.

    - median: prunes if the best value of the trial so far is worse than the median of the other trials at this
      evaluation. Starts after `startup` trials have finished.
    - hyperband: only the best third of the trials continues to three times as many evaluations. The trial's bracket
      sets how early this begins. Starts after one trial has finished.
    - patience: prunes after `patience` evaluations without a new best value, independent of other trials.
    """
    evaluation = trial.last_step
    if evaluation is None or evaluation < settings.warmup:
        return False
    if settings.pruner == "median":
        return _make_median_pruner(settings).prune(study, trial)
    if settings.pruner == "hyperband":
        max_evaluations = _get_max_evaluations(study)
        return evaluation < max_evaluations and _make_hyperband_pruner(settings, max_evaluations).prune(study, trial)
    if settings.pruner == "patience":
        values = (value for _, value in sorted(trial.intermediate_values.items()))
        return _count_since_best(values, mode) >= settings.patience
    return False


def _make_median_pruner(settings: Sweep) -> optuna.pruners.BasePruner:
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=settings.startup, n_warmup_steps=settings.warmup)


def _get_max_evaluations(study: optuna.Study) -> int:
    """Returns the largest number of evaluations of the finished trials."""
    from optuna.trial import TrialState

    finished_trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max((trial.last_step or 0 for trial in finished_trials), default=0)


def _make_hyperband_pruner(settings: Sweep, max_evaluations: int) -> optuna.pruners.BasePruner:
    from optuna.pruners import HyperbandPruner

    return HyperbandPruner(min_resource=settings.warmup, max_resource=max_evaluations)


def _count_since_best(values: Iterable[float], mode: str) -> int:
    """Returns the number of values after the best one."""
    objective = Objective(mode="min" if mode == "min" else "max")
    best, count = None, 0
    for value in values:
        if objective.is_better(value, best):
            best, count = value, 0
        else:
            count += 1
    return count
