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
from expfw.tracking import run_index

WAITING = "WAITING"
_LONGEST_NUMBER = 9


@dataclass(frozen=True)
class Trial:
    """One trial: its configuration (fingerprint and overrides) and its result.

    Attributes:
        number: number of the trial, from 0, in the order of the sweep.
        fingerprint: fingerprint of configuration and data.
        overrides: all overrides of the trial, as `key=value`.
        swept: overrides that differ between trials, as `key=value`.
        status: WAITING, RUNNING, or the status of a run.
        run_id: ID of the run; None before it starts.
        folder: run folder; None before the run starts.
        objective: value of the objective metric.
        objective_metric: name of the objective metric.
        metrics: last value of each metric.
        seconds: wall time in seconds.
        error: one-line error; None if there was no error.
        warnings: one-line warnings of the run.
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
        return make_short_name(self.swept) or f"trial {self.number}"

    @property
    def title(self) -> str:
        """Number of the trial, and its swept values if there are any."""
        return f"trial {self.number} ({self.name})" if self.swept else f"trial {self.number}"

    @property
    def values(self) -> dict[str, Any]:
        """Swept values by dotted key; numbers are parsed."""
        pairs = (override.lstrip("+").partition("=") for override in self.swept)
        return {key: _parse_value(value) for key, _, value in pairs}

    def read_final_state(self, reason: str) -> Trial:
        """Returns this trial with the result in the journal of its run, or FAILED with `reason` if there is none."""
        failed_trial = replace(self, status=FAILED, error=reason)
        if self.folder is None:
            return failed_trial
        try:
            last_record = run_index.read_entry(Path(self.folder)).last
        except JournalError as error:
            return replace(failed_trial, error=f"{reason}; {error}")
        return self._copy_with_result(last_record) if last_record["kind"] == "run_ended" else failed_trial

    def read_current_state(self) -> Trial:
        """Returns this trial with the current state in the journal of its run, for example to resume a sweep."""
        if self.folder is None:
            return self
        try:
            entry = run_index.read_entry(Path(self.folder))
        except JournalError:
            return self
        return (
            self._copy_with_result(entry.last)
            if entry.last["kind"] == "run_ended"
            else replace(self, status=entry.status)
        )

    def _copy_with_result(self, end_record: Mapping[str, Any]) -> Trial:
        copied_fields = ("status", "objective", "objective_metric", "metrics", "seconds", "error", "warnings")
        return replace(self, **{name: end_record[name] for name in copied_fields})


def _parse_value(text: str) -> Any:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return {"true": True, "false": False}.get(text.lower(), text)


def make_short_name(overrides: Sequence[str]) -> str:
    """Returns overrides as a name; see `shorten_overrides`."""
    return " ".join(shorten_overrides(overrides))


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
        atomic_files.write_text(self._get_path(trial.number), json.dumps(asdict(trial)))

    def read_trial(self, number: int) -> Trial:
        """Reads one trial.

        Raises:
            JournalError: if its file is damaged.
        """
        return _read_trial(self._get_path(number))

    def _get_path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"

    def read_trials(self) -> list[Trial]:
        """Reads all trials recorded so far, sorted by number.

        Raises:
            JournalError: if a file of the ledger is damaged.
        """
        return [_read_trial(path) for path in sorted(self.folder.glob("[0-9]*.json"))]


def _relocate_folder(trial: Trial, sweep_folder: Path) -> Trial:
    """Returns the trial with its current folder, if the runs folder was moved."""
    recorded_folder = Path(trial.folder or "")
    if recorded_folder.parent.name != "trials" or recorded_folder.parent.parent == sweep_folder:
        return trial
    return replace(trial, folder=str(sweep_folder / "trials" / recorded_folder.name))


def _read_trial(path: Path) -> Trial:
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        return _relocate_folder(Trial(**values), path.absolute().parent.parent)
    except (ValueError, TypeError) as error:
        raise JournalError(f"{path} is not a ledger entry ({error})") from error
