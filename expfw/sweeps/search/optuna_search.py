"""Source that learns from earlier trials or prunes trials, with an Optuna study in the sweep folder."""

from __future__ import annotations

import math
import os
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.api.result import FINISHED, PRUNED
from expfw.api.run_config import RunConfig
from expfw.errors import JournalError, RunsFolderError
from expfw.runs.resume import find_differences
from expfw.sweeps.search.space import Dimension, Space
from expfw.system.input_files import read_bytes

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

_DEFAULT_TRIALS = 20
"""Number of trials if `sweep.trials` is not set."""
_MAX_STUDY_BYTES = 1 << 30
_STUDY_NAME = "expfw"  # one study per file; Hyperband puts trials into brackets by this name and their number
_DEFINITION, _REPLACED_NUMBER, _PRUNED_AT = "definition", "replaces", "pruned_at"


class Search:
    """Configurations from one of Optuna's samplers, or from a grid, with optional pruning; methods as in `Grid`.

    A proposal depends only on the seed, the number and the current content of the study. Therefore every call creates a
    new sampler and a new pruner.

    A number has one Optuna trial. If a failed trial is retried, its number gets a new Optuna trial, because Optuna
    cannot reopen a trial. Other Optuna tools can read the file: `optuna-dashboard study.log`.

    Args:
        sampler: "grid", "random", "tpe" or "cmaes".
        config: configuration with the options of the whole sweep.
        folder: folder of the study; an existing study is resumed. None to keep the study in memory.
    """

    def __init__(self, space: Space, sampler: str, config: RunConfig, folder: Path | None) -> None:
        self.space, self.sampler, self.settings, self.seed = space, sampler, config.sweep, config.seed
        self.mode = config.objective.mode
        self.total = space.total if sampler == "grid" else self.settings.trials or _DEFAULT_TRIALS
        self.can_prune = self.settings.pruner is not None
        self.can_repeat = sampler != "grid"
        self.file = None if folder is None else folder / "study.log"

    def propose(self, number: int) -> Sequence[str]:
        with self._silence_optuna():
            for skipped in range(len(self._list_trials()), number):
                self._propose_overrides(skipped)
            return self._propose_overrides(number)

    def _propose_overrides(self, number: int) -> list[str]:
        """Returns the overrides of a trial; parameters that the study already contains are kept, others are sampled."""
        trial = self._open_trial(number, None) if number >= len(self._list_trials()) else None
        stored_trial = self._list_trials()[number][0]

        def choose(dimension: Dimension, rest: Sequence[Dimension]) -> str:
            nonlocal trial
            name = self.space.get_name(dimension)
            if name in stored_trial.params:
                return dimension.find_text(stored_trial.params[name])
            trial = trial or self._open_trial(number, stored_trial)
            self._reset_sampler(number, name)
            # the public functions do not take a distribution
            return dimension.find_text(trial._suggest(name, dimension.distribution))

        return self.space.choose_overrides(choose)

    def _open_trial(self, number: int, stored_trial: FrozenTrial | None) -> optuna.Trial:
        """Returns a new trial, or continues the stored one, and samples its joint parameters."""
        self._reset_sampler(number)
        trial = self._study.ask() if stored_trial is None else self._load_trial(stored_trial)
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
            labels = {self.space.get_name(d): d.labels[texts[d.key]] for d in dimensions}
            sampler = PartialFixedSampler(labels, sampler)
        self._study.sampler = sampler

    def report_result(self, number: int, objective: float | None, status: str) -> None:
        from optuna.trial import TrialState

        has_objective = status == FINISHED and objective is not None and not math.isnan(objective)
        state = TrialState.PRUNED if status == PRUNED else TrialState.COMPLETE if has_objective else TrialState.FAIL
        with self._silence_optuna():
            previous_state = self._find_last_trial(number).state
            # A new result replaces a failure, because a failed trial can be retried.
            if not previous_state.is_finished() or (previous_state == TrialState.FAIL and state != TrialState.FAIL):
                study_trial = self._ensure_open_trial(number)
                self._study.tell(study_trial.number, objective if has_objective else None, state)

    def observe(self, number: int, evaluation: int, value: float) -> bool:
        with self._silence_optuna():
            stored_trial = self._ensure_open_trial(number)
            pruned_at = stored_trial.user_attrs.get(_PRUNED_AT, math.inf)
            is_known = evaluation in stored_trial.intermediate_values or stored_trial.state.is_finished()
            if is_known or evaluation >= pruned_at:
                return bool(evaluation >= pruned_at)
            trial = self._load_trial(stored_trial)
            trial.report(value, evaluation)
            if not self._should_prune(self._find_last_trial(number)):
                return False
            trial.set_user_attr(_PRUNED_AT, evaluation)
            return True

    def _should_prune(self, trial: FrozenTrial) -> bool:
        """Returns whether to prune a trial after its last evaluation.

        - median: prunes if the best value of the trial so far is worse than the median of the other trials at this
          evaluation. Starts after `startup` trials have finished.
        - hyperband: only the best third of the trials continues to three times as many evaluations. The trial's bracket
          sets how early this begins. Starts after one trial has finished.
        - patience: prunes after `patience` evaluations without a new best value, independent of other trials.
        """
        from optuna.pruners import HyperbandPruner, MedianPruner
        from optuna.trial import TrialState

        study, settings, evaluation = self._study, self.settings, trial.last_step or 0
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

    def _list_trials(self) -> list[list[FrozenTrial]]:
        """Returns, for each number, the trial as it was proposed, and its retries."""
        trials_by_number: list[list[FrozenTrial]] = []
        for trial in self._study.get_trials(deepcopy=False):
            if _REPLACED_NUMBER in trial.user_attrs:
                trials_by_number[trial.user_attrs[_REPLACED_NUMBER]].append(trial)
            else:
                trials_by_number.append([trial])
        return trials_by_number

    def _find_last_trial(self, number: int) -> FrozenTrial:
        """Returns the last trial of a number; raises JournalError if the study has no such trial."""
        trials_by_number = self._list_trials()
        if number >= len(trials_by_number):
            raise JournalError(f"{self.file} has no trial {number}; start a new sweep")
        return trials_by_number[number][-1]

    def _ensure_open_trial(self, number: int) -> FrozenTrial:
        """Returns the last trial of a number; if it failed, adds a retry and returns that."""
        from optuna.trial import TrialState, create_trial

        trial = self._find_last_trial(number)
        if trial.state != TrialState.FAIL:
            return trial
        system_attrs = {key: value for key, value in trial.system_attrs.items() if not key.startswith("completed_rung")}
        retry = create_trial(
            state=TrialState.RUNNING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={_REPLACED_NUMBER: number},
            system_attrs=system_attrs,
        )
        self._study.add_trial(retry)
        return self._find_last_trial(number)

    def _load_trial(self, trial: FrozenTrial) -> optuna.Trial:
        """Returns a stored trial that can suggest its missing parameters and store values."""
        import optuna

        study_id = self._storage.get_study_id_from_name(_STUDY_NAME)
        return optuna.Trial(self._study, self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number))

    @cached_property
    def _study(self) -> optuna.Study:
        """Optuna's study; raises JournalError if the file is damaged or belongs to another search."""
        import optuna
        from optuna.distributions import distribution_to_json
        from optuna.study import StudyDirection

        dimensions = [dimension for dimension in self.space.all_dimensions if dimension.has_choice]
        definition = {
            self.space.get_name(dimension): " if ".join(
                [distribution_to_json(dimension.distribution), *dimension.condition]
            )
            for dimension in dimensions
        }
        definition["the mode of the objective"] = self.mode
        try:
            if not optuna.get_all_study_names(self._storage):
                directions = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}
                optuna.create_study(storage=self._storage, study_name=_STUDY_NAME, direction=directions[self.mode])
            study = optuna.load_study(study_name=_STUDY_NAME, storage=self._storage)
            if _DEFINITION not in study.user_attrs:
                study.set_user_attr(_DEFINITION, definition)
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError) as error:
            detail = f"{type(error).__name__}: {error}"
            raise JournalError(f"{self.file} is damaged ({detail}); start a new sweep") from error
        if differences := "; ".join(find_differences(definition, study.user_attrs[_DEFINITION])):
            raise JournalError(f"{self.file} belongs to another search: {differences}; start a new sweep")
        return study

    @cached_property
    def _storage(self) -> optuna.storages.BaseStorage:
        """Storage in the file, after removing the lock and the incomplete last line that a killed process left.

        This is safe: only one process at a time uses a sweep folder. The lock protects against other Optuna tools.
        """
        from optuna.storages import InMemoryStorage, JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        if self.file is None:
            return InMemoryStorage()
        for lock in self.file.parent.glob(f"{self.file.name}.lock*"):
            lock.unlink()
        if self.file.exists():
            os.truncate(self.file, read_bytes(self.file, _MAX_STUDY_BYTES).rfind(b"\n") + 1)
        return JournalStorage(JournalFileBackend(str(self.file), lock_obj=JournalFileOpenLock(str(self.file))))

    @contextmanager
    def _silence_optuna(self) -> Iterator[None]:
        """Silences Optuna's own messages: experimental features, deprecations, progress.

        Raises:
            RunsFolderError: if the disk is full or cannot be written.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import optuna

            optuna.logging.set_verbosity(optuna.logging.CRITICAL)
            try:
                yield
            except OSError as error:
                raise RunsFolderError(
                    f"cannot write {self.file}: {error.strerror}; fix the problem, then resume the sweep"
                ) from error
