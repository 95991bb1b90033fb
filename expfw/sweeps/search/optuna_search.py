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
from expfw.sweeps.search.space import Dimension, Space

if TYPE_CHECKING:
    import optuna

_DEFAULT_TRIALS = 20
"""Number of trials if `sweep.trials` is not set."""
_PRUNED_AT = "pruned_at"


class Search:
    """Configurations from one of Optuna's samplers, or from a grid, with optional pruning; methods as in `Grid`.

    A proposal depends only on the seed, the number and the current content of the study. Therefore every call creates a
    new sampler and a new pruner.

    Args:
        space: space of the overrides.
        sampler: "grid", "random", "tpe" or "cmaes".
        settings: `sweep` in the configuration.
        seed: seed of the sampler.
        mode: "min" if a smaller objective is better, "max" if a larger one is.
        folder: folder of the study; None to write nothing.
    """

    def __init__(self, space: Space, sampler: str, settings: Sweep, seed: int, mode: str, folder: Path | None) -> None:
        self.space, self.sampler, self.settings, self.seed, self.mode = space, sampler, settings, seed, mode
        self.total = space.total if sampler == "grid" else settings.trials or _DEFAULT_TRIALS
        self.can_prune = settings.pruner is not None
        self.can_repeat = sampler != "grid"
        self.study = Study(folder, mode)

    def propose(self, number: int) -> Sequence[str]:
        with self.study.silence_optuna():
            for skipped in range(len(self.study.list_trials()), number):
                self._propose_overrides(skipped)
            return self._propose_overrides(number)

    def _propose_overrides(self, number: int) -> list[str]:
        """Returns the overrides of a trial; parameters that the study already contains are kept, others are sampled."""
        trial = self._open_trial(number, None) if number >= len(self.study.list_trials()) else None
        stored_trial = self.study.find_trials(number)[0]
        used_names = set()

        def choose(dimension: Dimension, rest: Sequence[Dimension]) -> str:
            nonlocal trial
            name, distribution = self.space.get_name(dimension), dimension.distribution
            used_names.add(name)
            if name in stored_trial.params or stored_trial.state.is_finished():
                stored_distribution = stored_trial.distributions.get(name, "nothing")
                if stored_distribution != distribution:
                    raise self.study.make_mismatch_error(f"has {stored_distribution} for {name}, not {distribution}")
                return str(stored_trial.params[name])
            trial = trial or self._open_trial(number, stored_trial)
            self._reset_sampler(number, name)
            try:
                return str(_suggest_value(trial, name, distribution))
            except ValueError as error:
                raise self.study.make_mismatch_error(f"has another definition of {name} ({error})") from error

        overrides = self.space.choose_overrides(choose)
        if unknown_names := sorted(stored_trial.params.keys() - used_names):
            raise self.study.make_mismatch_error(
                f"has unknown parameters for trial {number}: {', '.join(unknown_names)}"
            )
        return overrides

    def _open_trial(self, number: int, stored_trial: optuna.trial.FrozenTrial | None) -> optuna.Trial:
        """Returns a new trial, or continues the stored one, and samples its joint parameters."""
        self._reset_sampler(number)
        trial = self.study.optuna_study.ask() if stored_trial is None else self.study.open_trial(stored_trial)
        _ = trial.relative_params  # otherwise Optuna would sample later, with another sampler's seed
        return trial

    def _reset_sampler(self, number: int, name: str = "") -> None:
        """Sets a new sampler, seeded for this number and parameter."""
        from optuna.samplers import CmaEsSampler, PartialFixedSampler, RandomSampler, TPESampler

        sampler: Any
        seed, startup = random.Random(f"{self.seed} {number} {name}").getrandbits(32), self.settings.startup
        if self.sampler == "tpe":
            sampler = TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True)
        elif self.sampler == "cmaes":
            sampler = CmaEsSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        else:
            sampler = RandomSampler(seed=seed)
        if self.sampler == "grid":
            texts = dict(override.partition("=")[::2] for override in self.space.get_overrides(number))
            dimensions = [dimension for dimension in self.space.all_dimensions if dimension.key in texts]
            sampler = PartialFixedSampler({self.space.get_name(d): texts[d.key] for d in dimensions}, sampler)
        self.study.optuna_study.sampler = sampler

    def report_result(self, number: int, objective: float | None, status: str) -> None:
        from optuna.trial import TrialState

        has_objective = status == FINISHED and objective is not None and not math.isnan(objective)
        state = TrialState.PRUNED if status == PRUNED else TrialState.COMPLETE if has_objective else TrialState.FAIL
        with self.study.silence_optuna():
            previous_state = self.study.find_trials(number)[-1].state
            # A new result replaces a failure, because a failed trial can be retried.
            if not previous_state.is_finished() or (previous_state == TrialState.FAIL and state != TrialState.FAIL):
                study_trial = self.study.ensure_open_trial(number)
                self.study.optuna_study.tell(study_trial.number, objective if has_objective else None, state)

    def observe(self, number: int, evaluation: int, value: float) -> bool:
        if not self.can_prune:
            return False
        with self.study.silence_optuna():
            stored_trial = self.study.ensure_open_trial(number)
            pruned_at = stored_trial.user_attrs.get(_PRUNED_AT, math.inf)
            is_known = evaluation in stored_trial.intermediate_values or stored_trial.state.is_finished()
            if is_known or evaluation >= pruned_at:
                return bool(evaluation >= pruned_at)
            trial = self.study.open_trial(stored_trial)
            trial.report(value, evaluation)
            stored_trial = self.study.find_trials(number)[-1]
            if not self._should_prune(stored_trial):
                return False
            trial.set_user_attr(_PRUNED_AT, evaluation)
            return True

    def _should_prune(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Returns whether to prune a trial after its last evaluation.

        - median: prunes if the best value of the trial so far is worse than the median of the other trials at this
          evaluation. Starts after `startup` trials have finished.
        - hyperband: only the best third of the trials continues to three times as many evaluations. The trial's bracket
          sets how early this begins. Starts after one trial has finished.
        - patience: prunes after `patience` evaluations without a new best value, independent of other trials.
        """
        from optuna.pruners import HyperbandPruner, MedianPruner
        from optuna.trial import TrialState

        study, settings, evaluation = self.study.optuna_study, self.settings, trial.last_step or 0
        if evaluation < settings.warmup:
            return False
        if settings.pruner == "median":
            return MedianPruner(n_startup_trials=settings.startup, n_warmup_steps=settings.warmup).prune(study, trial)
        if settings.pruner == "hyperband":
            finished_trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            max_evaluations = max((other.last_step or 0 for other in finished_trials), default=0)
            if evaluation >= max_evaluations:
                return False
            return HyperbandPruner(min_resource=settings.warmup, max_resource=max_evaluations).prune(study, trial)
        least_loss, count_since_best = math.inf, 0
        for _, value in sorted(trial.intermediate_values.items()):
            loss = value if self.mode == "min" else -value
            count_since_best = 0 if loss < least_loss else count_since_best + 1  # NaN is never the best
            least_loss = loss if loss < least_loss else least_loss
        return count_since_best >= settings.patience


def _suggest_value(trial: optuna.Trial, name: str, distribution: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    low, high, log = distribution.low, distribution.high, distribution.log
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, low, high, step=distribution.step, log=log)
    return trial.suggest_float(name, low, high, log=log)
