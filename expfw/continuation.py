"""Going on with a run: from its newest good checkpoint, in its folder, under its name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expfw import checkpoints, environment, journal
from expfw.api import Callback, Plugin
from expfw.checkpoints import Snapshot
from expfw.errors import ConfigError, PluginError
from expfw.journal import Journal
from expfw.model_state import ModelState
from expfw.replay import Replay
from expfw.run_state import Run


@dataclass(frozen=True)
class Continuation:
    """What is gone on with; plain data, so that it can travel to another process.

    Attributes:
        folder: the run's.
        facts: what the run found out about its devices and model when it began; it must be so again.
        differences: in what the surroundings differ from then; accepted by the user.
        accept: whether facts may differ too.
        ended_at: the step at which it ended, where that end was moved: a reason to stop until then no longer counts,
            and what was measured at that end does not come again.
        cores: no more processor cores than so many are used.
        alone: what was recorded is not compared.
    """

    folder: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    differences: Sequence[str] = ()
    accept: bool = False
    ended_at: int | None = None
    cores: int | None = None
    alone: bool = False


def take_up(continuation: Continuation, run: Run, record: Journal) -> Replay:
    """Sets the run to where its newest good checkpoint was made, or to its beginning where there is none."""
    if continuation.cores is not None:
        environment.use_cores(continuation.cores)
    path, ended_at = continuation.folder / journal.NAME, continuation.ended_at
    end = record.position()
    damaged: list[str] = []
    snapshot = next(checkpoints.good(continuation.folder, damaged.append, end), None)
    begin, pending = (0, {}) if snapshot is None else (snapshot.journal, dict(snapshot.pending))
    if continuation.alone:
        begin, pending = end, {}
    replay = Replay(path, begin, pending, record.write, ended_at)
    run.record = replay.record
    if snapshot is not None:
        run.restore(snapshot.run)
        run.checkpoint = snapshot
        if ended_at is not None and snapshot.step <= ended_at:
            run.stop_reason, run.pruned = None, False
    for line in damaged:
        run.warn(line)
    for difference in continuation.differences:
        run.warn(f"{difference}; the bits may differ too")
    if snapshot is None:
        run.warn(f"no checkpoint of run {run.id} can be used: it begins anew, and is compared with what it recorded")
    return replay


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
