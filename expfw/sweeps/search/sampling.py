"""A source that learns from the trials before, or gives trials up: over an Optuna study."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.api.run import FINISHED, PRUNED
from expfw.api.settings import Sweep
from expfw.sweeps.search.pruning import gives_up
from expfw.sweeps.search.space import Described, Dimension, Interval, Space
from expfw.sweeps.search.study import Study

if TYPE_CHECKING:
    import optuna

_TRIALS = 20
"""Where nobody says how many."""
_GIVEN_UP_AT = "given_up_at"


class Search:
    """Configurations by one of Optuna's samplers, or a grid of them, whose trials may be given up.

    What is suggested depends on the seed, the number and what the study knows at that time, and on nothing else: no
    sampler and no pruner lives on from one question to the next.

    Args:
        sampler: grid, random, tpe or cmaes.
        mode: whether less or more of the objective is better, min or max.
        file: of the study; None to write nothing.
    """

    def __init__(self, space: Space, sampler: str, settings: Sweep, seed: int, mode: str, file: Path | None) -> None:
        self.space, self.sampler, self.settings, self.seed, self.mode = space, sampler, settings, seed, mode
        self.total = space.total if sampler == "grid" else settings.trials or _TRIALS
        self.prunes = settings.pruner is not None
        self.repeats_itself = sampler != "grid"
        self.study = Study(file, mode)

    def describe(self) -> Sequence[Described]:
        """The dimensions, for people."""
        return self.space.describe()

    def propose(self, number: int) -> Sequence[str]:
        with self.study.in_use():
            for skipped in range(self.study.count, number):
                self._proposed(skipped)
            return self._proposed(number)

    def _proposed(self, number: int) -> list[str]:
        """The overrides of a trial: what the study has of them stays, as after an interruption; the rest is chosen."""
        trial: optuna.Trial | None = None
        if number >= self.study.count and self.sampler == "grid":
            self._add_from_grid(number)
        elif number >= self.study.count:
            trial = self._ask(number)
        kept = self.study.first(number)
        used = set()

        def choose(dimension: Dimension) -> str:
            nonlocal trial
            name, wanted = self.space.name(dimension), _distribution(dimension)
            used.add(name)
            if name in kept.params:
                if kept.distributions[name] != wanted:
                    raise self.study.misfit(f"has {kept.distributions[name]} for {name}, not {wanted}")
                return _text(dimension, kept.params[name])
            if kept.state.is_finished():
                raise self.study.misfit(f"has no {name} for trial {number}")
            if trial is None:
                trial = self._ask(number, kept)
            self._begin_sampler(number, name)
            try:
                return _text(dimension, _suggest(trial, name, wanted))
            except ValueError as error:
                raise self.study.misfit(f"has {name} in another form ({error})") from error

        overrides = self.space.overrides(choose)
        if unknown := sorted(kept.params.keys() - used):
            raise self.study.misfit(f"has {', '.join(unknown)} for trial {number}")
        return overrides

    def _add_from_grid(self, number: int) -> None:
        chosen = [(dimension, text) for dimension, text in self.space.at(number) if dimension.open]
        values = {self.space.name(d): int(text) if isinstance(d.values, range) else text for d, text in chosen}
        self.study.add(values, {self.space.name(d): _distribution(d) for d, _ in chosen})

    def _ask(self, number: int, begun: optuna.trial.FrozenTrial | None = None) -> optuna.Trial:
        """A new trial, or the one that was begun; what it samples together is sampled here."""
        self._begin_sampler(number)
        trial = self.study.opened.ask() if begun is None else self.study.ask_again(begun)
        _ = trial.relative_params  # newer versions of Optuna would wait with it, and take another sampler's seed
        return trial

    def _begin_sampler(self, number: int, name: str = "") -> None:
        """Gives the study a sampler whose randomness begins anew for this number, and parameter."""
        from optuna.samplers import CmaEsSampler, RandomSampler, TPESampler

        made: Any
        seed, startup = random.Random(f"{self.seed} {number} {name}").getrandbits(32), self.settings.startup
        if self.sampler == "tpe":
            made = TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True)
        elif self.sampler == "cmaes":
            made = CmaEsSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        else:
            made = RandomSampler(seed=seed)
        self.study.opened.sampler = made

    def judge(self, number: int, objective: float | None, status: str) -> None:
        """Tells the study. A trial that failed, and was tried again since, may still become a better one."""
        with self.study.in_use():
            before, state = self.study.latest(number).state.name, _state(objective, status)
            if before == "RUNNING" or (before == "FAIL" and state.name != "FAIL"):
                told = self.study.to_tell(number)
                self.study.opened.tell(told.number, objective if state.name == "COMPLETE" else None, state)

    def observe(self, number: int, evaluation: int, value: float) -> bool:
        if not self.prunes:
            return False
        with self.study.in_use():
            trial = self.study.to_tell(number)
            given_up = trial.user_attrs.get(_GIVEN_UP_AT, math.inf)
            if evaluation in trial.intermediate_values or trial.state.is_finished() or evaluation >= given_up:
                return bool(evaluation >= given_up)
            self.study.report(trial, evaluation, value)
            trial = self.study.latest(number)
            if gives_up(self.study.opened, trial, self.settings, self.mode):
                self.study.note(trial, **{_GIVEN_UP_AT: evaluation})
                return True
            return False


def _state(objective: float | None, status: str) -> optuna.trial.TrialState:
    """What became of a trial in Optuna's terms; one without a number at its end has failed."""
    from optuna.trial import TrialState

    if status == PRUNED:
        return TrialState.PRUNED
    has_number = status == FINISHED and objective is not None and not math.isnan(objective)
    return TrialState.COMPLETE if has_number else TrialState.FAIL


def _distribution(dimension: Dimension) -> Any:
    """A dimension in Optuna's terms: values are apart from each other, a range of whole numbers is not."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    of = dimension.values
    if isinstance(of, range):
        return IntDistribution(min(of), max(of), step=abs(of.step))
    if not isinstance(of, Interval):
        return CategoricalDistribution(tuple(dict.fromkeys(of)))
    if of.whole:
        return IntDistribution(int(of.low), int(of.high), log=of.log)
    return FloatDistribution(of.low, of.high, log=of.log)


def _suggest(trial: optuna.Trial, name: str, of: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(of, CategoricalDistribution):
        return trial.suggest_categorical(name, of.choices)
    if isinstance(of, IntDistribution):
        return trial.suggest_int(name, of.low, of.high, step=of.step, log=of.log)
    return trial.suggest_float(name, of.low, of.high, log=of.log)


def _text(dimension: Dimension, value: Any) -> str:
    """A parameter as the value of an override."""
    of = dimension.values
    return of.text(value) if isinstance(of, Interval) else str(value)
