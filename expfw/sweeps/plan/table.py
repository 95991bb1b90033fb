"""How a sweep is shown before it begins: its trials, or the space that it searches, and what to type."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from expfw.api.run import FINISHED
from expfw.redaction import redact_overrides
from expfw.reports.tables import make_plain_table, shorten_keys
from expfw.sweeps.plan.trials import Preview, PreviewRow, SearchedDimension
from expfw.system.formatting import format_number, pluralize
from expfw.tracking import run_folders, run_index
from expfw.tracking.run_index import IndexEntry

if TYPE_CHECKING:
    from rich.console import Console

_MAX_ROWS, _EDGE_ROWS = 60, 20
"""Trials that are all shown; of more, so many of the beginning, of the end, and of those between that cannot run."""


def describe_row(row: PreviewRow) -> str:
    """What is known of a trial, in one line."""
    if row.error is not None:
        return f"cannot run: {row.error}"
    text = "new" if row.finished_run is None else f"done: {_describe_finished_run(row.finished_run)}"
    return text if row.same_as is None else f"{text}, the same as trial {row.same_as}"


def _describe_finished_run(entry: IndexEntry) -> str:
    sweep_id = entry.first.get("sweep_id")
    text = f"run {entry.id}" + (f" in sweep {sweep_id}" if sweep_id else "")
    value = entry.last.get("objective")
    return text if value is None else f"{text}, {entry.last['objective_metric']} {format_number(value)}"


def print_preview(console: Console, preview: Preview, show_all: bool) -> None:
    """Prints the trials, or the space, and what they come to.

    Args:
        show_all: all trials, however many there are.
    """
    if preview.space is not None:
        console.print(_make_space_table(preview.space))
    else:
        console.print(_make_trials_table(preview.rows, show_all))
    for line in _describe_preview(preview):
        console.print(line, soft_wrap=True)  # what is to be copied stays one line


def _make_trials_table(rows: Sequence[PreviewRow], show_all: bool) -> Any:
    values_by_trial = {
        row.trial.number: dict(override.partition("=")[::2] for override in row.trial.swept) for row in rows
    }
    keys = list(dict.fromkeys(key for trial_values in values_by_trial.values() for key in trial_values))
    table_rows: list[list[str]] = []
    last_number = -1
    for row in rows if show_all else _select_rows(rows):
        if (gap := row.trial.number - last_number - 1) > 0:
            table_rows.append(["...", *[""] * len(keys), f"{gap} more; --all shows them"])
        last_number = row.trial.number
        cells = [values_by_trial[last_number].get(key, "") for key in keys]
        table_rows.append([str(last_number), *cells, describe_row(row)])
    return make_plain_table(["trial", *shorten_keys([key.lstrip("+") for key in keys]), "known of it"], table_rows)


def _select_rows(rows: Sequence[PreviewRow]) -> Sequence[PreviewRow]:
    if len(rows) <= _MAX_ROWS:
        return rows
    invalid_rows = [row for row in rows[_EDGE_ROWS:-_EDGE_ROWS] if row.error is not None]
    return [*rows[:_EDGE_ROWS], *invalid_rows[:_EDGE_ROWS], *rows[-_EDGE_ROWS:]]


def _make_space_table(space: Sequence[SearchedDimension]) -> Any:
    rows = [[dimension.name, dimension.kind, _format_choices(dimension), dimension.condition] for dimension in space]
    return make_plain_table(["searched", "kind", "values", "only with"], rows)


def _format_choices(dimension: SearchedDimension) -> str:
    if dimension.low is None or dimension.high is None:
        return ", ".join(dimension.values)
    return f"{dimension.low:g} to {dimension.high:g}" + (", evenly in its logarithm" if dimension.log else "")


def _describe_preview(preview: Preview) -> Iterator[str]:
    base_config, rows = preview.base_config, preview.rows
    seeds = base_config.sweep.seeds
    seeds_text = f" ({pluralize(preview.total // seeds, 'configuration')} with {seeds} seeds)" if seeds > 1 else ""
    slot_count, core_count = len(preview.slots), len(preview.slots[0].cores)
    placement = f"{slot_count} at a time, {pluralize(core_count, 'processor core')} each"
    if preview.launcher is not None:
        placement = f"hydra/launcher={preview.launcher} decides where, and how many at a time; this was checked here"
    if preview.space is not None:
        yield (
            f"{pluralize(preview.total, 'trial')}{seeds_text}, {placement}; which values they have, the search finds "
            "as it goes."
        )
        yield from (f"the first one {describe_row(row)}" for row in rows if row.error is not None)
    else:
        done_count, invalid_count = (len(group) for group in _select_done_and_invalid(rows))
        duplicate_count = sum(row.same_as is not None for row in rows)
        duplicates_text = f", {duplicate_count} the same as another" if duplicate_count else ""
        yield (
            f"{pluralize(preview.total, 'trial')}{seeds_text}, {done_count} done already{duplicates_text}, "
            f"{invalid_count} that cannot run; {placement}."
        )
    if preview.start_error is not None:
        yield f"the first trial cannot run, so that `expfw sweep` starts none: {preview.start_error}"
        return
    earlier_sweep = preview.same_sweep
    if earlier_sweep is not None and earlier_sweep.status not in (FINISHED, run_index.RUNNING):
        command = f"expfw sweeps resume {earlier_sweep.id}{run_folders.format_runs_dir_option(base_config.runs_dir)}"
        yield f"what is left of sweep {earlier_sweep.id}, by the same overrides: {command}"
    elif earlier_sweep is not None and earlier_sweep.status == run_index.RUNNING:
        yield f"sweep {earlier_sweep.id}, by the same overrides, runs now"
    invalid_count = sum(row.error is not None for row in rows)
    if invalid_count:
        yield (
            f"leave out the {invalid_count} that cannot run (what only fits one choice goes into sweep.space, by that "
            f"choice); as it is they fail, and the other {preview.total - invalid_count} run: "
            f"{make_start_command(preview)}"
        )
    else:
        yield f"all of it, new: {make_start_command(preview)}"


def _select_done_and_invalid(rows: Sequence[PreviewRow]) -> tuple[list[PreviewRow], list[PreviewRow]]:
    return [row for row in rows if row.finished_run is not None], [row for row in rows if row.error is not None]


def make_start_command(preview: Preview) -> str:
    """What starts the sweep; secrets in it are hidden."""
    plugin_arguments = [argument for file in preview.plugin_files for argument in ("-p", file)]
    return shlex.join(
        [
            "expfw",
            *plugin_arguments,
            "sweep",
            *preview.config_flags,
            *redact_overrides([*preview.overrides, *preview.hydra_overrides]),
        ]
    )


def to_json(preview: Preview) -> dict[str, Any]:
    """The same for `--json`, with every trial."""
    done_rows, invalid_rows = _select_done_and_invalid(preview.rows)
    content: dict[str, Any] = {
        "total": preview.total,
        "seeds": preview.base_config.sweep.seeds,
        "launcher": preview.launcher or "expfw",
        "slots": None if preview.launcher else len(preview.slots),
        "cores": None if preview.launcher else len(preview.slots[0].cores),
        "command": make_start_command(preview),
        "starts": preview.start_error is None,
        "same_sweep": None
        if preview.same_sweep is None
        else {"id": preview.same_sweep.id, "status": preview.same_sweep.status},
    }
    if preview.space is not None:
        names = ("name", "kind", "low", "high", "log", "condition")
        space = [
            {n: getattr(dimension, n) for n in names} | {"values": list(dimension.values)}
            for dimension in preview.space
        ]
        return {**content, "space": space}
    trials = [_trial_to_json(row) for row in preview.rows]
    return {**content, "done": len(done_rows), "cannot_run": len(invalid_rows), "trials": trials}


def _trial_to_json(row: PreviewRow) -> dict[str, Any]:
    trial, finished_run = row.trial, row.finished_run
    return {
        "number": trial.number,
        "name": trial.name,
        "configuration": trial.configuration,
        "values": trial.values,
        "overrides": list(trial.overrides),
        "fingerprint": trial.fingerprint or None,
        "known": "error" if row.error is not None else "new" if finished_run is None else "done",
        "error": row.error,
        "run_id": None if finished_run is None else finished_run.id,
        "sweep_id": None if finished_run is None else finished_run.first.get("sweep_id"),
        "objective": None if finished_run is None else finished_run.last.get("objective"),
        "objective_metric": None if finished_run is None else finished_run.last.get("objective_metric"),
        "same_as": row.same_as,
    }
