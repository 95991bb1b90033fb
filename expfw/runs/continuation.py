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
class Continuation:
    """What is gone on with; plain data, so that it can travel to another process.

    Attributes:
        folder: the run's.
        facts: what the run found out about its devices and model when it began; it must be so again.
        differences: in what the surroundings differ from then; accepted by the user.
        accept: whether facts may differ too.
        ends: the steps at which it had ended before it was trained longer: a reason to stop until then no longer
            counts, and what was measured there does not come again.
        longer: its end is moved by this; overrules: callbacks have other options now.
        cores: no more processor cores than so many are used.
        alone: what was recorded is not compared.
    """

    folder: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    differences: Sequence[str] = ()
    accept: bool = False
    ends: Sequence[int] = ()
    longer: bool = False
    overrules: bool = False
    cores: int | None = None
    alone: bool = False


def take_up(continuation: Continuation, run: Run, record: Journal) -> Replay:
    """Sets the run to where its newest good checkpoint was made, or to its beginning where there is none."""
    if continuation.cores is not None:
        cpu.use_cores(continuation.cores)
    path = continuation.folder / journal.NAME
    end = record.position()
    damaged: list[str] = []
    snapshot = next(checkpoints.good(continuation.folder, damaged.append, end), None)
    begin, pending = (0, {}) if snapshot is None else (snapshot.journal, dict(snapshot.pending))
    if continuation.alone:
        begin, pending = end, {}
    replay = Replay(path, begin, pending, record.write, continuation.ends)
    run.record = replay.record
    if snapshot is not None:
        run.restore(snapshot.run)
        run.checkpoint = snapshot
        if continuation.longer:
            _check_longer(continuation, run)
        if any(snapshot.step <= end for end in continuation.ends):
            run.stop_reason, run.pruned = None, False
    for line in damaged:
        run.warn(line)
    for difference in continuation.differences:
        run.warn(f"{difference}; the bits may differ too")
    if snapshot is None:
        run.warn(f"no checkpoint of run {run.id} can be used: it begins anew, and is compared with what it recorded")
    return replay


def _check_longer(continuation: Continuation, run: Run) -> None:
    train = run.config.train
    done, wanted, unit = (
        (run.epoch, train.epochs, "epochs") if train.steps is None else (run.step, train.steps, "steps")
    )
    if wanted < done or (wanted == done and continuation.ends):
        raise ConfigError(f"train.{unit}={wanted}, but run {run.id} has trained {done} {unit} already; ask for more")
    if run.stop_reason is not None and not run.pruned and not continuation.overrules:
        raise ConfigError(
            f"run {run.id} was stopped at step {run.step} ({run.stop_reason}): more {unit} alone change nothing; say "
            "also what changes that, for example callback.early_stopping.patience=20"
        )


def check_facts(continuation: Continuation, run: Run) -> None:
    """Compares what the run found out with what it found out when it began.

    Raises:
        ConfigError: it differs, so that other numbers would come out; nothing was trained yet.
    """
    for name, recorded in continuation.facts.items():
        if name in run.info and run.info[name] != recorded:
            text = f"{name} is {run.info[name]}, it was {recorded} when the run began"
            if not continuation.accept:
                raise ConfigError(
                    f"{text}: the numbers would not be the same; go on where they are, or add --accept-differences"
                )
            run.warn(f"{text}; the bits may differ too")


def snapshot(run: Run, model: Any, plugins: Sequence[Plugin], record: Journal, replay: Replay | None) -> Snapshot:
    """The complete state of a run, its callbacks and its model."""
    states = {f"{p.kind}:{p.name}": _plain(p) for p in plugins if isinstance(p, Callback)}
    state: ModelState = run.hook.expfw_save(model=model, training=True)
    kept, values = json.loads(json.dumps([run.state(), dict(state.values)]))  # copies: the training goes on
    model_state = dataclasses.replace(state, values=values)
    pending = replay.state() if replay is not None else {}
    return Snapshot(run.step, kept, states, model_state, record.position(), pending, record.sync)


def restore_callbacks(snapshot: Snapshot, plugins: Sequence[Plugin]) -> None:
    """Gives each callback its state back."""
    for plugin in plugins:
        state = snapshot.plugins.get(f"{plugin.kind}:{plugin.name}")
        if isinstance(plugin, Callback) and state:
            plugin.restore(state)


def _plain(plugin: Callback) -> dict[str, Any]:
    """A copy of its state, as it comes back from a checkpoint."""
    try:
        copied: dict[str, Any] = json.loads(json.dumps(dict(plugin.state())))
    except (TypeError, ValueError) as error:
        raise PluginError(f"callback plugin {plugin.name!r}: its state() is no plain JSON ({error})") from error
    return copied
