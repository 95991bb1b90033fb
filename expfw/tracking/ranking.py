"""Ranking of trials by their objective; trials that differ only in the seed form one seed group."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import cached_property

from expfw.api.result import FAILED, FINISHED, KILLED, PRUNED
from expfw.tracking.ledger import WAITING, Trial
from expfw.tracking.recorded_run import INTERRUPTED, RUNNING

_WORST_FIRST = (FAILED, KILLED, INTERRUPTED, RUNNING, WAITING, PRUNED, FINISHED)


class SeedGroup:
    """The trials of one configuration, sorted by number; often only one.

    Attributes:
        status: worst status of the trials.
        counted_trials: trials that count: a single trial, or of several those that are FINISHED with an objective.
        objective: mean objective of the counted trials, or None.
        half_interval: half the 95 % confidence interval of the mean objective; None for less than two trials.
            t(0.975, n - 1) s / sqrt(n), with s the standard deviation of a normal sample (Student, 1908).
        metrics: mean of each metric that all counted trials have.
        steps: optimizer step of the metrics, or the range of steps of several trials, `80-120`; None if unknown.
        epochs: likewise the epoch; None also if a step is within an epoch.
        seconds: total wall time of the trials, or None.
        swept_overrides: swept overrides of this configuration; without the seed if there are several trials.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.trials, is_single = trials, len(trials) == 1
        self.status = min((trial.status for trial in trials), key=_WORST_FIRST.index)
        self.counted_trials = [t for t in trials if is_single or (t.status == FINISHED and _is_number(t.objective))]
        self._objectives = [trial.objective for trial in self.counted_trials if trial.objective is not None]
        self.objective = _compute_mean(self._objectives) if self._objectives else None
        self.metric = next((trial.objective_metric for trial in trials if trial.objective_metric), None)
        values = [trial.metrics or {} for trial in self.counted_trials]
        names = [name for name in values[0] if all(name in metrics for metrics in values)] if values else []
        self.metrics = {name: _compute_mean([metrics[name] for metrics in values]) for name in names}
        self.steps = _join_range([trial.metrics_step for trial in self.counted_trials])
        self.epochs = _join_range([trial.metrics_epoch for trial in self.counted_trials])
        self.seconds = sum(trial.seconds or 0.0 for trial in trials) or None
        self.swept_overrides = [o for o in trials[0].swept if is_single or not o.startswith("seed=")]

    @cached_property
    def half_interval(self) -> float | None:
        objectives = self._objectives
        if len(objectives) < 2 or not all(map(math.isfinite, objectives)):
            return None
        from scipy.special import stdtrit

        return float(stdtrit(len(objectives) - 1, 0.975)) * statistics.stdev(objectives) / math.sqrt(len(objectives))

    def get_best_trial(self, mode: str) -> Trial:
        """Returns the best of the counted trials."""
        return min(self.counted_trials, key=lambda trial: (*make_sort_key(trial.objective, mode), trial.number))


def rank_seed_groups(trials: Sequence[Trial], mode: str) -> list[SeedGroup]:
    """Returns the seed groups with the best objective first; those without an objective are last."""
    trials_by_key: dict[int, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        key = -1 - trial.number if trial.configuration is None else trial.configuration
        trials_by_key.setdefault(key, []).append(trial)
    groups = [SeedGroup(group) for group in trials_by_key.values()]
    return sorted(groups, key=lambda group: (*make_sort_key(group.objective, mode), group.trials[0].number))


def make_sort_key(objective: float | None, mode: str) -> tuple[bool, float]:
    """Returns the sort key of an objective: best first, missing and NaN last."""
    if objective is None or objective != objective:
        return True, 0.0
    return False, objective if mode == "min" else -objective


def find_best_seed_group(trials: Sequence[Trial], mode: str) -> SeedGroup | None:
    """Returns the FINISHED seed group with the best objective, or None."""
    groups = rank_seed_groups(trials, mode)
    return next((group for group in groups if group.status == FINISHED and _is_number(group.objective)), None)


def find_best_trial(trials: Sequence[Trial], mode: str) -> Trial | None:
    """Returns the best trial of the best seed group, or None."""
    group = find_best_seed_group(trials, mode)
    return None if group is None else group.get_best_trial(mode)


def _join_range(numbers: Sequence[int | None]) -> int | str | None:
    known_numbers = [number for number in numbers if number is not None]
    if not known_numbers or len(known_numbers) < len(numbers):
        return None
    low, high = min(known_numbers), max(known_numbers)
    return low if low == high else f"{low}-{high}"


def _is_number(value: float | None) -> bool:
    return value is not None and value == value


def _compute_mean(values: Sequence[float]) -> float:
    """Returns the mean; NaN or infinite if a value is."""
    return statistics.fmean(values) if all(map(math.isfinite, values)) else sum(values) / len(values)
