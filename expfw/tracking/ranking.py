"""Orders runs by their objective; trials that differ only in the seed form one seed group."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from expfw.api.run import FAILED, FINISHED, KILLED, PRUNED
from expfw.api.run_config import RunConfig
from expfw.tracking.ledger import WAITING, Trial
from expfw.tracking.run_index import INTERRUPTED, RUNNING

_WORST_FIRST = (FAILED, KILLED, INTERRUPTED, RUNNING, WAITING, PRUNED, FINISHED)


@dataclass(frozen=True)
class SeedGroup:
    """The trials of one configuration, by number; most often it is one."""

    trials: Sequence[Trial]

    @property
    def status(self) -> str:
        """The worst of theirs."""
        return min((trial.status for trial in self.trials), key=_WORST_FIRST.index)

    @cached_property
    def counted_trials(self) -> list[Trial]:
        """Those that count: of several, the ones that ended well and have an objective."""
        if len(self.trials) == 1:
            return list(self.trials)
        return [t for t in self.trials if t.status == FINISHED and _is_number(t.objective)]

    @property
    def objective(self) -> float | None:
        """The mean of their objectives."""
        return _compute_mean([trial.objective for trial in self.counted_trials])

    @property
    def half_interval(self) -> float | None:
        """Half the 95 % confidence interval of that mean; see `compute_half_interval`."""
        return compute_half_interval([trial.objective for trial in self.counted_trials if trial.objective is not None])

    @property
    def metrics(self) -> Mapping[str, float]:
        """The mean of each metric that all of them have."""
        metrics_of_trials = [trial.metrics or {} for trial in self.counted_trials]
        names = (
            [name for name in metrics_of_trials[0] if all(name in values for values in metrics_of_trials)]
            if metrics_of_trials
            else []
        )
        return {name: statistics.fmean(values[name] for values in metrics_of_trials) for name in names}

    @property
    def metric(self) -> str | None:
        """The metric that the objective is taken from."""
        return next((trial.objective_metric for trial in self.trials if trial.objective_metric), None)

    @property
    def seconds(self) -> float | None:
        """Of all of them."""
        known_seconds = [trial.seconds for trial in self.trials if trial.seconds is not None]
        return sum(known_seconds) if known_seconds else None

    @property
    def swept_overrides(self) -> Sequence[str]:
        """What tells this configuration from others: the swept values, of several trials without the seed."""
        overrides = self.trials[0].swept
        return (
            overrides
            if len(self.trials) == 1
            else [override for override in overrides if override.partition("=")[0] != "seed"]
        )


def add_seed(overrides: Sequence[str], base: RunConfig, seed_index: int) -> list[str]:
    """The overrides of a configuration as it is run for the time `seed_index`, from 0."""
    return [*overrides, f"seed={base.seed + seed_index}"] if base.sweep.seeds > 1 else list(overrides)


def group_by_seed(trials: Sequence[Trial]) -> SeedGroup:
    """These trials of one configuration."""
    return SeedGroup(sorted(trials, key=lambda trial: trial.number))


def group_by_configuration(trials: Sequence[Trial]) -> list[SeedGroup]:
    """All trials, those of one configuration together, in the order of their first numbers."""
    trials_by_key: dict[int, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        key = -1 - trial.number if trial.configuration is None else trial.configuration
        trials_by_key.setdefault(key, []).append(trial)
    return [SeedGroup(group) for group in trials_by_key.values()]


def compute_half_interval(values: Sequence[float]) -> float | None:
    """Half the 95 % confidence interval of the mean of a normal sample, by Student's t; None for less than two values.

    t(0.975, n - 1) s / sqrt(n), with s the sample's standard deviation (Student, 1908).
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
    """Configurations, best objective first; those without one last."""
    return sorted(
        group_by_configuration(trials),
        key=lambda seed_group: (*make_sort_key(seed_group.objective, mode), seed_group.trials[0].number),
    )


def make_sort_key(objective: float | None, mode: str) -> tuple[bool, float]:
    """What to sort objectives by: the best first, what is no number last."""
    if objective is None or objective != objective:
        return True, 0.0
    return False, objective if mode == "min" else -objective


def find_best_seed_group(trials: Sequence[Trial], mode: str) -> SeedGroup | None:
    """The one with the best objective of those that ended well; None where there is none."""
    finished_groups = (
        seed_group
        for seed_group in rank_seed_groups(trials, mode)
        if seed_group.status == FINISHED and seed_group.objective is not None
    )
    return next((seed_group for seed_group in finished_groups if seed_group.objective == seed_group.objective), None)


def find_best_trial(trials: Sequence[Trial], mode: str) -> Trial | None:
    """The best trial of the best configuration; None where nothing ended well."""
    seed_group = find_best_seed_group(trials, mode)
    return None if seed_group is None else find_best_in_group(seed_group, mode)


def find_best_in_group(seed_group: SeedGroup, mode: str) -> Trial:
    """The best trial of a configuration that ended well."""
    return min(seed_group.counted_trials, key=lambda trial: (*make_sort_key(trial.objective, mode), trial.number))
