"""Builds each distinct model of a sweep and trains it for some steps, in separate processes."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from expfw.api.hookspecs import Providers
from expfw.api.model_summary import ModelSummary
from expfw.api.result import FINISHED
from expfw.config.run_plugins import list_selected_plugins
from expfw.plugins.catalogue import get_catalogue
from expfw.runs.request import Request
from expfw.sweeps.local.supervisor import Supervisor, list_server_modules
from expfw.sweeps.plan.measurement import Measurement, measure_run, read_measurement
from expfw.sweeps.plan.trials import Preview, PreviewRow, ProgressReport
from expfw.sweeps.runner import TrialQueue
from expfw.tracking import run_folders
from expfw.tracking.ledger import Trial
from expfw.tracking.run_folders import LOG_FILE
from expfw.tracking.run_record import make_config_record

_STEP_OPTIONS = ("batch_size", "limit_batches", "deterministic", "accumulate")
_SWITCHES = ("clip_norm", "clip_value", "average", "class_weight")
_OPTIMIZER_NUMBERS = (".learning_rate", ".momentum", ".weight_decay", ".schedule.steps", ".schedule.rate", ".warmup")
"""Options of which only zero and, for the switches in `train`, null selects another training step."""


@dataclass
class DistinctModel:
    """Trials with the same network and the same training step.

    Attributes:
        request: request to build it: the trial with the smallest learning rate, because a larger one may diverge.
        summary: summary of the model; None before it is built, or if it could not be built.
        measurement: measured times; None before it is trained, or if it could not be trained.
        error: error message, or None. Values that were measured before the error are kept.
    """

    rows: list[PreviewRow]
    request: Request
    summary: ModelSummary | None = None
    measurement: Measurement | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        """Swept overrides that all its trials share; the model's plugin if there are none."""
        first, *others = (row.trial for row in self.rows)
        shared = [override for override in first.swept if all(override in other.swept for other in others)]
        return dataclasses.replace(first, swept=shared).name if shared else str(self.request.config.model["plugin"])

    @property
    def trial_seconds(self) -> dict[int, float]:
        """Estimated seconds of each trial, by its number; empty if the model could not be trained."""
        return {
            row.trial.number: self.measurement.estimate_seconds(row.request.config)
            for row in self.rows
            if row.request is not None and self.measurement is not None
        }


@dataclass(frozen=True)
class Builds:
    """The distinct models after they were built, and the seconds until the fork server had imported its modules."""

    models: Sequence[DistinctModel]
    server_seconds: float

    def estimate_seconds(self, preview: Preview, finished: bool = True) -> float:
        """Returns the seconds of the sweep, with or without finished trials; with another launcher, one at a time."""
        done = set() if finished else {row.trial.number for row in preview.done_rows}
        trial_seconds = [s for model in self.models for number, s in model.trial_seconds.items() if number not in done]
        if preview.space is not None:
            trial_seconds *= preview.total
        if preview.launcher is not None:  # each trial imports the modules that the fork server would import only once
            return sum(trial_seconds) + len(trial_seconds) * self.server_seconds
        if not trial_seconds:
            return 0.0
        return self.server_seconds + max(sum(trial_seconds) / len(preview.slots), *trial_seconds)


def find_distinct_models(rows: Sequence[PreviewRow]) -> list[DistinctModel]:
    """Groups the trials that can run by their network and step, in the order of the sweep.

    Such trials may differ in the numbers of an optimizer, the limits of clipping and averaging in `train`, the length
    of the training, seeds, and plugins that only observe. Every other option of a plugin may change its network.
    """
    provider_hooks = [name for name in vars(Providers) if name.startswith("expfw_")]
    groups: dict[str, list[tuple[list[float], PreviewRow, Request]]] = {}
    for row in rows:
        if row.request is None:
            continue
        callbacks = list_selected_plugins(row.request.config, get_catalogue(row.request.files), ("callback",))
        providers = {
            dotted_key.partition(".")[2]: node
            for dotted_key, node, entry in callbacks
            if any(hasattr(entry.load(), name) for name in provider_hooks)
        }
        config = dataclasses.replace(row.request.config, callback=providers, tracker={}, quiet=True)
        params = make_config_record(config)["params"]
        learning_rates = [value for name, value in params.items() if name.endswith(".learning_rate")]
        request = dataclasses.replace(row.request, config=config)
        groups.setdefault(_make_step_key(params), []).append((learning_rates, row, request))
    return [DistinctModel([row for _, row, _ in group], min(group, key=itemgetter(0))[2]) for group in groups.values()]


def _make_step_key(params: Mapping[str, Any]) -> str:
    step_params = {}
    for name, value in params.items():
        group, _, option = name.partition(".")
        option = option.partition(".")[0]
        if group == "train" and option in _SWITCHES:
            step_params[name] = value is not None
        elif group in ("model", "dataset", "backend", "callback") or (group == "train" and option in _STEP_OPTIONS):
            step_params[name] = bool(value) if name.endswith(_OPTIMIZER_NUMBERS) else value
    return json.dumps(step_params, sort_keys=True, default=str)


class _BuildQueue(TrialQueue):
    """Queue of the processes that build models."""

    def __init__(self, requests: Sequence[Request], report_progress: ProgressReport) -> None:
        super().__init__(requests)
        self.total, self.report_progress = len(requests), report_progress

    def mark_trial_ended(self, request: Request, reason: str | None) -> None:
        super().mark_trial_ended(request, reason)
        self.report_progress(len(self.reasons), self.total)


def build_models(preview: Preview, report_progress: ProgressReport = lambda done, total: None) -> Builds:
    """Builds each distinct model once, with one process per slot at a time.

    If there are fewer models than slots, some are built several times in parallel, because a step takes longer while
    other trials run. Everything is deleted afterwards except the preprocessed data, which the sweep uses.
    """
    models = find_distinct_models(preview.rows)
    config, plugins, start = preview.base_run.config, preview.base_run.plugins, time.monotonic()
    process_count = max(len(models), min(len(preview.slots), preview.total)) if models else 0
    with tempfile.TemporaryDirectory(prefix="expfw-plan-") as name:
        folder = Path(name)
        requests = [
            dataclasses.replace(
                models[number % len(models)].request,
                id=run_folders.make_id(),
                sweep_id="plan",
                sweep_folder=folder,
                trial=number,
            )
            for number in range(process_count)
        ]
        queue = _BuildQueue(requests, report_progress)
        modules, log = list_server_modules(plugins), folder / LOG_FILE
        Supervisor(preview.slots, modules, log, config.sweep, measure_run).run(queue)
        starts = []
        for number, request in reversed(list(enumerate(requests))):  # of several processes, the first one counts
            model = models[number % len(models)]
            trial = Trial(number, request.fingerprint, (), (), folder=str(request.trial_folder))
            trial = trial.read_current_state(queue.reasons[request.id])
            summary, measurement = read_measurement(request.trial_folder)
            model.summary = summary or model.summary
            model.error = model.error if trial.status == FINISHED else trial.error
            model.measurement = measurement if model.error is None else None
            starts += [] if measurement is None else [measurement.start]
    return Builds(models, min(starts) - start if starts else 0.0)
