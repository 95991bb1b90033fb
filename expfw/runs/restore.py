"""Going on with a run: from its newest good checkpoint, in its folder, under its name."""

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
    """What is gone on with; plain data, so that it can travel to another process.

    Attributes:
        folder: the run's.
        facts: what the run found out about its devices and model when it began; it must be so again.
        differences: in what the environment differs from then; accepted by the user.
        accept_differences: whether facts may differ too.
        end_steps: the steps at which it had ended before it was trained longer: a reason to stop until then no longer
            counts, and what was measured there does not come again.
        is_extended: its end is moved by this; has_callback_overrides: callbacks have other options now.
        cores: no more processor cores than so many are used.
        skip_comparison: what was recorded is not compared.
    """

    folder: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    differences: Sequence[str] = ()
    accept_differences: bool = False
    end_steps: Sequence[int] = ()
    is_extended: bool = False
    has_callback_overrides: bool = False
    cores: int | None = None
    skip_comparison: bool = False


def restore_run(resume_point: ResumePoint, run: Run, run_journal: Journal) -> Replay:
    """Sets the run to where its newest good checkpoint was made, or to its beginning where there is none."""
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
        run.warn(f"{difference}; the bits may differ too")
    if snapshot is None:
        run.warn(f"no checkpoint of run {run.id} can be used: it begins anew, and is compared with what it recorded")
    return replay


def _check_extension(resume_point: ResumePoint, run: Run) -> None:
    train = run.config.train
    done, requested, unit = (
        (run.epoch, train.epochs, "epochs") if train.steps is None else (run.step, train.steps, "steps")
    )
    if requested < done or (requested == done and resume_point.end_steps):
        raise ConfigError(f"train.{unit}={requested}, but run {run.id} has trained {done} {unit} already; ask for more")
    if run.stop_reason is not None and not run.pruned and not resume_point.has_callback_overrides:
        raise ConfigError(
            f"run {run.id} was stopped at step {run.step} ({run.stop_reason}): more {unit} alone change nothing; say "
            "also what changes that, for example callback.early_stopping.patience=20"
        )


def check_facts(resume_point: ResumePoint, run: Run) -> None:
    """Compares what the run found out with what it found out when it began.

    Raises:
        ConfigError: it differs, so that other numbers would come out; nothing was trained yet.
    """
    for name, recorded in resume_point.facts.items():
        if name in run.info and run.info[name] != recorded:
            text = f"{name} is {run.info[name]}, it was {recorded} when the run began"
            if not resume_point.accept_differences:
                raise ConfigError(
                    f"{text}: the numbers would not be the same; go on where they are, or add --accept-differences"
                )
            run.warn(f"{text}; the bits may differ too")


def take_snapshot(
    run: Run, model: Any, plugins: Sequence[Plugin], run_journal: Journal, replay: Replay | None
) -> Snapshot:
    """The complete state of a run, its callbacks and its model."""
    callback_states = {f"{p.kind}:{p.name}": _copy_state(p) for p in plugins if isinstance(p, Callback)}
    state: ModelState = run.hook.expfw_save(model=model, training=True)
    run_state, values = json.loads(json.dumps([run.state(), dict(state.values)]))  # copies: the training goes on
    model_state = dataclasses.replace(state, values=values)
    pending = replay.state() if replay is not None else {}
    return Snapshot(
        run.step, run_state, callback_states, model_state, run_journal.get_size(), pending, run_journal.sync
    )


def restore_callbacks(snapshot: Snapshot, plugins: Sequence[Plugin]) -> None:
    """Gives each callback its state back."""
    for plugin in plugins:
        state = snapshot.plugins.get(f"{plugin.kind}:{plugin.name}")
        if isinstance(plugin, Callback) and state:
            plugin.restore(state)


def _copy_state(plugin: Callback) -> dict[str, Any]:
    """A copy of its state, as it comes back from a checkpoint."""
    try:
        state_copy: dict[str, Any] = json.loads(json.dumps(dict(plugin.state())))
    except (TypeError, ValueError) as error:
        raise PluginError(f"callback plugin {plugin.name!r}: its state() is no plain JSON ({error})") from error
    return state_copy
