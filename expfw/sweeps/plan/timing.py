"""A run that is stopped as soon as it has told how long its steps take."""

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
"""It is stopped after so many steps that took so long together, or after the most seconds."""
_MIN_EVALUATIONS, _EVALUATION_WAIT_SECONDS = 2, 3.0
"""Before that it waits for so many evaluations, the first of which compiles, unless they take too long to come."""
_MAX_EVALUATION_BATCHES = 64
"""So many batches of the validation and test data are evaluated; the time that all take is reckoned from them."""
_FORWARD_FRACTION = 1 / 3
"""What evaluating a batch takes of a training step, where it was not measured: the forward pass without gradients."""


@dataclass(frozen=True)
class Measurement:
    """How long the parts of a run take, in seconds, and what it needs.

    Attributes:
        setup: from the beginning of the process until it trains at its own pace: data, model, tracing.
        step: of one optimizer step; evaluation: of all validation data, once; ending: the test data, saving the model.
        steps: so many were measured.
        epoch: steps in an epoch.
        memory_mib: the most memory of its process.
        start_time, end_time: of its process, by the system's monotonic clock.
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
    """Makes the run, which writes what it finds out about itself beside its folder; called in a process of its own."""
    prepared = prepare_request(request)
    if request.data and request.config.cache_gib > 0:
        _cache_data(prepared)
    execute(prepared, [TimingPlugin(get_measurement_file(request), time.monotonic())])


def _cache_data(prepared: PreparedRun) -> None:
    """Has the data preprocessed and kept, as all trials but the first will find them."""
    with suppress(Exception):  # the run itself says what is wrong
        hook = make_manager([prepared.plugins.dataset], report=log.warning).hook
        hook.expfw_load_data(config=prepared.config, run=None)


def get_measurement_file(request: Request) -> Path:
    """The file that a run writes it to."""
    assert request.sweep_folder is not None
    return request.sweep_folder / f"{request.id}.json"


def read_measurement(request: Request) -> tuple[ModelSummary | None, Measurement | None]:
    """What a run has written, as far as it came."""
    try:
        content = json.loads(get_measurement_file(request).read_text())
    except (OSError, ValueError):
        return None, None
    measurement = content["measured"]
    return ModelSummary(**content["summary"]), None if measurement is None else Measurement(**measurement)


@dataclass
class TrainingTimes:
    """The times of a training's parts as they come, and what they mean.

    Attributes:
        calls: steps, seconds and whether an epoch ended there, of each call of the engine.
        evaluation_seconds: seconds of each.
    """

    calls: list[tuple[int, float, bool]] = field(default_factory=list)
    evaluation_seconds: list[float] = field(default_factory=list)

    @property
    def compiling_calls(self) -> set[int]:
        """Places of calls in which something is compiled: the first, and the first that has the last batch of an epoch,
        which may be smaller; where there are no others, none."""
        first_end = next((index for index, (_, _, ends_epoch) in enumerate(self.calls) if ends_epoch), 0)
        compiling = {0, first_end}
        return compiling if len(self.calls) > len(compiling) else {0} if len(self.calls) > 1 else set()

    @property
    def step_seconds(self) -> float:
        """Seconds of one step; the second call, which was of one step only, counts where it is all there is."""
        measured_calls = [call for index, call in enumerate(self.calls) if index not in self.compiling_calls]
        measured_calls = measured_calls[1:] if len(measured_calls) > 1 else measured_calls
        return sum(seconds for _, seconds, _ in measured_calls) / max(1, sum(steps for steps, _, _ in measured_calls))

    def estimate_evaluation(self, batches: int) -> float:
        """Seconds of one evaluation of so many batches, without the compiling in the first."""
        later_evaluations = self.evaluation_seconds[1:]
        estimate = batches * self.step_seconds * _FORWARD_FRACTION
        return (
            sum(later_evaluations) / len(later_evaluations)
            if later_evaluations
            else min([estimate, *self.evaluation_seconds])
        )

    def estimate_compiling(self, batches: int) -> float:
        """Seconds that compiling took: what calls, and the first evaluation, took longer than they will later."""
        calls = [self.calls[index] for index in self.compiling_calls]
        extra_seconds = sum(max(0.0, seconds - steps * self.step_seconds) for steps, seconds, _ in calls)
        return extra_seconds + sum(
            max(0.0, first - self.estimate_evaluation(batches)) for first in self.evaluation_seconds[:1]
        )


class TimingPlugin(Plugin):
    """Takes the times of a run, and stops it.

    Args:
        process_start: when the process did.
    """

    kind = "display"

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
            return data  # the host says what is wrong with it
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
        self._write_measurement(None)  # a process that dies now has told that much
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
        if remaining_seconds > 0:  # or a slow model's next call might be a long one
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
        """Seconds since it was last asked."""
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
    """Without the layers, which nobody asks for here."""
    return {**dataclasses.asdict(summary), "layers": []}


def average_measurements(measurements: Sequence[Measurement]) -> Measurement:
    """The mean of the times of a configuration that was measured several times; the most of its memory."""
    values = {
        f.name: sum(getattr(measurement, f.name) for measurement in measurements) / len(measurements)
        for f in dataclasses.fields(Measurement)
    }
    memory = max(measurement.memory_mib for measurement in measurements)
    return Measurement(
        **{**values, "steps": measurements[0].steps, "epoch": measurements[0].epoch, "memory_mib": memory}
    )
