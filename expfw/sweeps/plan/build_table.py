"""How the distinct models of a sweep are shown, and the time that it will take."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from expfw.api.settings import RunConfig
from expfw.reports.tables import narrowed, plain_table
from expfw.sweeps.plan.build import Builds, Built
from expfw.sweeps.plan.measuring import Measured
from expfw.sweeps.plan.trials import Preview
from expfw.system.formatting import duration, many, size

if TYPE_CHECKING:
    from rich.console import Console

_HEADER = ("model", "trials", "parameters", "FLOPs", "memory", "process", "step", "set-up", "trial")

_SPARE = ("FLOPs", "set-up", "trials")
"""What is left out first of a table that is too wide."""


def show(screen: Console, preview: Preview, builds: Builds) -> None:
    """Prints a row for each model, what went wrong with any, and how long all will take."""
    seconds = projected(builds)
    rows = [_row(preview, one, seconds) for one in builds.built]
    header, texts = narrowed(_HEADER, rows, [_HEADER.index(name) for name in _SPARE], screen.width)
    made = plain_table(header, texts, whole=header[1:])
    for column in made.columns[1:]:
        column.justify = "right"
    screen.print(made)
    for one in builds.built:
        if one.error is not None:
            screen.print(f"{one.model.name} cannot be trained: {one.error}", soft_wrap=True)
    for line in _lines(preview, builds, seconds):
        screen.print(line)


def projected(builds: Builds) -> dict[int, float]:
    """Seconds of each trial whose model could be trained, by number."""
    seconds = {
        row.trial.number: trial_seconds(row.request.config, one.measured)
        for one in builds.built
        if one.measured is not None
        for row in one.model.rows
        if row.request is not None
    }
    return dict(sorted(seconds.items()))


def _row(preview: Preview, one: Built, seconds: Mapping[int, float]) -> list[str]:
    summary, measured = one.summary, one.measured
    trials = "the first" if preview.space is not None else str(len(one.model.rows))
    known = ["", "", ""]
    if summary is not None:
        known = [f"{summary.parameters:,}", f"{summary.flops:,}", size(sum(summary.memory.values()))]
    if measured is None:
        return [one.model.name, trials, *known, "", "", "", ""]
    each = [seconds[row.trial.number] for row in one.model.rows]
    shortest, longest = duration(min(each)), duration(max(each))
    return [
        one.model.name,
        trials,
        *known,
        f"{measured.memory_mib:,.0f} MiB",
        f"{measured.step * 1000:.3g} ms",
        duration(measured.setup),
        shortest if shortest == longest else f"{shortest} to {longest}",
    ]


def _lines(preview: Preview, builds: Builds, seconds: Mapping[int, float]) -> Iterator[str]:
    if not seconds:
        return
    everything, left = _together(preview, builds, seconds)
    told = f"projected: {duration(everything)} for all of it, {len(preview.places)} at a time"
    beginning = "the start of the server that forks the trials"
    if preview.launcher is not None:
        told = f"projected: {duration(everything)} for all of it, one after the other on a machine like this one"
        beginning = "importing the framework for each trial"
    if preview.space is not None:
        yield f"{told}, if all {many(preview.total, 'trial')} are like the first;"
    elif any(row.done is not None for row in preview.rows):
        yield f"{told}; {duration(left)} without the trials that are done already;"
    else:
        yield f"{told};"
    if (without := len(preview.runnable) - len(seconds)) > 0:
        yield f"without {many(without, 'trial')} of models that cannot be trained;"
    yield (
        f"reckoned from some steps of each model: set-up, training, evaluations, saving, {beginning}; "
        "without callbacks that only watch and without trackers, as if no trial ended early."
    )


def _together(preview: Preview, builds: Builds, seconds: Mapping[int, float]) -> tuple[float, float]:
    """Of the whole sweep, and of what is not done already."""
    if preview.space is not None:
        whole = _whole(preview, builds, list(seconds.values()) * preview.total)
        return whole, whole
    done = {row.trial.number for row in preview.rows if row.done is not None}
    left = [value for trial, value in seconds.items() if trial not in done]
    return _whole(preview, builds, list(seconds.values())), _whole(preview, builds, left)


def _whole(preview: Preview, builds: Builds, trials: Sequence[float]) -> float:
    """Seconds of these trials; of another launcher nobody knows how many it runs at a time."""
    if preview.launcher is not None:
        return sum(trials) + len(trials) * builds.server  # each imports what the server does, once for all
    return sweep_seconds(trials, len(preview.places), builds.server)


def as_json(preview: Preview, builds: Builds) -> dict[str, Any]:
    """The same for `--json`; times in seconds."""
    seconds = projected(builds)
    everything, left = _together(preview, builds, seconds)
    models = [_model_as_json(one, seconds) for one in builds.built]
    return {"models": models, "server_seconds": builds.server, "projected": {"all": everything, "left": left}}


def _model_as_json(one: Built, seconds: Mapping[int, float]) -> dict[str, Any]:
    numbers = [row.trial.number for row in one.model.rows]
    summary, measured = one.summary, one.measured
    times = {} if measured is None else dataclasses.asdict(measured)
    return {
        "name": one.model.name,
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
        "error": one.error,
    }


def steps(config: RunConfig, epoch: int) -> int:
    """Optimizer steps of a training. Args: epoch: steps in an epoch."""
    return config.train.steps or config.train.epochs * epoch


def evaluations(config: RunConfig, epoch: int) -> int:
    """How often it is evaluated on the validation data, once at the end in any case."""
    every, total = config.train.evaluate_every, steps(config, epoch)
    if every.steps is not None:
        return math.ceil(total / every.steps)
    return max(1, math.ceil(total / (every.epochs * epoch))) if every.epochs is not None else 1


def trial_seconds(config: RunConfig, measured: Measured) -> float:
    """Of one trial that trains to its end, callbacks left out."""
    training = steps(config, measured.epoch) * measured.step
    return measured.setup + training + evaluations(config, measured.epoch) * measured.evaluation + measured.ending


def sweep_seconds(trials: Sequence[float], slots: int, server: float) -> float:
    """Of trials that begin one after the other, each as soon as a slot is free.

    Args:
        server: until the first begins.
    """
    if not trials:
        return 0.0
    free = [server] * slots
    for seconds in trials:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)
