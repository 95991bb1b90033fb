"""What is left to do of a sweep that goes on, found out before anything starts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from expfw.api.run import FINISHED, KILLED, PRUNED
from expfw.api.settings import RunConfig
from expfw.config.freeze import NOT_PART_OF_THE_RESULT
from expfw.errors import ConfigError
from expfw.runs.continuation import Continuation
from expfw.runs.request import Request
from expfw.runs.resume import data_differences, differing, recorded, to_go_on
from expfw.system import process_lock
from expfw.tracking import run_index
from expfw.tracking.ledger import WAITING, Trial
from expfw.tracking.run_index import INTERRUPTED, RUNNING
from expfw.tracking.run_record import recorded_config

_LEAVING_SECONDS, _BEGINNING_SECONDS = 30.0, 2.0


@dataclass
class Plan:
    """Trials by number.

    Attributes:
        known: as they are now, whatever became of them.
        done: those that stay; going_on: requests for those that go on. All others are made anew.
        only: where it is given, nothing but these numbers is made.
    """

    known: dict[int, Trial] = field(default_factory=dict)
    done: dict[int, Trial] = field(default_factory=dict)
    going_on: dict[int, Request] = field(default_factory=dict)
    only: Sequence[int] | None = None


@dataclass(frozen=True)
class GoingOn:
    """How a sweep goes on.

    Attributes:
        accept: whether trials may go on where the surroundings differ.
        retry: make only these trials anew, which have failed; None: do all that is left.
    """

    entry: run_index.Entry
    accept: bool = False
    retry: Sequence[int] | None = None


def plan(trials: Sequence[Trial], request_of: Callable[[Trial], Request], going_on: GoingOn, cores: int | None) -> Plan:
    """Looks at every trial that was made before.

    Args:
        request_of: what a trial would be now.
        cores: processor cores that each of them will have; None: they run elsewhere, where it will be seen whether they
            can go on.

    Raises:
        ConfigError: a trial would no longer be the one that was made, or cannot go on to the same numbers.
    """
    made = Plan({trial.number: _settled(trial, cores is not None) for trial in trials}, only=going_on.retry)
    for number, trial in made.known.items():
        if trial.folder is None and trial.status in (FINISHED, PRUNED):
            made.done[number] = trial  # its folder was deleted, its result is kept
        if trial.folder is None or trial.status not in (FINISHED, PRUNED, INTERRUPTED, KILLED):
            continue
        now = request_of(trial)
        _check_drift(trial, now, going_on.accept)
        if trial.status in (FINISHED, PRUNED):
            made.done[number] = trial
        elif made.only is None:
            entry = run_index.entry(Path(trial.folder))
            if cores is None:
                continues = Continuation(entry.folder, accept=going_on.accept)
                made.going_on[number] = replace(now, id=entry.id, overrides=(), continues=continues)
            else:
                made.going_on[number] = to_go_on(recorded(entry), Path(now.config.runs_dir), (), going_on.accept, cores)
    return made


def _settled(trial: Trial, here: bool) -> Trial:
    """The trial as it is now; one that is about to leave, its sweep being gone, is waited for.

    Args:
        here: whether it was made on this machine, so that it is known at once whether it begins yet.
    """
    since = time.monotonic()
    while (now := trial.now()).status == RUNNING and now.folder is not None:
        alive = process_lock.lives(Path(now.folder))
        if time.monotonic() - since > (_BEGINNING_SECONDS if here and not alive else _LEAVING_SECONDS):
            if not alive:
                return replace(now, status=WAITING)  # its process never came to begin
            raise ConfigError(f"{trial.title} still runs; wait until it has ended, or end it")
        time.sleep(0.2)
    return now


def _check_drift(before: Trial, now: Request, accept: bool) -> None:
    if before.fingerprint == now.fingerprint:
        return
    found = recorded(run_index.entry(Path(str(before.folder))))
    changed = [
        *differing(_that_matter(recorded_config(now.config)["params"]), _that_matter(found.about["params"])),
        *(f"the data changed: {line}" for line in data_differences(found, now.data)),
    ]
    _refuse(before.title, changed or ["its record does not tell what"], accept)


def check_first(going_on: GoingOn, base: RunConfig) -> None:
    """That the configuration a sweep begins with is still the one that it began with, whatever was made since.

    Raises:
        ConfigError: it is another one.
    """
    before = going_on.entry.first.get("params")
    if before is not None:
        now = json.loads(json.dumps(recorded_config(base)["params"], default=str))
        if changed := [*differing(_that_matter(now), _that_matter(before))]:
            _refuse(f"sweep {going_on.entry.id}", changed, going_on.accept)


def _refuse(what: str, changed: Sequence[str], accept: bool) -> None:
    if not accept:
        raise ConfigError(
            f"{what} would no longer be the one that was made: {'; '.join(changed[:5])}; put that back, or begin a new "
            "sweep. With --accept-differences what is done stays as it is"
        )


def _that_matter(params: Mapping[str, Any]) -> dict[str, Any]:
    """Those that count for the result, which a fingerprint is made of."""
    return {name: value for name, value in params.items() if name.partition(".")[0] not in NOT_PART_OF_THE_RESULT}
