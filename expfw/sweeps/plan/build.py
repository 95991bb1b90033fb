"""Builds one of each distinct model of a sweep and trains it for a moment, each in a process of its own."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expfw.api.model_summary import ModelSummary
from expfw.api.run import FINISHED
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
        """What the trials have in common of what is swept over."""
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
        """The one that is built: of the smallest learning rate, since another may diverge at once."""
        requests = [row.request for row in self.rows if row.request is not None]
        return min(requests, key=get_learning_rates)


@dataclass(frozen=True)
class BuildResult:
    """What building such a model came to.

    Attributes:
        error: what went wrong; what was known until then is there nevertheless.
    """

    model: DistinctModel
    summary: ModelSummary | None
    measurement: Measurement | None
    error: str | None


@dataclass(frozen=True)
class BuildResults:
    """All of them.

    Attributes:
        server_seconds: seconds until the server that forks the processes had imported what it has to.
    """

    results: Sequence[BuildResult]
    server_seconds: float


def find_distinct_models(rows: Sequence[PreviewRow]) -> list[DistinctModel]:
    """Trials that can run, by what they build, in the order of the sweep."""
    rows_by_key: dict[str, list[PreviewRow]] = {}
    for row in rows:
        if row.request is not None:
            rows_by_key.setdefault(make_step_key(row.request), []).append(row)
    return [DistinctModel(model_rows) for model_rows in rows_by_key.values()]


@dataclass
class _BuildQueue:
    """The processes while they run.

    Attributes:
        waiting_requests: those that come next, each with the place of its model.
        starts, ends: of each process, by the id of its run.
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
        """What is known of it is kept already."""

    def mark_trial_ended(self, request: Request, reason: str | None) -> None:
        self.ends[request.id] = reason or "it was interrupted", time.monotonic()
        self.report_progress()

    def check_running_trials(self) -> None:
        """Nobody is to be told of what they have come to so far."""

    def collect_results(self, model_index: int) -> list[tuple[ModelSummary | None, Measurement | None, str | None]]:
        """What the processes of one model came to, each."""
        return [self._read_result(request) for index, request, _ in self.starts.values() if index == model_index]

    def _read_result(self, request: Request) -> tuple[ModelSummary | None, Measurement | None, str | None]:
        reason, end = self.ends[request.id]
        assert request.sweep_folder is not None
        assert request.trial is not None
        folder = run_folders.get_trial_folder(request.sweep_folder, request.trial, request.id)
        trial = Trial(request.trial, request.fingerprint, (), (), folder=str(folder)).read_final_state(reason)
        summary, measurement = timing.read_measurement(request)
        if measurement is not None:  # with what it took to end the process
            measurement = dataclasses.replace(measurement, ending=measurement.ending + end - measurement.end_time)
        return summary, measurement, None if trial.status == FINISHED else trial.error


def build_models(
    preview: Preview, report_progress: Callable[[int, int], Any] = lambda done, total: None
) -> BuildResults:
    """Builds one of each distinct model, as many at a time as there are slots.

    Where there are fewer models than slots, some are built more than once at a time: a step takes longer beside others.
    Nothing stays of it but preprocessed data, kept for the sweep itself.

    Args:
        report_progress: called with how many are done, and of how many.
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
    """Until the first process began, which waits for the server."""
    for _, request, start in queue.starts.values():
        _, measurement = timing.read_measurement(request)
        return max(0.0, measurement.start_time - start) if measurement is not None else 0.0
    return 0.0
