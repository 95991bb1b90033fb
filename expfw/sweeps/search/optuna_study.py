"""Optuna study of a search, in a file in the sweep folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from expfw.errors import JournalError, RunsFolderError

if TYPE_CHECKING:
    import optuna

_STUDY_NAME = "expfw"  # one study per file; Hyperband puts trials into brackets by this name and their number
_REPLACED_NUMBER = "replaces"


class Study:
    """The trials of an Optuna study, by their numbers in the sweep.

    A number has one Optuna trial. If a failed trial is retried, its number gets a new Optuna trial, because Optuna
    cannot reopen a trial. Other Optuna tools can read the file: `optuna-dashboard study.log`.

    Args:
        folder: folder of the study; an existing study is resumed. None to keep the study in memory.
        mode: "min" or "max".
    """

    def __init__(self, folder: Path | None, mode: str) -> None:
        self.file = None if folder is None else folder / "study.log"
        self.direction: Literal["minimize", "maximize"] = "minimize" if mode == "min" else "maximize"

    @cached_property
    def optuna_study(self) -> optuna.Study:
        """Optuna's study, opened on first use.

        Raises:
            JournalError: if the file is damaged or belongs to another search.
        """
        import optuna

        try:
            if not optuna.get_all_study_names(self._storage):
                optuna.create_study(storage=self._storage, study_name=_STUDY_NAME, direction=self.direction)
            study = optuna.load_study(study_name=_STUDY_NAME, storage=self._storage)
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            detail = f"{type(error).__name__}: {error}"
            raise JournalError(f"{self.file} is damaged ({detail}); start a new sweep") from error
        if study.direction.name.lower() != self.direction:
            raise self.make_mismatch_error(f"{study.direction.name.lower()}s the objective")
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
            os.truncate(self.file, self.file.read_bytes().rfind(b"\n") + 1)
        return JournalStorage(JournalFileBackend(str(self.file), lock_obj=JournalFileOpenLock(str(self.file))))

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

    def make_mismatch_error(self, reason: str) -> JournalError:
        """Returns an error for a study that belongs to another search."""
        return JournalError(f"{self.file or 'the study'} belongs to another search: it {reason}; start a new sweep")

    def find_trials(self, number: int) -> list[optuna.trial.FrozenTrial]:
        """Returns the trial of a number as it was proposed, and its retries.

        Raises:
            JournalError: if the study has no such trial.
        """
        trials_by_number = self.list_trials()
        if number >= len(trials_by_number):
            raise self.make_mismatch_error(f"has no trial {number}")
        return trials_by_number[number]

    def list_trials(self) -> list[list[optuna.trial.FrozenTrial]]:
        """Returns, for each number, the trial as it was proposed, and its retries."""
        trials_by_number: list[list[optuna.trial.FrozenTrial]] = []
        for trial in self.optuna_study.get_trials(deepcopy=False):
            if _REPLACED_NUMBER in trial.user_attrs:
                trials_by_number[trial.user_attrs[_REPLACED_NUMBER]].append(trial)
            else:
                trials_by_number.append([trial])
        return trials_by_number

    def ensure_open_trial(self, number: int) -> optuna.trial.FrozenTrial:
        """Returns the last trial of a number; if it failed, adds a retry and returns that."""
        from optuna.trial import TrialState, create_trial

        trial = self.find_trials(number)[-1]
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
        self.optuna_study.add_trial(retry)
        return self.find_trials(number)[-1]

    def open_trial(self, trial: optuna.trial.FrozenTrial) -> optuna.Trial:
        """Returns a stored trial that can suggest its missing parameters and store values."""
        import optuna

        study_id = self._storage.get_study_id_from_name(_STUDY_NAME)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        return optuna.Trial(self.optuna_study, trial_id)
