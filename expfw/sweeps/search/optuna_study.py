"""Optuna study of a search, in a file in the sweep folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from expfw.errors import JournalError, RunsFolderError

if TYPE_CHECKING:
    import optuna

FILE_NAME = "study.log"
_STUDY_NAME = "expfw"  # one study per file; Hyperband puts trials into brackets by this name and their number
_REPLACED_NUMBER = "replaces"


class Study:
    """The trials of an Optuna study, by their numbers in the sweep.

    A number has one Optuna trial. If a failed trial is retried, its number gets a new Optuna trial, because Optuna
    cannot reopen a trial. Other Optuna tools can read the file: `optuna-dashboard study.log`.

    Args:
        file: file of the study; an existing study is resumed. None to keep the study in memory.
        mode: "min" or "max".
    """

    def __init__(self, file: Path | None, mode: str) -> None:
        self.file, self.mode = file, mode

    @cached_property
    def optuna_study(self) -> optuna.Study:
        """Optuna's study, opened on first use.

        Raises:
            JournalError: if the file is damaged or belongs to another search.
        """
        import optuna

        direction: Literal["minimize", "maximize"] = "minimize" if self.mode == "min" else "maximize"
        with self._detect_damage():
            if not optuna.get_all_study_names(self._storage):
                optuna.create_study(storage=self._storage, study_name=_STUDY_NAME, direction=direction)
            study = optuna.load_study(study_name=_STUDY_NAME, storage=self._storage)
        if study.direction.name.lower() != direction:
            raise self.make_mismatch_error(f"{study.direction.name.lower()}s the objective")
        return study

    @contextmanager
    def silence_optuna(self) -> Iterator[None]:
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

    @contextmanager
    def _detect_damage(self) -> Iterator[None]:
        """Converts the errors that Optuna raises for a damaged file."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            detail = f"{type(error).__name__}: {error}"
            raise JournalError(f"{self.file} is damaged ({detail}); start a new sweep") from error

    def make_mismatch_error(self, reason: str) -> JournalError:
        """Returns an error for a study that belongs to another search."""
        return JournalError(f"{self.file or 'the study'} belongs to another search: it {reason}; start a new sweep")

    @cached_property
    def _storage(self) -> optuna.storages.BaseStorage:
        from optuna.storages import InMemoryStorage, JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        if self.file is None:
            return InMemoryStorage()
        _repair_file(self.file)
        return JournalStorage(JournalFileBackend(str(self.file), lock_obj=JournalFileOpenLock(str(self.file))))

    @property
    def trial_count(self) -> int:
        """Number of the sweep's trials in the study, without retries."""
        return len(self._list_first_trials())

    def _list_first_trials(self) -> list[optuna.trial.FrozenTrial]:
        return [t for t in self.optuna_study.get_trials(deepcopy=False) if _REPLACED_NUMBER not in t.user_attrs]

    def get_first_trial(self, number: int) -> optuna.trial.FrozenTrial:
        """Returns the first trial of a number, as it was proposed."""
        return self._list_first_trials()[number]

    def get_latest_trial(self, number: int) -> optuna.trial.FrozenTrial:
        """Returns the last trial of a number, which may be a retry.

        Raises:
            JournalError: if the study has no trial with this number.
        """
        trials = self.optuna_study.get_trials(deepcopy=False)
        retries = [trial for trial in trials if trial.user_attrs.get(_REPLACED_NUMBER) == number]
        if not retries and number >= self.trial_count:
            raise self.make_mismatch_error(f"has no trial {number}")
        return retries[-1] if retries else self.get_first_trial(number)

    def add_trial(self, parameters: Mapping[str, Any], distributions: Mapping[str, Any], **attributes: Any) -> None:
        """Adds a running trial with these parameters."""
        from optuna.trial import TrialState, create_trial

        trial = create_trial(
            state=TrialState.RUNNING, params=dict(parameters), distributions=dict(distributions), **attributes
        )
        self.optuna_study.add_trial(trial)

    def ensure_open_trial(self, number: int) -> optuna.trial.FrozenTrial:
        """Returns the last trial of a number; if it failed, adds a retry and returns that."""
        from optuna.trial import TrialState

        trial = self.get_latest_trial(number)
        if trial.state != TrialState.FAIL:
            return trial
        system_attrs = {key: value for key, value in trial.system_attrs.items() if not key.startswith("completed_rung")}
        self.add_trial(
            trial.params, trial.distributions, user_attrs={_REPLACED_NUMBER: number}, system_attrs=system_attrs
        )
        return self.get_latest_trial(number)

    def resume_trial(self, trial: optuna.trial.FrozenTrial) -> optuna.Trial:
        """Returns a stored trial that can suggest its missing parameters."""
        import optuna

        return optuna.Trial(self.optuna_study, self._get_trial_id(trial))

    def report_value(self, trial: optuna.trial.FrozenTrial, evaluation: int, value: float) -> None:
        """Stores the objective's value at an evaluation."""
        self._storage.set_trial_intermediate_value(self._get_trial_id(trial), evaluation, value)

    def set_attributes(self, trial: optuna.trial.FrozenTrial, **values: Any) -> None:
        """Stores user attributes of a trial."""
        for key, value in values.items():
            self._storage.set_trial_user_attr(self._get_trial_id(trial), key, value)

    def _get_trial_id(self, trial: optuna.trial.FrozenTrial) -> int:
        study_id = self._storage.get_study_id_from_name(_STUDY_NAME)
        trial_id: int = self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        return trial_id


def _repair_file(file: Path) -> None:
    """Removes the lock and the incomplete last line that a killed process left.

    This is safe: only one process at a time uses a sweep folder. The lock protects against other Optuna tools.
    """
    for lock in file.parent.glob(f"{file.name}.lock*"):
        lock.unlink()
    if file.exists():
        content = file.read_bytes()
        os.truncate(file, content.rfind(b"\n") + 1)
