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
from expfw.api.settings import RunConfig
from expfw.config.freeze import make_plugins
from expfw.plugins.catalogue import catalogue
from expfw.plugins.manager import manager
from expfw.runs.failure import most_memory_mib
from expfw.runs.one_run import execute
from expfw.runs.request import Request

log = logging.getLogger("expfw")
_SECONDS, _STEPS, _MOST_SECONDS = 1.0, 24, 10.0
"""It is stopped after so many steps that took so long together, or after the most seconds."""
_EVALUATIONS, _WAIT_SECONDS = 2, 3.0
"""Before that it waits for so many evaluations, the first of which compiles, unless they take too long to come."""
_MOST_BATCHES = 64
"""So many batches of the validation and test data are evaluated; the time that all take is reckoned from them."""
_OF_A_STEP = 1 / 3
"""What evaluating a batch takes of a training step, where it was not measured: the forward pass without gradients."""


@dataclass(frozen=True)
class Measured:
    """How long the parts of a run take, in seconds, and what it needs.

    Attributes:
        setup: from the beginning of the process until it trains at its own pace: data, model, tracing.
        step: of one optimizer step; evaluation: of all validation data, once; ending: the test data, saving the model.
        steps: so many were measured.
        epoch: steps in an epoch.
        memory_mib: the most memory of its process.
        began, ended: of its process, by the system's monotonic clock.
    """

    setup: float
    step: float
    evaluation: float
    ending: float
    steps: int
    epoch: int
    memory_mib: float
    began: float
    ended: float


def measured_run(request: Request) -> None:
    """Makes the run, which writes what it finds out about itself beside its folder; called in a process of its own."""
    if request.data and request.config.cache_gib > 0:
        _keep_data(request)
    execute(request, [Measuring(found_by(request), time.monotonic())])


def _keep_data(request: Request) -> None:
    """Has the data preprocessed and kept, as all trials but the first will find them."""
    plugins = make_plugins(request.config, catalogue(request.files), ("dataset",))
    with suppress(Exception):  # the run itself says what is wrong
        manager(plugins, report=log.warning).hook.expfw_load_data(config=request.config, run=None)


def found_by(request: Request) -> Path:
    """The file that a run writes it to."""
    assert request.sweep_folder is not None
    return request.sweep_folder / f"{request.id}.json"


def read(request: Request) -> tuple[ModelSummary | None, Measured | None]:
    """What a run has written, as far as it came."""
    try:
        content = json.loads(found_by(request).read_text())
    except (OSError, ValueError):
        return None, None
    measured = content["measured"]
    return ModelSummary(**content["summary"]), None if measured is None else Measured(**measured)


@dataclass
class Pace:
    """The times of a training's parts as they come, and what they mean.

    Attributes:
        calls: steps, seconds and whether an epoch ended there, of each call of the engine.
        evaluations: seconds of each.
    """

    calls: list[tuple[int, float, bool]] = field(default_factory=list)
    evaluations: list[float] = field(default_factory=list)

    @property
    def traced(self) -> set[int]:
        """Places of calls in which something is compiled: the first, and the first that has the last batch of an epoch,
        which may be smaller; where there are no others, none."""
        first_end = next((place for place, (_, _, ends) in enumerate(self.calls) if ends), 0)
        found = {0, first_end}
        return found if len(self.calls) > len(found) else {0} if len(self.calls) > 1 else set()

    @property
    def step(self) -> float:
        """Seconds of one step; the second call, which was of one step only, counts where it is all there is."""
        counted = [call for place, call in enumerate(self.calls) if place not in self.traced]
        counted = counted[1:] if len(counted) > 1 else counted
        return sum(seconds for _, seconds, _ in counted) / max(1, sum(steps for steps, _, _ in counted))

    def evaluation(self, batches: int) -> float:
        """Seconds of one evaluation of so many batches, without the compiling in the first."""
        later = self.evaluations[1:]
        reckoned = batches * self.step * _OF_A_STEP
        return sum(later) / len(later) if later else min([reckoned, *self.evaluations])

    def compiling(self, batches: int) -> float:
        """Seconds that compiling took: what calls, and the first evaluation, took longer than they will later."""
        calls = [self.calls[place] for place in self.traced]
        longer = sum(max(0.0, seconds - steps * self.step) for steps, seconds, _ in calls)
        return longer + sum(max(0.0, first - self.evaluation(batches)) for first in self.evaluations[:1])


class Measuring(Plugin):
    """Takes the times of a run, and stops it.

    Args:
        began: when the process did.
    """

    kind = "display"

    def __init__(self, file: Path, began: float) -> None:
        super().__init__(config=None, name="measuring")
        self._file, self._began = file, began
        self._pace = Pace()
        self._summary: ModelSummary | None = None
        self._summing = self._fit_began = self._mark = 0.0
        self._step = 0
        self._batches = {"validation": (0, 0), "test": (0, 0)}

    @hookimpl(wrapper=True)
    def expfw_load_data(self, config: RunConfig) -> Generator[None, Any, Any]:
        data = yield
        if not isinstance(data, Splits):
            return data  # the host says what is wrong with it
        size = config.train.batch_size
        fewer: dict[str, Any] = {}
        for name in self._batches:
            if (split := getattr(data, name)) is not None:
                all_of_it = min(math.ceil(len(split) / size), config.train.limit_batches or len(split))
                self._batches[name] = all_of_it, min(all_of_it, _MOST_BATCHES)
                fewer[name] = split.take(slice(_MOST_BATCHES * size))
        return dataclasses.replace(data, **fewer)

    @hookimpl
    def expfw_run_started(self, run: Run, data: Splits, model: Any) -> None:
        began = time.monotonic()
        self._summary = run.hook.expfw_summary(config=run.config, model=model, data=data)
        self._write(None)  # a process that dies now has told that much
        self._summing = time.monotonic() - began
        run.wake_at(run.step + 1)

    @hookimpl(wrapper=True)
    def expfw_fit(self) -> Generator[None, Any, Any]:
        self._fit_began = self._mark = time.monotonic()
        return (yield)

    @hookimpl
    def expfw_steps_ended(self, run: Run) -> None:
        steps, self._step = run.step - self._step, run.step
        self._pace.calls.append((steps, self._passed(), run.step % (run.steps_per_epoch or 1) == 0))
        if len(self._pace.calls) == 1:
            run.wake_at(run.step + 1)
            return
        done = sum(steps for steps, _, _ in self._pace.calls[1:])
        spent = sum(seconds for _, seconds, _ in self._pace.calls[1:])
        left = max(_SECONDS, min(_MOST_SECONDS, _STEPS * spent / done)) - spent
        if left > 0:  # or a slow model's next call might be a long one
            run.wake_at(run.step + max(1, math.ceil(left * done / max(spent, 1e-9))))
        elif spent >= _WAIT_SECONDS or self._evaluated_enough():
            run.request_stop("measured")

    def _evaluated_enough(self) -> bool:
        return len(self._pace.evaluations) >= _EVALUATIONS or not self._batches["validation"][0]

    @hookimpl
    def expfw_evaluated(self) -> None:
        self._pace.evaluations.append(self._passed())

    def _passed(self) -> float:
        """Seconds since it was last asked."""
        before, self._mark = self._mark, time.monotonic()
        return self._mark - before

    @hookimpl
    def expfw_run_ended(self, run: Run) -> None:
        if self._summary is None or not self._pace.calls:
            return
        (whole, part), (test, test_part) = self._batches.values()
        pace, now = self._pace, time.monotonic()
        evaluation = pace.evaluation(part)
        of_a_batch = evaluation / part if part else pace.step * _OF_A_STEP
        measured = Measured(
            setup=self._fit_began - self._began - self._summing + pace.compiling(part),
            step=pace.step,
            evaluation=whole * of_a_batch,
            ending=now - self._mark + (test - test_part) * of_a_batch,
            steps=sum(steps for steps, _, _ in pace.calls),
            epoch=run.steps_per_epoch or 1,
            memory_mib=most_memory_mib(),
            began=self._began,
            ended=now,
        )
        self._write(measured)

    def _write(self, measured: Measured | None) -> None:
        assert self._summary is not None
        known = None if measured is None else dataclasses.asdict(measured)
        self._file.write_text(json.dumps({"summary": _plain(self._summary), "measured": known}))


def _plain(summary: ModelSummary) -> dict[str, Any]:
    """Without the layers, which nobody asks for here."""
    return {**dataclasses.asdict(summary), "layers": []}


def mean(several: Sequence[Measured]) -> Measured:
    """The mean of the times of a configuration that was measured several times; the most of its memory."""
    values = {f.name: sum(getattr(one, f.name) for one in several) / len(several) for f in dataclasses.fields(Measured)}
    memory = max(one.memory_mib for one in several)
    return Measured(**{**values, "steps": several[0].steps, "epoch": several[0].epoch, "memory_mib": memory})
