"""Preview of a sweep: composes and checks its trials without starting or writing anything."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from expfw.api.result import FINISHED
from expfw.api.run_config import RunConfig
from expfw.config.compose import Composition
from expfw.config.freeze import drop_code
from expfw.errors import ExpfwError, JournalError
from expfw.redaction import redact_overrides
from expfw.runs.request import PreparedRun, Request
from expfw.sweeps.local.slots import Slot, make_slots
from expfw.sweeps.request import SweepRequest
from expfw.sweeps.search.configuration_source import Source
from expfw.tracking import run_index
from expfw.tracking.ledger import Trial
from expfw.tracking.recorded_run import RecordedRun

ProgressReport: TypeAlias = Callable[[int, int], Any]
"""Function that is called with the number of completed items and the total."""


@dataclass(frozen=True)
class PreviewRow:
    """A planned trial, with a request if it can run and otherwise with the reason why it cannot.

    `finished_run` has the same fingerprint and the status FINISHED; `outdated_run` likewise, but with other code of its
    plugins, or none in its record. `same_as` is the number of an earlier trial of this sweep with the same fingerprint.
    """

    trial: Trial
    request: Request | None = None
    error: str | None = None
    finished_run: RecordedRun | None = None
    outdated_run: RecordedRun | None = None
    same_as: int | None = None


@dataclass(frozen=True)
class Preview:
    """A sweep before its start.

    Attributes:
        rows: planned trials; for a search, which selects values while it runs, only the first one.
        space: dimensions of the search space, see `Space.describe`; None if all trials are known.
        base_run: the first run that can start; all trials share its configuration, except for the swept parameters.
        slots: one slot for each trial that runs at the same time.
        start_error: reason why the sweep would start no trial although some could run, or None.
        same_sweep: newest sweep with the same overrides, or None.
        launcher: name of another launcher than expfw's, which selects machines and number of trials at a time, or None.
        command: command that starts the sweep; secrets in it are hidden.
    """

    rows: Sequence[PreviewRow]
    total: int
    space: Sequence[Mapping[str, Any]] | None
    base_run: PreparedRun
    slots: Sequence[Slot]
    start_error: str | None
    same_sweep: RecordedRun | None
    launcher: str | None
    command: str

    @property
    def invalid_rows(self) -> list[PreviewRow]:
        """Trials that cannot run."""
        return [row for row in self.rows if row.error is not None]

    @property
    def done_rows(self) -> list[PreviewRow]:
        """Trials whose configuration has a finished run."""
        return [row for row in self.rows if row.finished_run is not None]


def make_preview(composition: Composition, report_progress: ProgressReport = lambda done, total: None) -> Preview:
    """Composes and checks every trial of these overrides, including its data; raises an error that all trials have."""
    plugin_arguments = composition.catalogue.plugin_arguments
    command = ["expfw", *(word for argument in plugin_arguments for word in ("-p", argument)), "sweep"]
    command += [] if composition.config_name == "config" else ["--config-name", composition.config_name]
    command += ["--config-dir", composition.config_dir] if composition.config_dir else []
    with composition.open_sweep() as sweep_composition:
        sweep_request = SweepRequest(sweep_composition)
        try:
            base_run, start_error = sweep_request.prepare_first_run(), None
        except ExpfwError as error:  # a sweep would start no trial
            last_run = sweep_request.prepare_last_run()
            if last_run is None:  # most probably all trials have this error
                raise
            base_run, start_error = last_run, str(error)
        config, source = base_run.config, sweep_request.make_source(None)
        redacted_overrides = redact_overrides(sweep_composition.overrides)
        sweeps = run_index.list_sweeps(Path(config.runs_dir))
        return Preview(
            _make_rows(sweep_request, source, config, report_progress),
            source.total * config.sweep.seeds,
            sweep_request.space.describe() if source.can_repeat else None,
            base_run,
            make_slots(config.sweep.slots, config.sweep.gpus, base_run.plugins.backend.on_gpus),
            start_error,
            next((sweep for sweep in sweeps if sweep.first.get("overrides") == redacted_overrides), None),
            sweep_composition.launcher,
            shlex.join([*command, *redacted_overrides, *redact_overrides(sweep_composition.hydra_overrides)]),
        )


def _make_rows(
    sweep_request: SweepRequest, source: Source, base_config: RunConfig, report_progress: ProgressReport
) -> list[PreviewRow]:
    rows = []
    total = 1 if source.can_repeat else source.total * base_config.sweep.seeds
    finished_runs = {} if source.can_repeat else _find_finished_runs(Path(base_config.runs_dir))
    numbers_by_fingerprint: dict[str, int] = {}
    for number in range(total):
        report_progress(number, total)
        trial, overrides = sweep_request.propose_trial(number, source, base_config)
        try:
            request = sweep_request.make_trial_request(base_config, overrides)
        except ExpfwError as error:
            rows.append(PreviewRow(trial, error=str(error)))
            continue
        trial = dataclasses.replace(trial, fingerprint=request.fingerprint)
        first_number = numbers_by_fingerprint.setdefault(request.fingerprint, number)
        same_as = None if first_number == number else first_number
        finished_run = finished_runs.get(request.fingerprint)
        outdated_run = None if finished_run else finished_runs.get(drop_code(request.fingerprint))
        rows.append(PreviewRow(trial, request, None, finished_run, outdated_run, same_as))
    return rows


def _find_finished_runs(runs_dir: Path) -> dict[str, RecordedRun]:
    """Returns the newest FINISHED run for each fingerprint, with and without code: single runs and trials of sweeps."""
    runs_by_fingerprint: dict[str, RecordedRun] = {}
    for run in run_index.list_runs(runs_dir):
        is_resumed = any(run.folder.glob("overrides-*.yaml"))  # then it may have been trained longer
        with suppress(JournalError):
            if run.status == FINISHED:
                fingerprint = (run.setup if is_resumed else run.first).get("fingerprint", "")
                for key in (fingerprint, drop_code(fingerprint)):
                    runs_by_fingerprint.setdefault(key, run)
    return runs_by_fingerprint
