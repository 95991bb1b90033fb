"""How the distinct models of a sweep are shown, and the time that it will take."""

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
"""What is left out first of a table that is too wide."""


def print_builds(console: Console, preview: Preview, builds: BuildResults) -> None:
    """Prints a row for each model, what went wrong with any, and how long all will take."""
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
    """Seconds of each trial whose model could be trained, by number."""
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
    projection = f"projected: {format_duration(total_seconds)} for all of it, {len(preview.slots)} at a time"
    startup = "the start of the server that forks the trials"
    if preview.launcher is not None:
        projection = (
            f"projected: {format_duration(total_seconds)} for all of it, one after the other on a machine like this one"
        )
        startup = "importing the framework for each trial"
    if preview.space is not None:
        yield f"{projection}, if all {pluralize(preview.total, 'trial')} are like the first;"
    elif any(row.finished_run is not None for row in preview.rows):
        yield f"{projection}; {format_duration(remaining_seconds)} without the trials that are done already;"
    else:
        yield f"{projection};"
    if (untrainable_count := len(preview.runnable_rows) - len(seconds)) > 0:
        yield f"without {pluralize(untrainable_count, 'trial')} of models that cannot be trained;"
    yield (
        f"reckoned from some steps of each model: set-up, training, evaluations, saving, {startup}; "
        "without callbacks that only watch and without trackers, as if no trial ended early."
    )


def _estimate_totals(preview: Preview, builds: BuildResults, seconds: Mapping[int, float]) -> tuple[float, float]:
    """Of the whole sweep, and of what is not done already."""
    if preview.space is not None:
        total_seconds = _estimate_total_seconds(preview, builds, list(seconds.values()) * preview.total)
        return total_seconds, total_seconds
    finished_numbers = {row.trial.number for row in preview.rows if row.finished_run is not None}
    remaining = [value for trial, value in seconds.items() if trial not in finished_numbers]
    return _estimate_total_seconds(preview, builds, list(seconds.values())), _estimate_total_seconds(
        preview, builds, remaining
    )


def _estimate_total_seconds(preview: Preview, builds: BuildResults, trial_seconds: Sequence[float]) -> float:
    """Seconds of these trials; of another launcher nobody knows how many it runs at a time."""
    if preview.launcher is not None:
        return (
            sum(trial_seconds) + len(trial_seconds) * builds.server_seconds
        )  # each imports what the server does, once for all
    return estimate_sweep_seconds(trial_seconds, len(preview.slots), builds.server_seconds)


def to_json(preview: Preview, builds: BuildResults) -> dict[str, Any]:
    """The same for `--json`; times in seconds."""
    seconds = estimate_seconds_by_trial(builds)
    total_seconds, remaining_seconds = _estimate_totals(preview, builds, seconds)
    models = [_model_to_json(result, seconds) for result in builds.results]
    return {
        "models": models,
        "server_seconds": builds.server_seconds,
        "projected": {"all": total_seconds, "left": remaining_seconds},
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
    """Optimizer steps of a training. Args: epoch: steps in an epoch."""
    return config.train.steps or config.train.epochs * steps_per_epoch


def count_evaluations(config: RunConfig, steps_per_epoch: int) -> int:
    """How often it is evaluated on the validation data, once at the end in any case."""
    every, total = config.train.evaluate_every, count_steps(config, steps_per_epoch)
    if every.steps is not None:
        return math.ceil(total / every.steps)
    return max(1, math.ceil(total / (every.epochs * steps_per_epoch))) if every.epochs is not None else 1


def estimate_trial_seconds(config: RunConfig, measurement: Measurement) -> float:
    """Of one trial that trains to its end, callbacks left out."""
    training = count_steps(config, measurement.epoch) * measurement.step
    return (
        measurement.setup
        + training
        + count_evaluations(config, measurement.epoch) * measurement.evaluation
        + measurement.ending
    )


def estimate_sweep_seconds(trial_seconds: Sequence[float], slot_count: int, server_seconds: float) -> float:
    """Of trials that begin one after the other, each as soon as a slot is free.

    Args:
        server_seconds: until the first begins.
    """
    if not trial_seconds:
        return 0.0
    free_times = [server_seconds] * slot_count
    for seconds in trial_seconds:
        heapq.heapreplace(free_times, free_times[0] + seconds)
    return max(free_times)
