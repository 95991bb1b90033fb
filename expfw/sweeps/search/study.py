"""What a search knows, as an Optuna study in a file of the sweep's folder."""

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

NAME = "study.log"
_STUDY = "expfw"  # one study per file; Hyperband puts trials into brackets by this name and their number
_INSTEAD_OF = "instead_of"


class Study:
    """The trials of an Optuna study by the numbers that they have in the sweep.

    A number has one trial; where that failed and is tried again, it has another, since Optuna's trials cannot be
    opened again. Optuna's other tools read the file: `optuna-dashboard study.log`.

    Args:
        file: is gone on with; None for a study that is written nowhere.
        mode: min or max.
    """

    def __init__(self, file: Path | None, mode: str) -> None:
        self.file, self.mode = file, mode

    @cached_property
    def opened(self) -> optuna.Study:
        """The study itself, opened when it is needed for the first time.

        Raises:
            JournalError: the file is damaged, or of another search.
        """
        import optuna

        direction: Literal["minimize", "maximize"] = "minimize" if self.mode == "min" else "maximize"
        with self._damage():
            if not optuna.get_all_study_names(self._storage):
                optuna.create_study(storage=self._storage, study_name=_STUDY, direction=direction)
            found = optuna.load_study(study_name=_STUDY, storage=self._storage)
        if found.direction.name.lower() != direction:
            raise self.misfit(f"{found.direction.name.lower()}s the objective")
        return found

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps to itself what Optuna says about itself: experimental features, deprecations, its progress.

        Raises:
            RunsFolderError: the disk is full, or cannot be written.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import optuna

            optuna.logging.set_verbosity(optuna.logging.CRITICAL)
            try:
                yield
            except OSError as error:
                raise RunsFolderError(f"{error.strerror}: {self.file}; mend that, then go on with the sweep") from error

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """What Optuna raises for lines that it did not write."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            what = f"{type(error).__name__}: {error}"
            raise JournalError(f"{self.file} is damaged ({what}); begin a new sweep") from error

    def misfit(self, why: str) -> JournalError:
        """An error for a file that holds something else than what is searched for."""
        return JournalError(f"{self.file or 'the study'} belongs to another search: it {why}; begin a new sweep")

    @cached_property
    def _storage(self) -> optuna.storages.BaseStorage:
        from optuna.storages import InMemoryStorage, JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        if self.file is None:
            return InMemoryStorage()
        _mend(self.file)
        return JournalStorage(JournalFileBackend(str(self.file), lock_obj=JournalFileOpenLock(str(self.file))))

    @property
    def count(self) -> int:
        """How many numbers have a trial."""
        return len(self._first())

    def _first(self) -> list[optuna.trial.FrozenTrial]:
        return [t for t in self.opened.get_trials(deepcopy=False) if _INSTEAD_OF not in t.user_attrs]

    def first(self, number: int) -> optuna.trial.FrozenTrial:
        """The trial of that number as it was proposed."""
        return self._first()[number]

    def latest(self, number: int) -> optuna.trial.FrozenTrial:
        """The trial of that number, as it was tried last.

        Raises:
            JournalError: there is none.
        """
        trials = self.opened.get_trials(deepcopy=False)
        again = [trial for trial in trials if trial.user_attrs.get(_INSTEAD_OF) == number]
        if not again and number >= self.count:
            raise self.misfit(f"has no trial {number}")
        return again[-1] if again else self.first(number)

    def add(self, parameters: Mapping[str, Any], distributions: Mapping[str, Any], **attributes: Any) -> None:
        """A trial that begins with these parameters."""
        from optuna.trial import TrialState, create_trial

        trial = create_trial(
            state=TrialState.RUNNING, params=dict(parameters), distributions=dict(distributions), **attributes
        )
        self.opened.add_trial(trial)

    def to_tell(self, number: int) -> optuna.trial.FrozenTrial:
        """The trial of that number, or, where it failed, another one in its stead."""
        from optuna.trial import TrialState

        found = self.latest(number)
        if found.state != TrialState.FAIL:
            return found
        kept = {key: value for key, value in found.system_attrs.items() if not key.startswith("completed_rung")}
        self.add(found.params, found.distributions, user_attrs={_INSTEAD_OF: number}, system_attrs=kept)
        return self.latest(number)

    def ask_again(self, trial: optuna.trial.FrozenTrial) -> optuna.Trial:
        """A trial that was begun, to suggest what it lacks."""
        import optuna

        return optuna.Trial(self.opened, self._id(trial))

    def report(self, trial: optuna.trial.FrozenTrial, evaluation: int, value: float) -> None:
        """Keeps the objective's value at an evaluation."""
        self._storage.set_trial_intermediate_value(self._id(trial), evaluation, value)

    def note(self, trial: optuna.trial.FrozenTrial, **values: Any) -> None:
        """Keeps something about a trial."""
        for key, value in values.items():
            self._storage.set_trial_user_attr(self._id(trial), key, value)

    def _id(self, trial: optuna.trial.FrozenTrial) -> int:
        study = self._storage.get_study_id_from_name(_STUDY)
        found: int = self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)
        return found


def _mend(file: Path) -> None:
    """Takes away what a process that was killed left: its lock, and a last line that is not whole.

    A sweep's folder has one process at a time; the lock is for Optuna's other tools.
    """
    for lock in file.parent.glob(f"{file.name}.lock*"):
        lock.unlink()
    if file.exists():
        content = file.read_bytes()
        os.truncate(file, content.rfind(b"\n") + 1)
