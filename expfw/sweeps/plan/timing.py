"""A short run that measures the time of its steps."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expfw.api.contracts import Plugin, hookimpl
from expfw.api.data import Splits
from expfw.api.model_summary import ModelSummary
from expfw.api.run import Run
from expfw.api.run_config import RunConfig
from expfw.plugins.manager import make_manager
from expfw.runs.failure import get_peak_memory_mib
from expfw.runs.one_run import execute
from expfw.runs.request import PreparedRun, Request, prepare_request

log = logging.getLogger("expfw")
_MIN_SECONDS, _MIN_STEPS, _MAX_SECONDS = 1.0, 24, 10.0
"""The run measures 24 steps, for at least 1 second and at most 10 seconds."""
_MIN_EVALUATIONS, _EVALUATION_WAIT_SECONDS = 2, 3.0
"""The run also waits for 2 evaluations (the first one compiles), until its measured steps took 3 seconds in total."""
_MAX_EVALUATION_BATCHES = 64
"""Number of batches of the validation and test data to evaluate; the time of all batches is estimated from them."""
_FORWARD_FRACTION = 1 / 3
"""Time to evaluate a batch, as a fraction of a training step, if not measured: the forward pass without gradients."""


@dataclass(frozen=True)
class Measurement:
    """Times of the parts of a run in seconds, and its memory.

    Attributes:
        setup: seconds from the start of the process until training reaches its normal speed: data, model, tracing.
        step: seconds of one optimizer step.
        evaluation: seconds of one evaluation of all validation data.
        ending: seconds to evaluate the test data and save the model.
        steps: number of measured steps.
        epoch: number of steps in an epoch.
        memory_mib: peak memory of the process in MiB.
        start_time: start of the process, on the system's monotonic clock.
        end_time: end of the process, on the same clock.
    """

    setup: float
    step: float
    evaluation: float
    ending: float
    steps: int
    epoch: int
    memory_mib: float
    start_time: float
    end_time: float


def measure_run(request: Request) -> None:
    """Runs the request in the current process and writes the measurement to `get_measurement_file`."""
    prepared = prepare_request(request)
    if request.data and request.config.cache_gib > 0:
        _cache_data(prepared)
    execute(prepared, [TimingPlugin(get_measurement_file(request), time.monotonic())])


def _cache_data(prepared: PreparedRun) -> None:
    """Loads the data into the cache, as for every trial after the first."""
    with suppress(Exception):  # the run itself reports the error
        hook = make_manager([prepared.plugins.dataset], report=log.warning).hook
        hook.expfw_load_data(config=prepared.config, run=None)


def get_measurement_file(request: Request) -> Path:
    """Returns the file that the run writes its measurement to."""
    assert request.sweep_folder is not None
    return request.sweep_folder / f"{request.id}.json"


def read_measurement(request: Request) -> tuple[ModelSummary | None, Measurement | None]:
    """Reads the measurement of a run; None for missing parts."""
    try:
        content = json.loads(get_measurement_file(request).read_text())
    except (OSError, ValueError):
        return None, None
    measurement = content["measured"]
    return ModelSummary(**content["summary"]), None if measurement is None else Measurement(**measurement)


@dataclass
class TrainingTimes:
    """Times of the parts of a training, and estimates from them.

    Attributes:
        calls: number of steps, seconds and whether an epoch ended, for each call of the engine.
        evaluation_seconds: seconds of each evaluation.
    """

    calls: list[tuple[int, float, bool]] = field(default_factory=list)
    evaluation_seconds: list[float] = field(default_factory=list)

    @property
    def compiling_calls(self) -> set[int]:
        """Indices of the calls that compile: the first call, and the first call with the last batch of an epoch, which
        may be smaller. If there are no other calls, only the first; with a single call, none."""
        first_end = next((index for index, (_, _, ends_epoch) in enumerate(self.calls) if ends_epoch), 0)
        compiling = {0, first_end}
        return compiling if len(self.calls) > len(compiling) else {0} if len(self.calls) > 1 else set()

    @property
    def step_seconds(self) -> float:
        """Seconds of one step. The second call has only one step and is used only if there are no later calls."""
        measured_calls = [call for index, call in enumerate(self.calls) if index not in self.compiling_calls]
        measured_calls = measured_calls[1:] if len(measured_calls) > 1 else measured_calls
        return sum(seconds for _, seconds, _ in measured_calls) / max(1, sum(steps for steps, _, _ in measured_calls))

    def estimate_evaluation(self, batches: int) -> float:
        """Returns the seconds of one evaluation of this number of batches, without the compilation in the first."""
        later_evaluations = self.evaluation_seconds[1:]
        estimate = batches * self.step_seconds * _FORWARD_FRACTION
        return (
            sum(later_evaluations) / len(later_evaluations)
            if later_evaluations
            else min([estimate, *self.evaluation_seconds])
        )

    def estimate_compiling(self, batches: int) -> float:
        """Returns the seconds of compilation: the extra time of the first calls and of the first evaluation."""
        calls = [self.calls[index] for index in self.compiling_calls]
        extra_seconds = sum(max(0.0, seconds - steps * self.step_seconds) for steps, seconds, _ in calls)
        return extra_seconds + sum(
            max(0.0, first - self.estimate_evaluation(batches)) for first in self.evaluation_seconds[:1]
        )


class TimingPlugin(Plugin):
    """Measures the times of a run and stops it.

    Args:
        file: file to write the measurement to.
        process_start: start time of the process, on the monotonic clock.
    """

    kind = "observer"

    def __init__(self, file: Path, process_start: float) -> None:
        super().__init__(config=None, name="measuring")
        self._file, self._process_start = file, process_start
        self._times = TrainingTimes()
        self._summary: ModelSummary | None = None
        self._summary_seconds = self._fit_start = self._last_time = 0.0
        self._last_step = 0
        self._batch_counts = {"validation": (0, 0), "test": (0, 0)}

    @hookimpl(wrapper=True)
    def expfw_load_data(self, config: RunConfig) -> Generator[None, Any, Any]:
        data = yield
        if not isinstance(data, Splits):
            return data  # the host reports the error
        batch_size = config.train.batch_size
        truncated_splits: dict[str, Any] = {}
        for name in self._batch_counts:
            if (split := getattr(data, name)) is not None:
                batch_count = min(math.ceil(len(split) / batch_size), config.train.limit_batches or len(split))
                self._batch_counts[name] = batch_count, min(batch_count, _MAX_EVALUATION_BATCHES)
                truncated_splits[name] = split.take(slice(_MAX_EVALUATION_BATCHES * batch_size))
        return dataclasses.replace(data, **truncated_splits)

    @hookimpl
    def expfw_run_started(self, run: Run, data: Splits, model: Any) -> None:
        start = time.monotonic()
        self._summary = run.hook.expfw_summary(config=run.config, model=model, data=data)
        self._write_measurement(None)  # so that the summary is kept if the process dies
        self._summary_seconds = time.monotonic() - start
        run.call_hooks_at(run.step + 1)

    @hookimpl(wrapper=True)
    def expfw_fit(self) -> Generator[None, Any, Any]:
        self._fit_start = self._last_time = time.monotonic()
        return (yield)

    @hookimpl
    def expfw_steps_ended(self, run: Run) -> None:
        steps, self._last_step = run.step - self._last_step, run.step
        self._times.calls.append((steps, self._measure_lap(), run.step % (run.steps_per_epoch or 1) == 0))
        if len(self._times.calls) == 1:
            run.call_hooks_at(run.step + 1)
            return
        measured_steps = sum(steps for steps, _, _ in self._times.calls[1:])
        measured_seconds = sum(seconds for _, seconds, _ in self._times.calls[1:])
        remaining_seconds = (
            max(_MIN_SECONDS, min(_MAX_SECONDS, _MIN_STEPS * measured_seconds / measured_steps)) - measured_seconds
        )
        if remaining_seconds > 0:  # otherwise the next call of a slow model might be long
            run.call_hooks_at(
                run.step + max(1, math.ceil(remaining_seconds * measured_steps / max(measured_seconds, 1e-9)))
            )
        elif measured_seconds >= _EVALUATION_WAIT_SECONDS or self._has_enough_evaluations():
            run.request_stop("measured")

    def _has_enough_evaluations(self) -> bool:
        return len(self._times.evaluation_seconds) >= _MIN_EVALUATIONS or not self._batch_counts["validation"][0]

    @hookimpl
    def expfw_evaluated(self) -> None:
        self._times.evaluation_seconds.append(self._measure_lap())

    def _measure_lap(self) -> float:
        """Returns the seconds since the previous call."""
        previous, self._last_time = self._last_time, time.monotonic()
        return self._last_time - previous

    @hookimpl
    def expfw_run_ended(self, run: Run) -> None:
        if self._summary is None or not self._times.calls:
            return
        (validation_batches, measured_validation_batches), (test_batches, measured_test_batches) = (
            self._batch_counts.values()
        )
        times, end = self._times, time.monotonic()
        evaluation_seconds = times.estimate_evaluation(measured_validation_batches)
        batch_seconds = (
            evaluation_seconds / measured_validation_batches
            if measured_validation_batches
            else times.step_seconds * _FORWARD_FRACTION
        )
        measurement = Measurement(
            setup=self._fit_start
            - self._process_start
            - self._summary_seconds
            + times.estimate_compiling(measured_validation_batches),
            step=times.step_seconds,
            evaluation=validation_batches * batch_seconds,
            ending=end - self._last_time + (test_batches - measured_test_batches) * batch_seconds,
            steps=sum(steps for steps, _, _ in times.calls),
            epoch=run.steps_per_epoch or 1,
            memory_mib=get_peak_memory_mib(),
            start_time=self._process_start,
            end_time=end,
        )
        self._write_measurement(measurement)

    def _write_measurement(self, measurement: Measurement | None) -> None:
        assert self._summary is not None
        values = None if measurement is None else dataclasses.asdict(measurement)
        self._file.write_text(json.dumps({"summary": _drop_layers(self._summary), "measured": values}))


def _drop_layers(summary: ModelSummary) -> dict[str, Any]:
    """Returns the summary without its layers, which a plan does not use."""
    return {**dataclasses.asdict(summary), "layers": []}


def average_measurements(measurements: Sequence[Measurement]) -> Measurement:
    """Returns the mean times and the peak memory of several measurements of one configuration."""
    values = {
        f.name: sum(getattr(measurement, f.name) for measurement in measurements) / len(measurements)
        for f in dataclasses.fields(Measurement)
    }
    memory = max(measurement.memory_mib for measurement in measurements)
    return Measurement(
        **{**values, "steps": measurements[0].steps, "epoch": measurements[0].epoch, "memory_mib": memory}
    )
