"""A short run that measures the time of its steps, in its own process."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expfw.api.contracts import Plugin, hookimpl
from expfw.api.data import Splits
from expfw.api.model_summary import ModelSummary
from expfw.api.run import Run
from expfw.api.run_config import RunConfig
from expfw.runs.failure import get_peak_memory_mib
from expfw.runs.one_run import execute
from expfw.runs.request import Request, prepare_request
from expfw.system.input_files import read_bytes

_MIN_STEPS, _MIN_SECONDS, _MAX_SECONDS = 24, 1.0, 10.0
"""The run measures 24 steps and 1 second, but at most 10 seconds."""
_MAX_EVALUATION_BATCHES = 64
"""Number of batches of the validation and test data to evaluate; the time of the others is estimated from them."""
_FORWARD_FRACTION = 1 / 3
"""Time to evaluate a batch, as a fraction of a training step, if not measured: the forward pass without gradients."""
_FILE = "measurement.json"


@dataclass(frozen=True)
class Measurement:
    """Times of a run in seconds, and its memory.

    Attributes:
        setup: seconds outside of steps and evaluations: data, model, compilation, test, saving.
        step: seconds of one optimizer step.
        evaluation: seconds of one evaluation of all validation data.
        steps: number of measured steps.
        epoch: number of steps in an epoch.
        memory_mib: peak memory of the process in MiB.
        start: start of the process, on the system's monotonic clock.
    """

    setup: float
    step: float
    evaluation: float
    steps: int
    epoch: int
    memory_mib: float
    start: float

    def estimate_seconds(self, config: RunConfig) -> float:
        """Returns the seconds of a run that trains to its end, without callbacks."""
        train, every = config.train, config.train.evaluate_every
        steps = train.steps or train.epochs * self.epoch
        interval = every.steps or (every.epochs * self.epoch if every.epochs is not None else steps)
        return self.setup + steps * self.step + math.ceil(steps / interval) * self.evaluation


def measure_run(request: Request) -> None:
    """Runs the request in the current process and writes its measurement to its folder; see `read_measurement`."""
    prepared = prepare_request(request)
    if request.data and request.config.cache_gib > 0:
        with suppress(Exception):  # cache the data, as for every trial after the first; the run itself reports errors
            prepared.plugins.dataset.expfw_load_data(config=request.config)
    execute(prepared, [_Stopwatch()])


def read_measurement(folder: Path) -> tuple[ModelSummary | None, Measurement | None]:
    """Reads summary and measurement of a run; None for a part that it did not reach."""
    try:
        content = json.loads(read_bytes(folder / _FILE))
    except (OSError, ValueError):
        return None, None
    measurement = content["measurement"]
    return ModelSummary(**content["summary"]), None if measurement is None else Measurement(**measurement)


class _Stopwatch(Plugin):
    """Measures the times of a run, stops it and writes the measurement to a file."""

    kind = "observer"

    def __init__(self) -> None:
        super().__init__(config=None, name="measuring")
        self._start = time.monotonic()
        self._content: dict[str, Any] = {}
        self._summary_seconds = self._last_time = 0.0
        self._calls: list[tuple[int, float]] = []  # number of steps and seconds of each call of the engine
        self._evaluations: list[float] = []
        self._batches = {"validation": 0, "test": 0}

    @hookimpl(wrapper=True)
    def expfw_load_data(self, config: RunConfig) -> Generator[None, Any, Any]:
        data = yield
        if not isinstance(data, Splits):
            return data  # the host reports the error
        size, limit = config.train.batch_size, config.train.limit_batches or math.inf
        shortened: dict[str, Any] = {}
        for name, split in data.get_splits().items():
            if name in self._batches:
                self._batches[name] = int(min(limit, math.ceil(len(split) / size)))
                shortened[name] = split.take(slice(_MAX_EVALUATION_BATCHES * size))
        return dataclasses.replace(data, **shortened)

    @hookimpl
    def expfw_run_started(self, run: Run, data: Splits, model: Any) -> None:
        start = time.monotonic()
        summary = run.hook.expfw_summary(config=run.config, model=model, data=data)
        self._content = {"summary": {**dataclasses.asdict(summary), "layers": []}, "measurement": None}
        (run.folder / _FILE).write_text(json.dumps(self._content))  # it is kept if the process dies
        run.call_hooks_at(run.step + 1)
        self._last_time = time.monotonic()
        self._summary_seconds = self._last_time - start

    @hookimpl
    def expfw_steps_ended(self, run: Run) -> None:
        self._calls.append((run.step - sum(steps for steps, _ in self._calls), self._measure_lap()))
        steps, seconds = sum(steps for steps, _ in self._calls[1:]), sum(seconds for _, seconds in self._calls[1:])
        if seconds >= _MAX_SECONDS or (steps >= _MIN_STEPS and seconds >= _MIN_SECONDS):
            run.request_stop("measured")
        elif not steps:  # the first call compiles, so the engine cannot yet choose a number of steps
            run.call_hooks_at(run.step + 1)

    @hookimpl
    def expfw_evaluated(self) -> None:
        self._evaluations.append(self._measure_lap())

    def _measure_lap(self) -> float:
        """Returns the seconds since the previous call."""
        previous, self._last_time = self._last_time, time.monotonic()
        return self._last_time - previous

    @hookimpl
    def expfw_run_ended(self, run: Run) -> None:
        if not self._calls:
            return
        # The median excludes the call that compiles because the last batch of an epoch is smaller.
        step = statistics.median_low(seconds / steps for steps, seconds in self._calls[1:] or self._calls)
        measured_batches = {name: min(batches, _MAX_EVALUATION_BATCHES) for name, batches in self._batches.items()}
        evaluations = [seconds / measured_batches["validation"] for seconds in self._evaluations[1:]]
        batch = min(evaluations, default=step * _FORWARD_FRACTION)  # without the first, which compiles
        seconds = time.monotonic() - self._start - self._summary_seconds
        training = run.step * step + len(self._evaluations) * measured_batches["validation"] * batch
        test = (self._batches["test"] - measured_batches["test"]) * batch
        measurement = Measurement(
            setup=max(0.0, seconds - training) + test,
            step=step,
            evaluation=self._batches["validation"] * batch,
            steps=run.step,
            epoch=run.steps_per_epoch or 1,
            memory_mib=get_peak_memory_mib(),
            start=self._start,
        )
        (run.folder / _FILE).write_text(json.dumps({**self._content, "measurement": vars(measurement)}))
