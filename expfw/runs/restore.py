"""Resume of a run from its newest usable checkpoint, in the same run folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expfw.api import checkpoints
from expfw.api.checkpoints import Snapshot
from expfw.api.contracts import Callback, Plugin
from expfw.api.model_state import ModelState
from expfw.api.run import Run
from expfw.errors import ConfigError, PluginError
from expfw.runs.replay import Replay
from expfw.system import cpu
from expfw.tracking import journal
from expfw.tracking.journal import Journal


@dataclass(frozen=True)
class ResumePoint:
    """State to resume a run from; plain data, so that it can be sent to another process.

    Attributes:
        folder: run folder.
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


def restore_run(resume_point: ResumePoint, run: Run, run_journal: Journal) -> Replay:
    """Restores the run from its newest usable checkpoint; without a checkpoint, it starts from the beginning."""
    if resume_point.cores is not None:
        cpu.limit_cores(resume_point.cores)
    journal_path = resume_point.folder / journal.NAME
    journal_size = run_journal.get_size()
    damage_reports: list[str] = []
    snapshot = next(checkpoints.read_usable_checkpoints(resume_point.folder, damage_reports.append, journal_size), None)
    offset, pending = (0, {}) if snapshot is None else (snapshot.journal, dict(snapshot.pending))
    if resume_point.skip_comparison:
        offset, pending = journal_size, {}
    replay = Replay(journal_path, offset, pending, run_journal.write, resume_point.end_steps)
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
    """Compares the info about devices and model with the recorded ones, before training starts.

    Raises:
        ConfigError: if they differ, so that the results would not be bit-identical.
    """
    for name, recorded in resume_point.info.items():
        if name in run.info and run.info[name] != recorded:
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
    callback_states = {f"{p.kind}:{p.name}": _copy_state(p) for p in plugins if isinstance(p, Callback)}
    state: ModelState = run.hook.expfw_save(model=model, training=True)
    run_state, values = json.loads(json.dumps([run.state(), dict(state.values)]))  # copies: training continues
    model_state = dataclasses.replace(state, values=values)
    pending = replay.state() if replay is not None else {}
    return Snapshot(
        run.step, run_state, callback_states, model_state, run_journal.get_size(), pending, run_journal.sync
    )


def restore_callbacks(snapshot: Snapshot, plugins: Sequence[Plugin]) -> None:
    """Restores the state of each callback."""
    for plugin in plugins:
        state = snapshot.plugins.get(f"{plugin.kind}:{plugin.name}")
        if isinstance(plugin, Callback) and state:
            plugin.restore(state)


def _copy_state(plugin: Callback) -> dict[str, Any]:
    """Returns a copy of the state of a callback, as it is read from a checkpoint."""
    try:
        state_copy: dict[str, Any] = json.loads(json.dumps(dict(plugin.state())))
    except (TypeError, ValueError) as error:
        raise PluginError(
            f"callback plugin {plugin.name!r}: state() returned a value that is not JSON ({error})"
        ) from error
    return state_copy
