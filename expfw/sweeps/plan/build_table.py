"""Table of the distinct models of a sweep, with the projected time."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from expfw.api.run_config import RunConfig
from expfw.reports.tables import drop_columns_to_fit, make_plain_table
from expfw.sweeps.plan.build import BuildResult, BuildResults
from expfw.sweeps.plan.timing import Measurement
from expfw.sweeps.plan.trials import Preview
from expfw.system.formatting import format_duration, format_size, pluralize

if TYPE_CHECKING:
    from rich.console import Console

_HEADER = ("model", "trials", "parameters", "FLOPs", "memory", "process", "step", "set-up", "trial")

_OPTIONAL_COLUMNS = ("FLOPs", "set-up", "trials")
"""Columns that a table that is too wide drops first."""


def print_builds(console: Console, preview: Preview, builds: BuildResults) -> None:
    """Prints a row for each model, the errors, and the projected time."""
    seconds = estimate_seconds_by_trial(builds)
    rows = [_make_row(preview, result, seconds) for result in builds.results]
    header, texts = drop_columns_to_fit(
        _HEADER, rows, [_HEADER.index(name) for name in _OPTIONAL_COLUMNS], console.width
    )
    table = make_plain_table(header, texts, no_wrap=header[1:])
    for column in table.columns[1:]:
        column.justify = "right"
    console.print(table)
    for result in builds.results:
        if result.error is not None:
            console.print(f"{result.model.name} cannot be trained: {result.error}", soft_wrap=True)
    for line in _describe_projection(preview, builds, seconds):
        console.print(line)


def estimate_seconds_by_trial(builds: BuildResults) -> dict[int, float]:
    """Returns the seconds of each trainable trial, by trial number."""
    seconds = {
        row.trial.number: estimate_trial_seconds(row.request.config, result.measurement)
        for result in builds.results
        if result.measurement is not None
        for row in result.model.rows
        if row.request is not None
    }
    return dict(sorted(seconds.items()))


def _make_row(preview: Preview, result: BuildResult, seconds: Mapping[int, float]) -> list[str]:
    summary, measurement = result.summary, result.measurement
    trials = "the first" if preview.space is not None else str(len(result.model.rows))
    summary_cells = ["", "", ""]
    if summary is not None:
        summary_cells = [f"{summary.parameters:,}", f"{summary.flops:,}", format_size(sum(summary.memory.values()))]
    if measurement is None:
        return [result.model.name, trials, *summary_cells, "", "", "", ""]
    trial_seconds = [seconds[row.trial.number] for row in result.model.rows]
    shortest, longest = format_duration(min(trial_seconds)), format_duration(max(trial_seconds))
    return [
        result.model.name,
        trials,
        *summary_cells,
        f"{measurement.memory_mib:,.0f} MiB",
        f"{measurement.step * 1000:.3g} ms",
        format_duration(measurement.setup),
        shortest if shortest == longest else f"{shortest} to {longest}",
    ]


def _describe_projection(preview: Preview, builds: BuildResults, seconds: Mapping[int, float]) -> Iterator[str]:
    if not seconds:
        return
    total_seconds, remaining_seconds = _estimate_totals(preview, builds, seconds)
    projection = f"projected time: {format_duration(total_seconds)} for all trials, {len(preview.slots)} at a time"
    startup = "the start of the fork server"
    if preview.launcher is not None:
        projection = (
            f"projected time: {format_duration(total_seconds)} for all trials, 1 at a time on a machine like this one"
        )
        startup = "the import of the framework in each trial"
    if preview.space is not None:
        yield f"{projection}, if all {pluralize(preview.total, 'trial')} take as long as the first;"
    elif any(row.finished_run is not None for row in preview.rows):
        yield f"{projection}; {format_duration(remaining_seconds)} without the trials that are already done;"
    else:
        yield f"{projection};"
    if (untrainable_count := len(preview.runnable_rows) - len(seconds)) > 0:
        yield f"without {pluralize(untrainable_count, 'trial')} of models that cannot be trained;"
    yield (
        f"estimated from some steps of each model: set-up, training, evaluations, saving, {startup}; "
        "not included: callbacks that only observe, trackers, early stops."
    )


def _estimate_totals(preview: Preview, builds: BuildResults, seconds: Mapping[int, float]) -> tuple[float, float]:
    """Returns the seconds of the whole sweep, and of the trials that are not yet done."""
    if preview.space is not None:
        total_seconds = _estimate_total_seconds(preview, builds, list(seconds.values()) * preview.total)
        return total_seconds, total_seconds
    finished_numbers = {row.trial.number for row in preview.rows if row.finished_run is not None}
    remaining = [value for trial, value in seconds.items() if trial not in finished_numbers]
    return _estimate_total_seconds(preview, builds, list(seconds.values())), _estimate_total_seconds(
        preview, builds, remaining
    )


def _estimate_total_seconds(preview: Preview, builds: BuildResults, trial_seconds: Sequence[float]) -> float:
    """Returns the seconds of these trials; with another launcher, as if they ran one at a time."""
    if preview.launcher is not None:
        return (
            sum(trial_seconds) + len(trial_seconds) * builds.server_seconds
        )  # each trial imports the modules that the fork server would import only once
    return estimate_sweep_seconds(trial_seconds, len(preview.slots), builds.server_seconds)


def to_json(preview: Preview, builds: BuildResults) -> dict[str, Any]:
    """Returns the content of the table for `--json`; times are in seconds."""
    seconds = estimate_seconds_by_trial(builds)
    total_seconds, remaining_seconds = _estimate_totals(preview, builds, seconds)
    models = [_model_to_json(result, seconds) for result in builds.results]
    return {
        "models": models,
        "server_seconds": builds.server_seconds,
        "projected": {"all": total_seconds, "remaining": remaining_seconds},
    }


def _model_to_json(result: BuildResult, seconds: Mapping[int, float]) -> dict[str, Any]:
    numbers = [row.trial.number for row in result.model.rows]
    summary, measurement = result.summary, result.measurement
    times = {} if measurement is None else dataclasses.asdict(measurement)
    return {
        "name": result.model.name,
        "trials": numbers,
        "parameters": None if summary is None else summary.parameters,
        "fixed": None if summary is None else summary.fixed,
        "flops": None if summary is None else summary.flops,
        "memory": None if summary is None else dict(summary.memory),
        "process_mib": times.get("memory_mib"),
        "step_seconds": times.get("step"),
        "setup_seconds": times.get("setup"),
        "evaluation_seconds": times.get("evaluation"),
        "ending_seconds": times.get("ending"),
        "steps_measured": times.get("steps"),
        "trial_seconds": {number: seconds[number] for number in numbers if number in seconds},
        "error": result.error,
    }


def count_steps(config: RunConfig, steps_per_epoch: int) -> int:
    """Returns the number of optimizer steps of a run."""
    return config.train.steps or config.train.epochs * steps_per_epoch


def count_evaluations(config: RunConfig, steps_per_epoch: int) -> int:
    """Returns the number of evaluations on the validation data; at least one, at the end."""
    every, total = config.train.evaluate_every, count_steps(config, steps_per_epoch)
    if every.steps is not None:
        return math.ceil(total / every.steps)
    return max(1, math.ceil(total / (every.epochs * steps_per_epoch))) if every.epochs is not None else 1


def estimate_trial_seconds(config: RunConfig, measurement: Measurement) -> float:
    """Returns the seconds of one trial that trains to its end, without callbacks."""
    training = count_steps(config, measurement.epoch) * measurement.step
    return (
        measurement.setup
        + training
        + count_evaluations(config, measurement.epoch) * measurement.evaluation
        + measurement.ending
    )


def estimate_sweep_seconds(trial_seconds: Sequence[float], slot_count: int, server_seconds: float) -> float:
    """Returns the seconds of a sweep that starts each trial as soon as a slot is free.

    Args:
        trial_seconds: seconds of each trial, in order of start.
        slot_count: number of trials at a time.
        server_seconds: seconds until the first trial begins.
    """
    if not trial_seconds:
        return 0.0
    free_times = [server_seconds] * slot_count
    for seconds in trial_seconds:
        heapq.heapreplace(free_times, free_times[0] + seconds)
    return max(free_times)
