"""Tables and JSON of a planned sweep: its trials or its search space, its models, and the command to start it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from expfw.api.result import FINISHED
from expfw.reports.sweep_summary import shorten_keys
from expfw.reports.table import Column, Table
from expfw.sweeps.plan.build import Builds, DistinctModel
from expfw.sweeps.plan.trials import Preview, PreviewRow
from expfw.system.formatting import format_duration, format_number, format_size, pluralize
from expfw.tracking import run_folders
from expfw.tracking.ledger import split_overrides
from expfw.tracking.recorded_run import RUNNING

if TYPE_CHECKING:
    from rich.console import Console

_MAX_ROWS, _EDGE_ROWS = 60, 20
"""Up to 60 trials are all printed; of more trials, the first 20, the last 20, and 20 others that cannot run."""


def describe_row(row: PreviewRow) -> str:
    """Returns the state of a planned trial in one line."""
    if row.error is not None:
        return f"cannot run: {row.error}"
    text, run = "new", row.finished_run
    if run is not None:
        sweep_id, objective = run.first.get("sweep_id"), run.last.get("objective")
        text = f"done: run {run.id}" + (f" in sweep {sweep_id}" if sweep_id else "")
        text += "" if objective is None else f", {run.last['objective_metric']} {format_number(objective)}"
    elif (outdated_run := row.outdated_run) is not None:
        text += f"; run {outdated_run.id} had other plugin code"
    return text if row.same_as is None else f"{text}, same as trial {row.same_as}"


def print_preview(console: Console, preview: Preview, show_all: bool) -> None:
    """Prints the trials, all of them even if there are many with `show_all`, or the search space, and a summary."""
    if preview.space is not None:
        rows = []
        for row in preview.space:
            scale = ", log scale" if row["log"] else ""
            choices = ", ".join(row["values"]) or f"{row['low']:g} to {row['high']:g}{scale}"
            rows.append([row["name"], row["kind"], choices, row["condition"]])
        console.print(Table(["parameter", "kind", "values", "only if"], rows))
    else:
        console.print(_make_trials_table(preview.rows, show_all))
    for line in _describe_preview(preview):
        console.print(line, soft_wrap=True)  # a command to copy must stay on one line


def _make_trials_table(rows: Sequence[PreviewRow], show_all: bool) -> Table:
    keys = list(dict.fromkeys(key for row in rows for key in row.trial.values))
    shown_rows = rows
    if len(rows) > _MAX_ROWS and not show_all:
        invalid_rows = [row for row in rows[_EDGE_ROWS:-_EDGE_ROWS] if row.error is not None]
        shown_rows = [*rows[:_EDGE_ROWS], *invalid_rows[:_EDGE_ROWS], *rows[-_EDGE_ROWS:]]
    cells: list[list[Any]] = []
    next_number = 0
    for row in shown_rows:
        if (gap := row.trial.number - next_number) > 0:
            cells.append(["...", *[None] * len(keys), f"{gap} more; --all shows them"])
        next_number = row.trial.number + 1
        texts = split_overrides(row.trial.swept)
        cells.append([row.trial.number, *(texts.get(key) for key in keys), describe_row(row)])
    return Table(["trial", *shorten_keys(keys), "state"], cells)


def _describe_preview(preview: Preview) -> Iterator[str]:
    seeds, invalid_count = preview.base_run.config.sweep.seeds, len(preview.invalid_rows)
    trials = pluralize(preview.total, "trial")
    if seeds > 1:
        trials += f" ({pluralize(preview.total // seeds, 'configuration')} with {seeds} seeds)"
    placement = f"{len(preview.slots)} at a time, {pluralize(len(preview.slots[0].cores), 'CPU core')} each"
    if preview.launcher is not None:
        placement = (
            f"hydra/launcher={preview.launcher} selects the machines and the number of trials at a time; "
            "the plan was checked on this machine"
        )
    if preview.space is not None:
        yield f"{trials}; {placement}; the search selects values while it runs."
        yield from (f"the first trial {describe_row(row)}" for row in preview.invalid_rows)
    else:
        duplicate_count = sum(row.same_as is not None for row in preview.rows)
        duplicates = f", {pluralize(duplicate_count, 'duplicate')}" if duplicate_count else ""
        done = f"{len(preview.done_rows)} already done{duplicates}, {invalid_count} cannot run"
        yield f"{trials}: {done}; {placement}."
    if preview.start_error is not None:
        yield f"the first trial cannot run, so `expfw sweep` starts no trial: {preview.start_error}"
        return
    if (sweep := preview.same_sweep) is not None and sweep.status == RUNNING:
        yield f"sweep {sweep.id} has the same overrides and is running"
    elif sweep is not None and sweep.status != FINISHED:
        option = run_folders.format_runs_dir_option(preview.base_run.config.runs_dir)
        yield (
            f"sweep {sweep.id} has the same overrides and is not finished; "
            f"to resume: expfw sweeps resume {sweep.id}{option}"
        )
    if not invalid_count:
        yield f"to run all trials: {preview.command}"
    else:
        yield (
            f"to start the sweep anyway (trials that cannot run fail; finished trials run again): {preview.command}\n"
            "to use values only with the choices that accept them: sweep.space"
        )


def print_builds(console: Console, preview: Preview, builds: Builds) -> None:
    """Prints a row for each model, the errors, and the projected time."""
    columns = [
        Column("model"),
        Column("trials", "number", drop_order=3),
        Column("parameters", "number", "{:,}".format),
        Column("FLOPs", "number", "{:,}".format, drop_order=1),
        Column("memory", "number", format_size),
        Column("process", "number", "{:,.0f} MiB".format),
        Column("step", "number", lambda seconds: f"{seconds * 1000:.3g} ms"),
        Column("set-up", "number", format_duration, drop_order=2),
        Column("trial", "number"),
    ]
    rows = []
    for model in builds.models:
        cells: list[Any] = [model.name, len(model.rows) if preview.space is None else "the first"]
        summary = model.summary
        cells += [None] * 3 if summary is None else [summary.parameters, summary.flops, sum(summary.memory.values())]
        if (times := model.measurement) is not None:
            trial_seconds = model.trial_seconds.values()
            durations = dict.fromkeys(format_duration(seconds) for seconds in (min(trial_seconds), max(trial_seconds)))
            cells += [times.memory_mib, times.step, times.setup, " to ".join(durations)]
        rows.append([*cells, *[None] * (len(columns) - len(cells))])
    console.print(Table(columns, rows))
    for model in builds.models:
        if model.error is not None:
            console.print(f"{model.name} cannot be trained: {model.error}", soft_wrap=True)
    if any(model.measurement is not None for model in builds.models):
        for line in _describe_projection(preview, builds):
            console.print(line)


def _describe_projection(preview: Preview, builds: Builds) -> Iterator[str]:
    slots = f"{len(preview.slots)} at a time" if preview.launcher is None else "1 at a time on a machine like this one"
    total = f"projected time: {format_duration(builds.estimate_seconds(preview))} for all trials, {slots}"
    if preview.space is not None:
        yield f"{total}, if all {pluralize(preview.total, 'trial')} take as long as the first;"
    elif preview.done_rows:
        remaining = format_duration(builds.estimate_seconds(preview, finished=False))
        yield f"{total}; {remaining} without the trials that are already done;"
    else:
        yield f"{total};"
    if untrainable_count := sum(len(model.rows) for model in builds.models if model.measurement is None):
        yield f"without {pluralize(untrainable_count, 'trial')} of models that cannot be trained;"
    startup = (
        "the start of the fork server" if preview.launcher is None else "the import of the framework in each trial"
    )
    yield (
        f"estimated from some steps of each model: set-up, training, evaluations, saving, {startup}; "
        "not included: callbacks that only observe, trackers, early stops."
    )


def to_json(preview: Preview, builds: Builds | None) -> dict[str, Any]:
    """Returns the content of the tables for `--json`, with every trial; times are in seconds."""
    sweep, slots = preview.same_sweep, preview.slots if preview.launcher is None else None
    content: dict[str, Any] = {
        "total": preview.total,
        "seeds": preview.base_run.config.sweep.seeds,
        "launcher": preview.launcher or "expfw",
        "slots": slots and len(slots),
        "cores": slots and len(slots[0].cores),
        "command": preview.command,
        "starts": preview.start_error is None,
        "same_sweep": None if sweep is None else {"id": sweep.id, "status": sweep.status},
    }
    if preview.space is not None:
        content["space"] = preview.space
    else:
        content |= {"done": len(preview.done_rows), "cannot_run": len(preview.invalid_rows)}
        content["trials"] = [_trial_to_json(row) for row in preview.rows]
    if builds is not None:
        content["models"] = [_model_to_json(model) for model in builds.models]
        content["server_seconds"] = builds.server_seconds
        content["projected"] = {
            "all": builds.estimate_seconds(preview),
            "remaining": builds.estimate_seconds(preview, finished=False),
        }
    return content


def _trial_to_json(row: PreviewRow) -> dict[str, Any]:
    trial, run = row.trial, row.finished_run
    return {
        "number": trial.number,
        "name": trial.name,
        "configuration": trial.configuration,
        "values": trial.values,
        "overrides": list(trial.overrides),
        "fingerprint": trial.fingerprint or None,
        "known": "error" if row.error is not None else "new" if run is None else "done",
        "error": row.error,
        "run_id": run and run.id,
        "sweep_id": run and run.first.get("sweep_id"),
        "objective": run and run.last.get("objective"),
        "objective_metric": run and run.last.get("objective_metric"),
        "same_as": row.same_as,
    }


def _model_to_json(model: DistinctModel) -> dict[str, Any]:
    summary, times = model.summary, model.measurement
    return {
        "name": model.name,
        "trials": [row.trial.number for row in model.rows],
        "parameters": summary and summary.parameters,
        "fixed": summary and summary.fixed,
        "flops": summary and summary.flops,
        "memory": summary and dict(summary.memory),
        "process_mib": times and times.memory_mib,
        "step_seconds": times and times.step,
        "setup_seconds": times and times.setup,
        "evaluation_seconds": times and times.evaluation,
        "steps_measured": times and times.steps,
        "trial_seconds": model.trial_seconds,
        "error": model.error,
    }
