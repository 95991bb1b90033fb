"""Resume of a run from its newest usable checkpoint; compares repeated records with the journal."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expfw.api import checkpoints
from expfw.api.checkpoints import Snapshot
from expfw.api.contracts import Callback, Plugin
from expfw.api.model_state import ModelState
from expfw.api.run import Run
from expfw.errors import ConfigError, PluginError
from expfw.system import cpu
from expfw.system.formatting import pluralize
from expfw.system.json_values import normalize_json
from expfw.tracking import journal
from expfw.tracking.journal import Journal, Record

_MAX_LISTED_DIFFERENCES = 3


@dataclass(frozen=True)
class ResumePoint:
    """State to resume a run from; plain data, so that it can be sent to another process.

    Attributes:
        info: recorded information about devices and model; it must be the same now.
        differences: differences of the environment that the user accepts, one line each.
        accept_differences: whether `info` may differ too.
        end_steps: steps at which the run had ended before it was trained longer. A stop reason up to these steps no
            longer counts, and points of these steps are not logged again.
        is_extended: whether the overrides change `train.epochs` or `train.steps`.
        has_callback_overrides: whether the overrides change options of callbacks.
        cores: largest number of CPU cores to use; None for no limit.
        skip_comparison: whether recorded points are not compared.
    """

    folder: Path
    info: Mapping[str, Any] = field(default_factory=dict)
    differences: Sequence[str] = ()
    accept_differences: bool = False
    end_steps: Sequence[int] = ()
    is_extended: bool = False
    has_callback_overrides: bool = False
    cores: int | None = None
    skip_comparison: bool = False


class Replay:
    """Filters the records of a resumed run until all records after the checkpoint are logged again.

    Nothing is written before `begin`: a run that cannot be resumed stays unchanged.

    A recorded point (metric, step) is never written a second time, so trackers get it once; a different value is
    counted as a difference. A recorded message is not repeated. All other records are written.

    `records` are those after the checkpoint; `pending` contains what was still expected when it was saved, see `state`.
    Points of `end_steps`, at which the run had ended before, and its earlier test metrics are not expected again.
    """

    def __init__(
        self, records: Iterable[Record], pending: Record, write: Callable[..., None], end_steps: Sequence[int]
    ) -> None:
        self._write, self._end_steps = write, end_steps
        self.has_begun = False
        self.differences: list[str] = []
        self._held_records: list[tuple[str, dict[str, Any]]] = []
        self._expected_values: dict[tuple[str, int], deque[float]] = defaultdict(deque)
        for name, step, values in pending.get("values", ()):
            self._expected_values[name, step].extend(values)
        self._expected_messages: Counter[str] = Counter(pending.get("messages", {}))
        for record in records:
            if record["kind"] == "metrics":
                for name, value in record["values"].items():
                    self._expected_values[name, record["step"]].append(value)
            elif record["kind"] == "message":
                self._expected_messages[record["text"]] += 1

    def begin(self) -> None:
        """Starts to write records, first those that were held back."""
        self.has_begun = True
        for kind, fields in self._held_records:
            self.record(kind, **fields)

    def state(self) -> dict[str, Any]:
        """Returns the records that are still expected, as JSON values, for a checkpoint."""
        values = [[name, step, list(remaining)] for (name, step), remaining in self._expected_values.items()]
        return {"values": values, "messages": dict(+self._expected_messages)}  # only positive counts

    def record(self, kind: str, **fields: Any) -> None:
        """Writes a record if it is new."""
        if not self.has_begun:
            self._held_records.append((kind, fields))
        elif kind == "series" and self._expected_values:
            for metrics_record in journal.expand_series({"kind": kind, **fields}):
                self.record(**metrics_record)
        elif kind == "metrics":
            new_values = {
                name: value
                for name, value in fields["values"].items()
                if not self._compare(name, fields["step"], value)
            }
            if new_values:
                self._write(kind, step=fields["step"], values=new_values)
        elif kind == "message" and self._expected_messages[fields["text"]] > 0:
            self._expected_messages[fields["text"]] -= 1
        else:
            self._write(kind, **fields)

    def _compare(self, name: str, step: int, value: float) -> bool:
        """Compares a value with the recorded one; returns False if none is recorded."""
        recorded_values = self._expected_values.get((name, step))
        if not recorded_values:
            return False
        recorded_value = recorded_values.popleft()
        if not recorded_values:
            del self._expected_values[name, step]
        if recorded_value != value and not (recorded_value != recorded_value and value != value):
            self.differences.append(f"{name} at step {step} is {value!r}, was {recorded_value!r}")
        return True

    def describe_differences(self, step: int) -> str | None:
        """Returns the differences from the recorded points before `step` in one line, or None."""
        missing_count = sum(
            recorded < step and recorded not in self._end_steps and not (self._end_steps and name.startswith("test/"))
            for name, recorded in self._expected_values
        )
        parts = []
        if self.differences:
            unlisted_count = len(self.differences) - _MAX_LISTED_DIFFERENCES
            more = f" and {unlisted_count} more" if unlisted_count > 0 else ""
            listed = "; ".join(self.differences[:_MAX_LISTED_DIFFERENCES])
            parts.append(f"values differ from the record: {listed}{more}")
        if missing_count:
            parts.append(f"{pluralize(missing_count, 'recorded value')} not logged again")
        return ", and ".join(parts) or None


def restore_run(resume_point: ResumePoint, run: Run, run_journal: Journal) -> Replay:
    """Restores the run from its newest usable checkpoint; without a checkpoint, it starts from the beginning."""
    if resume_point.cores is not None:
        cpu.limit_cores(resume_point.cores)
    journal_size = run_journal.get_size()
    damage_reports: list[str] = []
    snapshot = next(checkpoints.read_usable_checkpoints(resume_point.folder, damage_reports.append, journal_size), None)
    offset, pending = (0, {}) if snapshot is None else (snapshot.journal, dict(snapshot.pending))
    records = journal.read_records(run_journal.path, offset)[0]
    if resume_point.skip_comparison:
        records, pending = [], {}
    replay = Replay(records, pending, run_journal.write, resume_point.end_steps)
    run.record = replay.record
    if snapshot is not None:
        run.restore(snapshot.run)
        run.checkpoint = snapshot
        if resume_point.is_extended:
            _check_extension(resume_point, run)
        if any(snapshot.step <= end_step for end_step in resume_point.end_steps):
            run.stop_reason, run.pruned = None, False
    for line in damage_reports:
        run.warn(line)
    for difference in resume_point.differences:
        run.warn(f"{difference}; the results may not be bit-identical")
    if snapshot is None:
        run.warn(
            f"run {run.id} has no usable checkpoint; it starts from the beginning, and its results are compared with "
            "the journal"
        )
    return replay


def _check_extension(resume_point: ResumePoint, run: Run) -> None:
    train = run.config.train
    done, requested, unit = (
        (run.epoch, train.epochs, "epochs") if train.steps is None else (run.step, train.steps, "steps")
    )
    if requested < done or (requested == done and resume_point.end_steps):
        raise ConfigError(
            f"train.{unit}={requested}, but run {run.id} has already trained {done} {unit}; expected more"
        )
    if run.stop_reason is not None and not run.pruned and not resume_point.has_callback_overrides:
        raise ConfigError(
            f"run {run.id} was stopped at step {run.step} ({run.stop_reason}); more {unit} alone do not resume it; "
            "also change the callback that stopped it, for example callback.early_stopping.patience=20"
        )


def check_info(resume_point: ResumePoint, run: Run) -> None:
    """Raises a `ConfigError` if the info about devices and model differs from the recorded one."""
    for name, recorded in resume_point.info.items():
        if name in run.info and normalize_json(run.info[name]) != normalize_json(recorded):
            text = f"{name} is {run.info[name]}, was {recorded} when the run started"
            if not resume_point.accept_differences:
                raise ConfigError(
                    f"{text}; the results would not be bit-identical; resume the run in its original environment, or "
                    "add --accept-differences"
                )
            run.warn(f"{text}; the results may not be bit-identical")


def take_snapshot(
    run: Run, model: Any, plugins: Sequence[Plugin], run_journal: Journal, replay: Replay | None
) -> Snapshot:
    """Returns the complete state of the run, its callbacks and its model."""
    callback_states = {}
    for plugin in plugins:
        if isinstance(plugin, Callback):
            try:
                callback_states[f"{plugin.kind}:{plugin.name}"] = _copy(dict(plugin.state()))
            except (TypeError, ValueError) as error:
                raise PluginError(
                    f"callback plugin {plugin.name!r}: state() returned a value that is not JSON ({error})"
                ) from error
    model_state: ModelState = run.hook.expfw_save(model=model, training=True)
    model_state = dataclasses.replace(model_state, values=_copy(dict(model_state.values)))
    pending = replay.state() if replay is not None else {}
    size = run_journal.get_size()
    return Snapshot(run.step, _copy(run.state()), callback_states, model_state, size, pending, run_journal.sync)


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    """Copies a state, because training continues, to the values that are read from a checkpoint."""
    state_copy: dict[str, Any] = json.loads(json.dumps(state))
    return state_copy
