"""Table of a planned sweep: its trials or its search space, and the command to start it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from expfw.api.result import FINISHED
from expfw.redaction import redact_overrides
from expfw.reports.tables import make_plain_table, shorten_keys
from expfw.sweeps.plan.trials import Preview, PreviewRow, SearchedDimension
from expfw.system.formatting import format_number, pluralize
from expfw.tracking import run_folders, run_index
from expfw.tracking.run_index import IndexEntry

if TYPE_CHECKING:
    from rich.console import Console

_MAX_ROWS, _EDGE_ROWS = 60, 20
"""Up to 60 trials are all printed; of more trials, the first 20, the last 20, and 20 others that cannot run."""


def describe_row(row: PreviewRow) -> str:
    """Returns the state of a planned trial in one line."""
    if row.error is not None:
        return f"cannot run: {row.error}"
    text = "new" if row.finished_run is None else f"done: {_describe_finished_run(row.finished_run)}"
    return text if row.same_as is None else f"{text}, same as trial {row.same_as}"


def _describe_finished_run(entry: IndexEntry) -> str:
    sweep_id = entry.first.get("sweep_id")
    text = f"run {entry.id}" + (f" in sweep {sweep_id}" if sweep_id else "")
    value = entry.last.get("objective")
    return text if value is None else f"{text}, {entry.last['objective_metric']} {format_number(value)}"


def print_preview(console: Console, preview: Preview, show_all: bool) -> None:
    """Prints the trials or the search space, with a summary.

    Args:
        console: console to print to.
        preview: planned sweep.
        show_all: whether to print all trials, even if there are many.
    """
    if preview.space is not None:
        console.print(_make_space_table(preview.space))
    else:
        console.print(_make_trials_table(preview.rows, show_all))
    for line in _describe_preview(preview):
        console.print(line, soft_wrap=True)  # a command to copy must stay on one line


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
    return make_plain_table(["trial", *shorten_keys([key.lstrip("+") for key in keys]), "state"], table_rows)


def _select_rows(rows: Sequence[PreviewRow]) -> Sequence[PreviewRow]:
    if len(rows) <= _MAX_ROWS:
        return rows
    invalid_rows = [row for row in rows[_EDGE_ROWS:-_EDGE_ROWS] if row.error is not None]
    return [*rows[:_EDGE_ROWS], *invalid_rows[:_EDGE_ROWS], *rows[-_EDGE_ROWS:]]


def _make_space_table(space: Sequence[SearchedDimension]) -> Any:
    rows = [[dimension.name, dimension.kind, _format_choices(dimension), dimension.condition] for dimension in space]
    return make_plain_table(["parameter", "kind", "values", "only if"], rows)


def _format_choices(dimension: SearchedDimension) -> str:
    if dimension.low is None or dimension.high is None:
        return ", ".join(dimension.values)
    return f"{dimension.low:g} to {dimension.high:g}" + (", log scale" if dimension.log else "")


def _describe_preview(preview: Preview) -> Iterator[str]:
    base_config, rows = preview.base_config, preview.rows
    seeds = base_config.sweep.seeds
    seeds_text = f" ({pluralize(preview.total // seeds, 'configuration')} with {seeds} seeds)" if seeds > 1 else ""
    slot_count, core_count = len(preview.slots), len(preview.slots[0].cores)
    placement = f"{slot_count} at a time, {pluralize(core_count, 'CPU core')} each"
    if preview.launcher is not None:
        placement = (
            f"hydra/launcher={preview.launcher} selects the machines and the number of trials at a time; "
            "the plan was checked on this machine"
        )
    if preview.space is not None:
        yield (
            f"{pluralize(preview.total, 'trial')}{seeds_text}; {placement}; the search selects values while it runs."
        )
        yield from (f"the first trial {describe_row(row)}" for row in rows if row.error is not None)
    else:
        done_count, invalid_count = (len(group) for group in _select_done_and_invalid(rows))
        duplicate_count = sum(row.same_as is not None for row in rows)
        duplicates_text = f", {pluralize(duplicate_count, 'duplicate')}" if duplicate_count else ""
        yield (
            f"{pluralize(preview.total, 'trial')}{seeds_text}: {done_count} already done{duplicates_text}, "
            f"{invalid_count} cannot run; {placement}."
        )
    if preview.start_error is not None:
        yield f"the first trial cannot run, so `expfw sweep` starts no trial: {preview.start_error}"
        return
    earlier_sweep = preview.same_sweep
    if earlier_sweep is not None and earlier_sweep.status not in (FINISHED, run_index.RUNNING):
        command = f"expfw sweeps resume {earlier_sweep.id}{run_folders.format_runs_dir_option(base_config.runs_dir)}"
        yield f"sweep {earlier_sweep.id} has the same overrides and is not finished; to resume: {command}"
    elif earlier_sweep is not None and earlier_sweep.status == run_index.RUNNING:
        yield f"sweep {earlier_sweep.id} has the same overrides and is running"
    if any(row.error is not None for row in rows):
        yield (
            "to start the sweep anyway (trials that cannot run fail; finished trials run again): "
            f"{make_start_command(preview)}\nto use values only with the choices that accept them: sweep.space"
        )
    else:
        yield f"to run all trials: {make_start_command(preview)}"


def _select_done_and_invalid(rows: Sequence[PreviewRow]) -> tuple[list[PreviewRow], list[PreviewRow]]:
    return [row for row in rows if row.finished_run is not None], [row for row in rows if row.error is not None]


def make_start_command(preview: Preview) -> str:
    """Returns the command that starts the sweep; secrets in it are hidden."""
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
    """Returns the content of the table for `--json`, with every trial."""
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
