"""Orders runs by their objective; trials that differ only in the seed form one seed group."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from expfw.api.run import FAILED, FINISHED, KILLED, PRUNED
from expfw.api.settings import RunConfig
from expfw.tracking.ledger import WAITING, Trial
from expfw.tracking.run_index import INTERRUPTED, RUNNING

_WORST_FIRST = (FAILED, KILLED, INTERRUPTED, RUNNING, WAITING, PRUNED, FINISHED)


@dataclass(frozen=True)
class Together:
    """The trials of one configuration, by number; most often it is one."""

    trials: Sequence[Trial]

    @property
    def status(self) -> str:
        """The worst of theirs."""
        return min((trial.status for trial in self.trials), key=_WORST_FIRST.index)

    @cached_property
    def counted(self) -> list[Trial]:
        """Those that count: of several, the ones that ended well and have an objective."""
        if len(self.trials) == 1:
            return list(self.trials)
        return [t for t in self.trials if t.status == FINISHED and _is_number(t.objective)]

    @property
    def objective(self) -> float | None:
        """The mean of their objectives."""
        return _mean([trial.objective for trial in self.counted])

    @property
    def interval(self) -> float | None:
        """Half the 95 % confidence interval of that mean; see `half_interval`."""
        return half_interval([trial.objective for trial in self.counted if trial.objective is not None])

    @property
    def metrics(self) -> Mapping[str, float]:
        """The mean of each metric that all of them have."""
        known = [trial.metrics or {} for trial in self.counted]
        names = [name for name in known[0] if all(name in one for one in known)] if known else []
        return {name: statistics.fmean(one[name] for one in known) for name in names}

    @property
    def metric(self) -> str | None:
        """The metric that the objective is taken from."""
        return next((trial.objective_metric for trial in self.trials if trial.objective_metric), None)

    @property
    def seconds(self) -> float | None:
        """Of all of them."""
        known = [trial.seconds for trial in self.trials if trial.seconds is not None]
        return sum(known) if known else None

    @property
    def swept(self) -> Sequence[str]:
        """What tells this configuration from others: the swept values, of several trials without the seed."""
        words = self.trials[0].swept
        return words if len(self.trials) == 1 else [word for word in words if word.partition("=")[0] != "seed"]


def with_seed(overrides: Sequence[str], base: RunConfig, repeat: int) -> list[str]:
    """The overrides of a configuration as it is run for the time `repeat`, from 0."""
    return [*overrides, f"seed={base.seed + repeat}"] if base.sweep.seeds > 1 else list(overrides)


def together(trials: Sequence[Trial]) -> Together:
    """These trials of one configuration."""
    return Together(sorted(trials, key=lambda trial: trial.number))


def configurations(trials: Sequence[Trial]) -> list[Together]:
    """All trials, those of one configuration together, in the order of their first numbers."""
    grouped: dict[int, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        key = -1 - trial.number if trial.configuration is None else trial.configuration
        grouped.setdefault(key, []).append(trial)
    return [Together(group) for group in grouped.values()]


def half_interval(values: Sequence[float]) -> float | None:
    """Half the 95 % confidence interval of the mean of a normal sample, by Student's t; None for less than two values.

    t(0.975, n - 1) s / sqrt(n), with s the sample's standard deviation (Student, 1908).
    """
    if len(values) < 2:
        return None
    from scipy.special import stdtrit

    return float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / math.sqrt(len(values))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _is_number(value: float | None) -> bool:
    return value is not None and value == value


def ranked(trials: Sequence[Trial], mode: str) -> list[Together]:
    """Configurations, best objective first; those without one last."""
    return sorted(configurations(trials), key=lambda one: (*place(one.objective, mode), one.trials[0].number))


def place(objective: float | None, mode: str) -> tuple[bool, float]:
    """What to sort objectives by: the best first, what is no number last."""
    if objective is None or objective != objective:
        return True, 0.0
    return False, objective if mode == "min" else -objective


def best_configuration(trials: Sequence[Trial], mode: str) -> Together | None:
    """The one with the best objective of those that ended well; None where there is none."""
    well = (one for one in ranked(trials, mode) if one.status == FINISHED and one.objective is not None)
    return next((one for one in well if one.objective == one.objective), None)


def best(trials: Sequence[Trial], mode: str) -> Trial | None:
    """The best trial of the best configuration; None where nothing ended well."""
    found = best_configuration(trials, mode)
    return None if found is None else best_of(found, mode)


def best_of(found: Together, mode: str) -> Trial:
    """The best trial of a configuration that ended well."""
    return min(found.counted, key=lambda trial: (*place(trial.objective, mode), trial.number))
