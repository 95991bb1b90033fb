"""The ledger: the state of every trial of a sweep, one small file per trial, replaced atomically."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from expfw.api.result import FAILED, FINISHED, KILLED, PRUNED
from expfw.errors import JournalError, truncate_text
from expfw.system import atomic_files
from expfw.system.contained_paths import resolve_inside
from expfw.system.json_values import Count, Identifier, Seconds, build, read_json
from expfw.tracking.recorded_run import INTERRUPTED, RUNNING, read_run

WAITING = "WAITING"
_STATUSES = (WAITING, RUNNING, INTERRUPTED, FINISHED, FAILED, KILLED, PRUNED)
_LONGEST_NUMBER = 9
METRIC_FIELDS = ("objective", "objective_metric", "metrics", "metrics_step", "metrics_epoch")
"""Fields of a trial with the metrics of its result."""
_RESULT_FIELDS = ("status", *METRIC_FIELDS, "seconds", "error", "warnings")


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

    number: Count
    fingerprint: str
    overrides: Sequence[str]
    swept: Sequence[str]
    status: str = WAITING
    run_id: Identifier | None = None
    folder: str | None = None
    objective: float | None = None
    objective_metric: str | None = None
    metrics: Mapping[str, float] | None = None
    metrics_step: Count | None = None
    metrics_epoch: Count | None = None
    seconds: Seconds | None = None
    error: str | None = None
    warnings: Sequence[str] = ()
    configuration: Count | None = None
    attempt: Count = 1
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
    def has_result(self) -> bool:
        """Whether the trial has its final result; an interrupted trial can be resumed, a failed one may be retried."""
        return self.status in (FINISHED, FAILED, PRUNED) and not self.will_retry

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
            return replace(self, **{name: getattr(run.result, name) for name in _RESULT_FIELDS})
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
        atomic_files.write_json(self.folder / f"{trial.number:06d}.json", asdict(trial))

    def read_trial(self, number: int) -> Trial:
        """Reads one trial, with its folder in this sweep folder, which may have been moved."""
        path = self.folder / f"{number:06d}.json"
        try:
            trial = build(Trial, read_json(path))
            if trial.number != number or trial.status not in _STATUSES:
                raise ValueError(f"number {trial.number}, status {truncate_text(trial.status, 40)}")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise JournalError(f"{path} is not a ledger entry ({reason})") from error
        if trial.folder is None:
            return trial
        sweep_folder, name = path.absolute().parents[1], Path(trial.folder).name
        return replace(trial, folder=str(resolve_inside(sweep_folder, Path("trials", name))))

    def read_trials(self) -> list[Trial]:
        """Reads all trials recorded so far, sorted by number; see `read_trial`.

        A trial whose entry cannot be read is FAILED, so that it does not affect the others.
        """
        trials = []
        for number in sorted({int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdecimal()}):
            try:
                trials.append(self.read_trial(number))
            except JournalError as error:
                trials.append(Trial(number, "", (), (), FAILED, error=str(error)))
        return trials
