"""Builds each distinct model of a sweep and trains it for some steps, in separate processes."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expfw.api.model_summary import ModelSummary
from expfw.api.result import FINISHED
from expfw.plugins.catalogue import get_catalogue
from expfw.runs.request import Request
from expfw.sweeps.local.supervisor import Supervisor
from expfw.sweeps.plan import timing
from expfw.sweeps.plan.distinct_models import get_learning_rates, make_step_key, strip_observers
from expfw.sweeps.plan.timing import Measurement, measure_run
from expfw.sweeps.plan.trials import Preview, PreviewRow
from expfw.system.process_limits import Limits
from expfw.tracking import run_folders
from expfw.tracking.ledger import Trial
from expfw.tracking.run_folders import LOG_FILE


@dataclass(frozen=True)
class DistinctModel:
    """Trials with the same network and the same step."""

    rows: Sequence[PreviewRow]

    @property
    def name(self) -> str:
        """Swept overrides that all its trials share; the model's plugin if there are none."""
        first, *others = (row.trial for row in self.rows)
        shared_overrides = [override for override in first.swept if all(override in other.swept for other in others)]
        request = self.rows[0].request
        assert request is not None
        return (
            dataclasses.replace(first, swept=shared_overrides).name
            if shared_overrides
            else str(request.config.model["plugin"])
        )

    @property
    def request_to_build(self) -> Request:
        """Request with the smallest learning rate; a larger one may diverge immediately."""
        requests = [row.request for row in self.rows if row.request is not None]
        return min(requests, key=get_learning_rates)


@dataclass(frozen=True)
class BuildResult:
    """Result of building one distinct model.

    Attributes:
        model: model and its trials.
        summary: summary of the model; None if it could not be built.
        measurement: measured times; None if the model could not be trained.
        error: error message, or None. Values that were measured before the error are kept.
    """

    model: DistinctModel
    summary: ModelSummary | None
    measurement: Measurement | None
    error: str | None


@dataclass(frozen=True)
class BuildResults:
    """Results of building all distinct models.

    Attributes:
        results: one result per model.
        server_seconds: seconds until the fork server had imported its modules.
    """

    results: Sequence[BuildResult]
    server_seconds: float


def find_distinct_models(rows: Sequence[PreviewRow]) -> list[DistinctModel]:
    """Groups the trials that can run by their network and step, in the order of the sweep."""
    rows_by_key: dict[str, list[PreviewRow]] = {}
    for row in rows:
        if row.request is not None:
            rows_by_key.setdefault(make_step_key(row.request), []).append(row)
    return [DistinctModel(model_rows) for model_rows in rows_by_key.values()]


@dataclass
class _BuildQueue:
    """Queue of the processes that build models.

    Attributes:
        waiting_requests: index of the model and request of each process that has not started.
        report_progress: function that is called whenever a process ends.
        starts: index of the model, request and start time of each process, by run ID.
        ends: reason and end time of each process, by run ID.
        server_seconds: seconds until the fork server was ready.
    """

    waiting_requests: list[tuple[int, Request]]
    report_progress: Callable[[], Any]
    starts: dict[str, tuple[int, Request, float]] = field(default_factory=dict)
    ends: dict[str, tuple[str, float]] = field(default_factory=dict)
    server_seconds: float = 0.0

    def run(self, preview: Preview, folder: Path) -> None:
        settings = preview.base_config.sweep
        limits = Limits(settings.timeout, settings.memory)
        Supervisor(preview.slots, preview.preload, folder / LOG_FILE, limits, measure_run).run(self)

    def next_request(self) -> Request | None:
        if not self.waiting_requests:
            return None
        model_index, request = self.waiting_requests.pop(0)
        self.starts[request.id] = model_index, request, time.monotonic()
        return request

    def mark_trial_started(self, request: Request) -> None:
        """Does nothing: `next_request` has recorded the start."""

    def mark_trial_ended(self, request: Request, reason: str | None) -> None:
        self.ends[request.id] = reason or "it was interrupted", time.monotonic()
        self.report_progress()

    def check_running_trials(self) -> None:
        """Does nothing: these processes are not monitored."""

    def collect_results(self, model_index: int) -> list[tuple[ModelSummary | None, Measurement | None, str | None]]:
        """Returns the result of each process of one model."""
        return [self._read_result(request) for index, request, _ in self.starts.values() if index == model_index]

    def _read_result(self, request: Request) -> tuple[ModelSummary | None, Measurement | None, str | None]:
        reason, end = self.ends[request.id]
        assert request.sweep_folder is not None
        assert request.trial is not None
        folder = run_folders.get_trial_folder(request.sweep_folder, request.trial, request.id)
        trial = Trial(request.trial, request.fingerprint, (), (), folder=str(folder)).read_final_state(reason)
        summary, measurement = timing.read_measurement(request)
        if measurement is not None:  # add the time that the process needed to exit
            measurement = dataclasses.replace(measurement, ending=measurement.ending + end - measurement.end_time)
        return summary, measurement, None if trial.status == FINISHED else trial.error


def build_models(
    preview: Preview, report_progress: Callable[[int, int], Any] = lambda done, total: None
) -> BuildResults:
    """Builds each distinct model once, with one process per slot at a time.

    If there are fewer models than slots, some are built several times in parallel, because a step takes longer while
    other trials run. Everything is deleted afterwards except the preprocessed data, which the sweep uses.

    Args:
        preview: sweep to measure.
        report_progress: function that is called with the number of completed processes and the total.
    """
    models = find_distinct_models(preview.rows)
    with tempfile.TemporaryDirectory(prefix="expfw-plan-") as name:
        folder = Path(name)
        process_count = max(len(models), min(len(preview.slots), preview.total)) if models else 0
        waiting = [
            (n % len(models), _make_build_request(models[n % len(models)], n, folder)) for n in range(process_count)
        ]
        queue = _BuildQueue(waiting, lambda: report_progress(len(queue.ends), process_count))
        report_progress(0, process_count)
        queue.run(preview, folder)
        results = [_combine_results(model, queue.collect_results(index)) for index, model in enumerate(models)]
        return BuildResults(results, _estimate_server_seconds(queue))


def _make_build_request(model: DistinctModel, number: int, folder: Path) -> Request:
    request = model.request_to_build
    return dataclasses.replace(
        request,
        config=strip_observers(request.config, get_catalogue(request.files)),
        id=run_folders.make_id(),
        sweep_id="plan",
        sweep_folder=folder,
        trial=number,
    )


def _combine_results(
    model: DistinctModel, results: Sequence[tuple[ModelSummary | None, Measurement | None, str | None]]
) -> BuildResult:
    error = next((error for _, _, error in results if error is not None), None)
    summary = next((summary for summary, _, _ in results if summary is not None), None)
    measurements = [measurement for _, measurement, failure in results if measurement is not None and failure is None]
    return BuildResult(
        model, summary, timing.average_measurements(measurements) if measurements and error is None else None, error
    )


def _estimate_server_seconds(queue: _BuildQueue) -> float:
    """Returns the seconds until the first process began; it waits for the server."""
    for _, request, start in queue.starts.values():
        _, measurement = timing.read_measurement(request)
        return max(0.0, measurement.start_time - start) if measurement is not None else 0.0
    return 0.0
