"""Ranking of trials by their objective; trials that differ only in the seed form one seed group."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from expfw.api.result import FAILED, FINISHED, KILLED, PRUNED
from expfw.api.run_config import RunConfig
from expfw.tracking.ledger import WAITING, Trial
from expfw.tracking.run_index import INTERRUPTED, RUNNING

_WORST_FIRST = (FAILED, KILLED, INTERRUPTED, RUNNING, WAITING, PRUNED, FINISHED)


@dataclass(frozen=True)
class SeedGroup:
    """The trials of one configuration, sorted by number; often only one."""

    trials: Sequence[Trial]

    @property
    def status(self) -> str:
        """Worst status of the trials."""
        return min((trial.status for trial in self.trials), key=_WORST_FIRST.index)

    @cached_property
    def counted_trials(self) -> list[Trial]:
        """Trials that count: a single trial, or of several those that are FINISHED and have an objective."""
        if len(self.trials) == 1:
            return list(self.trials)
        return [t for t in self.trials if t.status == FINISHED and _is_number(t.objective)]

    @property
    def objective(self) -> float | None:
        """Mean objective of the counted trials."""
        return _compute_mean([trial.objective for trial in self.counted_trials])

    @property
    def half_interval(self) -> float | None:
        """Half the 95 % confidence interval of the mean objective; see `compute_half_interval`."""
        return compute_half_interval([trial.objective for trial in self.counted_trials if trial.objective is not None])

    @property
    def metrics(self) -> Mapping[str, float]:
        """Mean of each metric that all counted trials have."""
        metrics_of_trials = [trial.metrics or {} for trial in self.counted_trials]
        names = (
            [name for name in metrics_of_trials[0] if all(name in values for values in metrics_of_trials)]
            if metrics_of_trials
            else []
        )
        return {name: statistics.fmean(values[name] for values in metrics_of_trials) for name in names}

    @property
    def metric(self) -> str | None:
        """Name of the objective metric."""
        return next((trial.objective_metric for trial in self.trials if trial.objective_metric), None)

    @property
    def seconds(self) -> float | None:
        """Total wall time of the trials, in seconds."""
        known_seconds = [trial.seconds for trial in self.trials if trial.seconds is not None]
        return sum(known_seconds) if known_seconds else None

    @property
    def swept_overrides(self) -> Sequence[str]:
        """Swept overrides of this configuration; without the seed if there are several trials."""
        overrides = self.trials[0].swept
        return (
            overrides
            if len(self.trials) == 1
            else [override for override in overrides if override.partition("=")[0] != "seed"]
        )


def add_seed(overrides: Sequence[str], base: RunConfig, seed_index: int) -> list[str]:
    """Returns the overrides of a configuration for its seed number `seed_index`, from 0."""
    return [*overrides, f"seed={base.seed + seed_index}"] if base.sweep.seeds > 1 else list(overrides)


def group_by_seed(trials: Sequence[Trial]) -> SeedGroup:
    """Returns the seed group of these trials, which have the same configuration."""
    return SeedGroup(sorted(trials, key=lambda trial: trial.number))


def group_by_configuration(trials: Sequence[Trial]) -> list[SeedGroup]:
    """Returns the seed groups of all trials, sorted by the number of their first trial."""
    trials_by_key: dict[int, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        key = -1 - trial.number if trial.configuration is None else trial.configuration
        trials_by_key.setdefault(key, []).append(trial)
    return [SeedGroup(group) for group in trials_by_key.values()]


def compute_half_interval(values: Sequence[float]) -> float | None:
    """Returns half the 95 % confidence interval of the mean, by Student's t; None for less than two values.

    t(0.975, n - 1) s / sqrt(n), with s the standard deviation of a normal sample (Student, 1908).
    """
    if len(values) < 2:
        return None
    from scipy.special import stdtrit

    return float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / math.sqrt(len(values))


def _compute_mean(values: Sequence[float | None]) -> float | None:
    known_values = [value for value in values if value is not None]
    return statistics.fmean(known_values) if known_values else None


def _is_number(value: float | None) -> bool:
    return value is not None and value == value


def rank_seed_groups(trials: Sequence[Trial], mode: str) -> list[SeedGroup]:
    """Returns the seed groups with the best objective first; those without an objective are last."""
    return sorted(
        group_by_configuration(trials),
        key=lambda seed_group: (*make_sort_key(seed_group.objective, mode), seed_group.trials[0].number),
    )


def make_sort_key(objective: float | None, mode: str) -> tuple[bool, float]:
    """Returns the sort key of an objective: best first, missing and NaN last."""
    if objective is None or objective != objective:
        return True, 0.0
    return False, objective if mode == "min" else -objective


def find_best_seed_group(trials: Sequence[Trial], mode: str) -> SeedGroup | None:
    """Returns the FINISHED seed group with the best objective, or None."""
    finished_groups = (
        seed_group
        for seed_group in rank_seed_groups(trials, mode)
        if seed_group.status == FINISHED and seed_group.objective is not None
    )
    return next((seed_group for seed_group in finished_groups if seed_group.objective == seed_group.objective), None)


def find_best_trial(trials: Sequence[Trial], mode: str) -> Trial | None:
    """Returns the best trial of the best seed group, or None."""
    seed_group = find_best_seed_group(trials, mode)
    return None if seed_group is None else find_best_in_group(seed_group, mode)


def find_best_in_group(seed_group: SeedGroup, mode: str) -> Trial:
    """Returns the best trial of a FINISHED seed group."""
    return min(seed_group.counted_trials, key=lambda trial: (*make_sort_key(trial.objective, mode), trial.number))
