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
from expfw.runs.request import Request
from expfw.sweeps.local.supervisor import Supervisor
from expfw.sweeps.plan import measuring
from expfw.sweeps.plan.distinct import alone, learning_rates, step_key
from expfw.sweeps.plan.measuring import Measured, measured_run
from expfw.sweeps.plan.trials import Preview, Row
from expfw.system.process_limits import Limits
from expfw.tracking import run_folders
from expfw.tracking.ledger import Trial
from expfw.tracking.run_folders import LOG


@dataclass(frozen=True)
class Distinct:
    """Trials with the same network and the same step."""

    rows: Sequence[Row]

    @property
    def name(self) -> str:
        """What the trials have in common of what is swept over."""
        first, *others = (row.trial for row in self.rows)
        shared = [word for word in first.swept if all(word in other.swept for other in others)]
        request = self.rows[0].request
        assert request is not None
        return dataclasses.replace(first, swept=shared).name if shared else str(request.config.model["plugin"])

    @property
    def slowest_learner(self) -> Request:
        """The one that is built: of the smallest learning rate, since another may diverge at once."""
        requests = [row.request for row in self.rows if row.request is not None]
        return min(requests, key=learning_rates)


@dataclass(frozen=True)
class Built:
    """What building such a model came to.

    Attributes:
        error: what went wrong; what was known until then is there nevertheless.
    """

    model: Distinct
    summary: ModelSummary | None
    measured: Measured | None
    error: str | None


@dataclass(frozen=True)
class Builds:
    """All of them.

    Attributes:
        server: seconds until the server that forks the processes had imported what it has to.
    """

    built: Sequence[Built]
    server: float


def distinct(rows: Sequence[Row]) -> list[Distinct]:
    """Trials that can run, by what they build, in the order of the sweep."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.request is not None:
            found.setdefault(step_key(row.request), []).append(row)
    return [Distinct(same) for same in found.values()]


@dataclass
class _Building:
    """The processes while they run.

    Attributes:
        waiting: those that come next, each with the place of its model.
        begins, ends: of each process, by the id of its run.
    """

    waiting: list[tuple[int, Request]]
    tell: Callable[[], Any]
    begins: dict[str, tuple[int, Request, float]] = field(default_factory=dict)
    ends: dict[str, tuple[str, float]] = field(default_factory=dict)
    server: float = 0.0

    def run(self, preview: Preview, folder: Path) -> None:
        settings = preview.base.sweep
        limits = Limits(settings.timeout, settings.memory)
        Supervisor(preview.places, preview.preload, folder / LOG, limits, measured_run).run(self)

    def next_request(self) -> Request | None:
        if not self.waiting:
            return None
        place, request = self.waiting.pop(0)
        self.begins[request.id] = place, request, time.monotonic()
        return request

    def started(self, made: Request) -> None:
        """What is known of it is kept already."""

    def ended(self, made: Request, how: str | None) -> None:
        self.ends[made.id] = how or "it was interrupted", time.monotonic()
        self.tell()

    def look(self) -> None:
        """Nobody is to be told of what they have come to so far."""

    def came_to(self, place: int) -> list[tuple[ModelSummary | None, Measured | None, str | None]]:
        """What the processes of one model came to, each."""
        return [self._one(request) for where, request, _ in self.begins.values() if where == place]

    def _one(self, request: Request) -> tuple[ModelSummary | None, Measured | None, str | None]:
        how, ended = self.ends[request.id]
        assert request.sweep_folder is not None
        assert request.trial is not None
        folder = run_folders.trial_folder(request.sweep_folder, request.trial, request.id)
        trial = Trial(request.trial, request.fingerprint, (), (), folder=str(folder)).ended(how)
        summary, measured = measuring.read(request)
        if measured is not None:  # with what it took to end the process
            measured = dataclasses.replace(measured, ending=measured.ending + ended - measured.ended)
        return summary, measured, None if trial.status == FINISHED else trial.error


def build(preview: Preview, tell: Callable[[int, int], Any] = lambda done, total: None) -> Builds:
    """Builds one of each distinct model, as many at a time as there are slots.

    Where there are fewer models than slots, some are built more than once at a time: a step takes longer beside others.
    Nothing stays of it but preprocessed data, kept for the sweep itself.

    Args:
        tell: called with how many are done, and of how many.
    """
    models = distinct(preview.rows)
    with tempfile.TemporaryDirectory(prefix="expfw-plan-") as name:
        folder = Path(name)
        many = max(len(models), min(len(preview.places), preview.total)) if models else 0
        waiting = [(n % len(models), _request(models[n % len(models)], n, folder)) for n in range(many)]
        building = _Building(waiting, lambda: tell(len(building.ends), many))
        tell(0, many)
        building.run(preview, folder)
        built = [_built(model, building.came_to(place)) for place, model in enumerate(models)]
        return Builds(built, _server_seconds(building))


def _request(model: Distinct, number: int, folder: Path) -> Request:
    request = model.slowest_learner
    return dataclasses.replace(
        request,
        config=alone(request.config, request.files),
        id=run_folders.new_id(),
        sweep_id="plan",
        sweep_folder=folder,
        trial=number,
    )


def _built(model: Distinct, several: Sequence[tuple[ModelSummary | None, Measured | None, str | None]]) -> Built:
    error = next((error for _, _, error in several if error is not None), None)
    summary = next((summary for summary, _, _ in several if summary is not None), None)
    measured = [one for _, one, wrong in several if one is not None and wrong is None]
    return Built(model, summary, measuring.mean(measured) if measured and error is None else None, error)


def _server_seconds(building: _Building) -> float:
    """Until the first process began, which waits for the server."""
    for _, request, started in building.begins.values():
        _, measured = measuring.read(request)
        return max(0.0, measured.began - started) if measured is not None else 0.0
    return 0.0
