"""The ledger: the state of every trial of a sweep, one small file per trial, replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from expfw.api.result import FAILED
from expfw.errors import JournalError
from expfw.system import atomic_files
from expfw.tracking.recorded_run import read_run

WAITING = "WAITING"
_LONGEST_NUMBER = 9
_RESULT_FIELDS = ("status", "objective", "objective_metric", "metrics", "seconds", "error", "warnings")


@dataclass(frozen=True)
class Trial:
    """One trial: its configuration and its result, whose attributes are those of `Result`.

    Attributes:
        number: number of the trial, from 0, in the order of the sweep.
        overrides: all overrides of the trial, as `key=value`.
        swept: overrides that differ between trials, as `key=value`.
        status: WAITING, RUNNING, or the status of a run.
        run_id: ID of the run; None before it starts, like `folder`.
        configuration: number of the configuration, from 0; trials that differ only in the seed have the same number.
        attempt: number of the attempt, from 1; a failed trial may be retried.
        will_retry: whether the failed trial is about to be retried.
    """

    number: int
    fingerprint: str
    overrides: Sequence[str]
    swept: Sequence[str]
    status: str = WAITING
    run_id: str | None = None
    folder: str | None = None
    objective: float | None = None
    objective_metric: str | None = None
    metrics: Mapping[str, float] | None = None
    seconds: float | None = None
    error: str | None = None
    warnings: Sequence[str] = ()
    configuration: int | None = None
    attempt: int = 1
    will_retry: bool = False

    @property
    def name(self) -> str:
        """Readable name: the swept values without the prefixes of their keys (`learning_rate=0.01 units=50`)."""
        return " ".join(shorten_overrides(self.swept)) or f"trial {self.number}"

    @property
    def title(self) -> str:
        """Number of the trial, and its swept values if there are any."""
        return f"trial {self.number} ({self.name})" if self.swept else f"trial {self.number}"

    @property
    def values(self) -> dict[str, Any]:
        """Swept values by dotted key; numbers are parsed."""
        return {key: _parse_value(value) for key, value in split_overrides(self.swept).items()}

    def read_current_state(self, end_reason: str | None = None) -> Trial:
        """Returns this trial with the current state in the journal of its run.

        `end_reason` explains the end of its process, which makes an unfinished run FAILED; None if it may run.
        """
        error = end_reason
        try:
            run = None if self.folder is None else read_run(Path(self.folder))
        except JournalError as journal_error:
            run, error = None, f"{end_reason}; {journal_error}"
        if run is not None and run.has_ended:
            return replace(self, **{name: run.last[name] for name in _RESULT_FIELDS})
        if end_reason is not None:
            return replace(self, status=FAILED, error=error)
        return self if run is None else replace(self, status=run.status)


def _parse_value(text: str) -> Any:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return {"true": True, "false": False}.get(text.lower(), text)


def split_overrides(overrides: Sequence[str]) -> dict[str, str]:
    """Returns the values of `key=value` overrides by key."""
    return dict(override.lstrip("+").partition("=")[::2] for override in overrides)


def shorten_overrides(overrides: Sequence[str]) -> list[str]:
    """Returns `key=value` overrides with only the last part of each key, if it is unique; rounds long numbers."""
    pairs = [override.lstrip("+").partition("=")[::2] for override in overrides]
    last = [key.rpartition(".")[2] for key, _ in pairs]
    names = [name if last.count(name) == 1 else key for name, (key, _) in zip(last, pairs, strict=True)]
    return [f"{name}={round_long_number(value)}" for name, (_, value) in zip(names, pairs, strict=True)]


def round_long_number(value: str) -> str:
    """Returns a readable value: a number with many digits is rounded to five significant digits."""
    number = _parse_value(value)
    return f"{number:.5g}" if isinstance(number, float) and len(value) > _LONGEST_NUMBER else value


class Ledger:
    """Ledger files of one sweep."""

    def __init__(self, sweep_folder: Path) -> None:
        self.folder = sweep_folder / "ledger"

    def write(self, trial: Trial) -> None:
        """Writes the state of a trial, atomically and durably."""
        self.folder.mkdir(exist_ok=True)
        atomic_files.write_text(self.folder / f"{trial.number:06d}.json", json.dumps(asdict(trial)))

    def read_trial(self, number: int) -> Trial:
        """Reads one trial; with its current folder, if the runs folder was moved."""
        path = self.folder / f"{number:06d}.json"
        try:
            trial = Trial(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise JournalError(f"{path} is not a ledger entry ({error})") from error
        folder, trials_folder = Path(trial.folder or ""), path.absolute().parents[1] / "trials"
        is_moved = folder.parent.name == "trials" and folder.parent != trials_folder
        return replace(trial, folder=str(trials_folder / folder.name)) if is_moved else trial

    def read_trials(self) -> list[Trial]:
        """Reads all trials recorded so far, sorted by number; see `read_trial`."""
        return [self.read_trial(int(path.stem)) for path in sorted(self.folder.glob("[0-9]*.json"))]
