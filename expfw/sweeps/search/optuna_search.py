"""Source that learns from earlier trials or prunes trials, with an Optuna study."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.api.result import FINISHED, PRUNED
from expfw.api.run_config import Sweep
from expfw.sweeps.search.optuna_study import Study
from expfw.sweeps.search.pruning import should_prune
from expfw.sweeps.search.space import Dimension, DimensionSummary, Interval, Space

if TYPE_CHECKING:
    import optuna

_DEFAULT_TRIALS = 20
"""Number of trials if `sweep.trials` is not set."""
_PRUNED_AT = "pruned_at"


class Search:
    """Configurations from one of Optuna's samplers, or from a grid, with optional pruning.

    A proposal depends only on the seed, the number and the current content of the study. Therefore every call creates a
    new sampler and a new pruner.

    Args:
        space: space of the overrides.
        sampler: "grid", "random", "tpe" or "cmaes".
        settings: `sweep` in the configuration.
        seed: seed of the sampler.
        mode: "min" if a smaller objective is better, "max" if a larger one is.
        file: file of the study; None to write nothing.
    """

    def __init__(self, space: Space, sampler: str, settings: Sweep, seed: int, mode: str, file: Path | None) -> None:
        self.space, self.sampler, self.settings, self.seed, self.mode = space, sampler, settings, seed, mode
        self.total = space.total if sampler == "grid" else settings.trials or _DEFAULT_TRIALS
        self.can_prune = settings.pruner is not None
        self.can_repeat = sampler != "grid"
        self.study = Study(file, mode)

    def describe(self) -> Sequence[DimensionSummary]:
        """Returns readable summaries of the dimensions."""
        return self.space.describe()

    def propose(self, number: int) -> Sequence[str]:
        with self.study.silence_optuna():
            for skipped in range(self.study.trial_count, number):
                self._propose_overrides(skipped)
            return self._propose_overrides(number)

    def _propose_overrides(self, number: int) -> list[str]:
        """Returns the overrides of a trial; parameters that the study already contains are kept, others are sampled."""
        trial: optuna.Trial | None = None
        if number >= self.study.trial_count and self.sampler == "grid":
            self._add_from_grid(number)
        elif number >= self.study.trial_count:
            trial = self._ask_trial(number)
        stored_trial = self.study.get_first_trial(number)
        used_names = set()

        def choose(dimension: Dimension) -> str:
            nonlocal trial
            name, distribution = self.space.get_name(dimension), _make_distribution(dimension)
            used_names.add(name)
            if name in stored_trial.params:
                if stored_trial.distributions[name] != distribution:
                    raise self.study.make_mismatch_error(
                        f"has {stored_trial.distributions[name]} for {name}, not {distribution}"
                    )
                return _format_value(dimension, stored_trial.params[name])
            if stored_trial.state.is_finished():
                raise self.study.make_mismatch_error(f"has no {name} for trial {number}")
            if trial is None:
                trial = self._ask_trial(number, stored_trial)
            self._reset_sampler(number, name)
            try:
                return _format_value(dimension, _suggest_value(trial, name, distribution))
            except ValueError as error:
                raise self.study.make_mismatch_error(f"has another definition of {name} ({error})") from error

        overrides = self.space.choose_overrides(choose)
        if unknown_names := sorted(stored_trial.params.keys() - used_names):
            raise self.study.make_mismatch_error(
                f"has unknown parameters for trial {number}: {', '.join(unknown_names)}"
            )
        return overrides

    def _add_from_grid(self, number: int) -> None:
        choices = [(dimension, text) for dimension, text in self.space.get_combination(number) if dimension.has_choice]
        values = {self.space.get_name(d): int(text) if isinstance(d.values, range) else text for d, text in choices}
        self.study.add_trial(values, {self.space.get_name(d): _make_distribution(d) for d, _ in choices})

    def _ask_trial(self, number: int, stored_trial: optuna.trial.FrozenTrial | None = None) -> optuna.Trial:
        """Returns a new trial, or continues the stored one, and samples its joint parameters."""
        self._reset_sampler(number)
        trial = self.study.optuna_study.ask() if stored_trial is None else self.study.resume_trial(stored_trial)
        _ = trial.relative_params  # newer versions of Optuna would sample later, with another sampler's seed
        return trial

    def _reset_sampler(self, number: int, name: str = "") -> None:
        """Sets a new sampler, seeded for this number and parameter."""
        from optuna.samplers import CmaEsSampler, RandomSampler, TPESampler

        sampler: Any
        seed, startup = random.Random(f"{self.seed} {number} {name}").getrandbits(32), self.settings.startup
        if self.sampler == "tpe":
            sampler = TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True)
        elif self.sampler == "cmaes":
            sampler = CmaEsSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        else:
            sampler = RandomSampler(seed=seed)
        self.study.optuna_study.sampler = sampler

    def report_result(self, number: int, objective: float | None, status: str) -> None:
        """Reports a result to the study. A new result replaces a failure, because a failed trial can be retried."""
        with self.study.silence_optuna():
            previous_state, state = self.study.get_latest_trial(number).state.name, _to_trial_state(objective, status)
            if previous_state == "RUNNING" or (previous_state == "FAIL" and state.name != "FAIL"):
                study_trial = self.study.ensure_open_trial(number)
                self.study.optuna_study.tell(study_trial.number, objective if state.name == "COMPLETE" else None, state)

    def observe(self, number: int, evaluation: int, value: float) -> bool:
        if not self.can_prune:
            return False
        with self.study.silence_optuna():
            trial = self.study.ensure_open_trial(number)
            pruned_at = trial.user_attrs.get(_PRUNED_AT, math.inf)
            if evaluation in trial.intermediate_values or trial.state.is_finished() or evaluation >= pruned_at:
                return bool(evaluation >= pruned_at)
            self.study.report_value(trial, evaluation, value)
            trial = self.study.get_latest_trial(number)
            if should_prune(self.study.optuna_study, trial, self.settings, self.mode):
                self.study.set_attributes(trial, **{_PRUNED_AT: evaluation})
                return True
            return False


def _to_trial_state(objective: float | None, status: str) -> optuna.trial.TrialState:
    """Returns the Optuna state of a trial; a trial without a valid objective has failed."""
    from optuna.trial import TrialState

    if status == PRUNED:
        return TrialState.PRUNED
    has_number = status == FINISHED and objective is not None and not math.isnan(objective)
    return TrialState.COMPLETE if has_number else TrialState.FAIL


def _make_distribution(dimension: Dimension) -> Any:
    """Returns the Optuna distribution: categorical for a list of values, integer for a range of whole numbers."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values = dimension.values
    if isinstance(values, range):
        return IntDistribution(min(values), max(values), step=abs(values.step))
    if not isinstance(values, Interval):
        return CategoricalDistribution(tuple(dict.fromkeys(values)))
    if values.is_integer:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _suggest_value(trial: optuna.Trial, name: str, distribution: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def _format_value(dimension: Dimension, value: Any) -> str:
    """Returns a parameter as the value of an override."""
    values = dimension.values
    return values.format_value(value) if isinstance(values, Interval) else str(value)
