"""How a sweep is shown before it begins: its trials, or the space that it searches, and what to type."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from expfw.api.run import FINISHED
from expfw.redaction import redact_words
from expfw.reports.tables import plain_table, short_names
from expfw.sweeps.plan.trials import Dimension, Preview, Row
from expfw.system.formatting import many, number
from expfw.tracking import run_folders, run_index
from expfw.tracking.run_index import Entry

if TYPE_CHECKING:
    from rich.console import Console

_MOST, _EDGE = 60, 20
"""Trials that are all shown; of more, so many of the beginning, of the end, and of those between that cannot run."""


def known(row: Row) -> str:
    """What is known of a trial, in one line."""
    if row.error is not None:
        return f"cannot run: {row.error}"
    told = "new" if row.done is None else f"done: {_result(row.done)}"
    return told if row.same_as is None else f"{told}, the same as trial {row.same_as}"


def _result(entry: Entry) -> str:
    sweep = entry.first.get("sweep_id")
    where = f"run {entry.id}" + (f" in sweep {sweep}" if sweep else "")
    value = entry.last.get("objective")
    return where if value is None else f"{where}, {entry.last['objective_metric']} {number(value)}"


def show(screen: Console, preview: Preview, everything: bool) -> None:
    """Prints the trials, or the space, and what they come to.

    Args:
        everything: all trials, however many there are.
    """
    if preview.space is not None:
        screen.print(_space_table(preview.space))
    else:
        screen.print(_trials_table(preview.rows, everything))
    for line in _lines(preview):
        screen.print(line, soft_wrap=True)  # what is to be copied stays one line


def _trials_table(rows: Sequence[Row], everything: bool) -> Any:
    pairs = {row.trial.number: dict(word.partition("=")[::2] for word in row.trial.swept) for row in rows}
    keys = list(dict.fromkeys(key for found in pairs.values() for key in found))
    shown: list[list[str]] = []
    before = -1
    for row in rows if everything else _some(rows):
        if (gap := row.trial.number - before - 1) > 0:
            shown.append(["...", *[""] * len(keys), f"{gap} more; --all shows them"])
        before = row.trial.number
        values = [pairs[before].get(key, "") for key in keys]
        shown.append([str(before), *values, known(row)])
    return plain_table(["trial", *short_names([key.lstrip("+") for key in keys]), "known of it"], shown)


def _some(rows: Sequence[Row]) -> Sequence[Row]:
    if len(rows) <= _MOST:
        return rows
    wrong = [row for row in rows[_EDGE:-_EDGE] if row.error is not None]
    return [*rows[:_EDGE], *wrong[:_EDGE], *rows[-_EDGE:]]


def _space_table(space: Sequence[Dimension]) -> Any:
    rows = [[one.name, one.kind, _choices(one), one.condition] for one in space]
    return plain_table(["searched", "kind", "values", "only with"], rows)


def _choices(one: Dimension) -> str:
    if one.low is None or one.high is None:
        return ", ".join(one.values)
    return f"{one.low:g} to {one.high:g}" + (", evenly in its logarithm" if one.log else "")


def _lines(preview: Preview) -> Iterator[str]:
    base, rows = preview.base, preview.rows
    seeds = base.sweep.seeds
    each = f" ({many(preview.total // seeds, 'configuration')} with {seeds} seeds)" if seeds > 1 else ""
    slots, cores = len(preview.places), len(preview.places[0].cores)
    taken = f"{slots} at a time, {many(cores, 'processor core')} each"
    if preview.launcher is not None:
        taken = f"hydra/launcher={preview.launcher} decides where, and how many at a time; this was checked here"
    if preview.space is not None:
        yield f"{many(preview.total, 'trial')}{each}, {taken}; which values they have, the search finds as it goes."
        yield from (f"the first one {known(row)}" for row in rows if row.error is not None)
    else:
        done, wrong = (len(found) for found in _done_and_wrong(rows))
        same = sum(row.same_as is not None for row in rows)
        twice = f", {same} the same as another" if same else ""
        yield f"{many(preview.total, 'trial')}{each}, {done} done already{twice}, {wrong} that cannot run; {taken}."
    if preview.trouble is not None:
        yield f"the first trial cannot run, so that `expfw sweep` starts none: {preview.trouble}"
        return
    same_one = preview.same
    if same_one is not None and same_one.status not in (FINISHED, run_index.RUNNING):
        command = f"expfw sweeps resume {same_one.id}{run_folders.option(base.runs_dir)}"
        yield f"what is left of sweep {same_one.id}, by the same overrides: {command}"
    elif same_one is not None and same_one.status == run_index.RUNNING:
        yield f"sweep {same_one.id}, by the same overrides, runs now"
    wrong = sum(row.error is not None for row in rows)
    if wrong:
        yield (
            f"leave out the {wrong} that cannot run (what only fits one choice goes into sweep.space, by that choice); "
            f"as it is they fail, and the other {preview.total - wrong} run: {start_command(preview)}"
        )
    else:
        yield f"all of it, new: {start_command(preview)}"


def _done_and_wrong(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    return [row for row in rows if row.done is not None], [row for row in rows if row.error is not None]


def start_command(preview: Preview) -> str:
    """What starts the sweep; secrets in it are hidden."""
    files = [word for file in preview.files for word in ("-p", file)]
    return shlex.join(
        ["expfw", *files, "sweep", *preview.composed_from, *redact_words([*preview.typed, *preview.hydra])]
    )


def as_json(preview: Preview) -> dict[str, Any]:
    """The same for `--json`, with every trial."""
    done, wrong = _done_and_wrong(preview.rows)
    content: dict[str, Any] = {
        "total": preview.total,
        "seeds": preview.base.sweep.seeds,
        "launcher": preview.launcher or "expfw",
        "slots": None if preview.launcher else len(preview.places),
        "cores": None if preview.launcher else len(preview.places[0].cores),
        "command": start_command(preview),
        "starts": preview.trouble is None,
        "same_sweep": None if preview.same is None else {"id": preview.same.id, "status": preview.same.status},
    }
    if preview.space is not None:
        names = ("name", "kind", "low", "high", "log", "condition")
        space = [{n: getattr(one, n) for n in names} | {"values": list(one.values)} for one in preview.space]
        return {**content, "space": space}
    trials = [_trial_as_json(row) for row in preview.rows]
    return {**content, "done": len(done), "cannot_run": len(wrong), "trials": trials}


def _trial_as_json(row: Row) -> dict[str, Any]:
    trial, done = row.trial, row.done
    return {
        "number": trial.number,
        "name": trial.name,
        "configuration": trial.configuration,
        "values": trial.values,
        "overrides": list(trial.overrides),
        "fingerprint": trial.fingerprint or None,
        "known": "error" if row.error is not None else "new" if done is None else "done",
        "error": row.error,
        "run_id": None if done is None else done.id,
        "sweep_id": None if done is None else done.first.get("sweep_id"),
        "objective": None if done is None else done.last.get("objective"),
        "objective_metric": None if done is None else done.last.get("objective_metric"),
        "same_as": row.same_as,
    }
