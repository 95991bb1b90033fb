"""Preview of a sweep: composes and checks its trials without starting or writing anything."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from expfw.api.result import FINISHED
from expfw.api.run_config import RunConfig
from expfw.config.compose import compose_sweep
from expfw.config.hydra_sweeper import ComposeFunction, Sweeper
from expfw.errors import ExpfwError, JournalError
from expfw.plugins.catalogue import Catalogue
from expfw.redaction import redact_overrides
from expfw.runs.request import Request
from expfw.sweeps.local.slots import Slot, make_slots
from expfw.sweeps.local.supervisor import list_server_modules
from expfw.sweeps.request import SweepRequest
from expfw.sweeps.search.configuration_source import Source
from expfw.tracking import run_index
from expfw.tracking.ledger import Trial
from expfw.tracking.recorded_run import RecordedRun

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

ProgressReport: TypeAlias = Callable[[int, int], Any]
"""Function that is called with the number of completed items and the total."""


@dataclass(frozen=True)
class PreviewRow:
    """A planned trial, with a request if it can run and otherwise with the reason why it cannot.

    `finished_run` has the same configuration and the status FINISHED; `same_as` is the number of an earlier trial of
    this sweep with the same configuration.
    """

    trial: Trial
    request: Request | None = None
    error: str | None = None
    finished_run: RecordedRun | None = None
    same_as: int | None = None


@dataclass(frozen=True)
class Preview:
    """A sweep before its start.

    Attributes:
        rows: planned trials; for a search, which selects values while it runs, only the first one.
        total: total number of trials.
        space: dimensions of the search space, see `Space.describe`; None if all trials are known.
        base_config: configuration shared by all trials.
        slots: one slot for each trial that runs at the same time.
        preload: modules that the fork server imports.
        start_error: reason why the sweep would start no trial although some could run, or None.
        same_sweep: newest sweep with the same overrides, or None.
        launcher: name of another launcher than expfw's, which selects machines and number of trials at a time, or None.
        command: command that starts the sweep; secrets in it are hidden.
    """

    rows: Sequence[PreviewRow]
    total: int
    space: Sequence[Mapping[str, Any]] | None
    base_config: RunConfig
    slots: Sequence[Slot]
    preload: Sequence[str]
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


def make_preview(
    overrides: Sequence[str],
    catalogue: Catalogue,
    config_name: str = "config",
    config_dir: str | None = None,
    report_progress: ProgressReport = lambda done, total: None,
) -> Preview:
    """Composes, freezes and checks every trial of these overrides, including its data.

    Raises:
        ExpfwError: if all trials have the same error.
    """

    def preview(parsed_overrides: Sequence[Override], compose: ComposeFunction, sweeper: Sweeper) -> Preview:
        sweep_request = SweepRequest(parsed_overrides, compose, catalogue, overrides)
        sweeper.check_launcher(sweep_request.options.sweep, sweep_request.overrides)
        try:
            base_run, start_error = sweep_request.prepare_first_run(), None
        except ExpfwError as error:  # a sweep would start no trial
            last_run = sweep_request.prepare_last_run()
            if last_run is None:  # most probably all trials have this error
                raise
            base_run, start_error = last_run, str(error)
        config, plugins, source = base_run.config, base_run.plugins, sweep_request.make_source(None)
        total = source.total * config.sweep.seeds
        redacted_overrides = redact_overrides(sweep_request.overrides)
        sweeps = run_index.list_sweeps(Path(config.runs_dir))
        return Preview(
            _make_rows(sweep_request, source, config, report_progress),
            total,
            sweep_request.space.describe() if source.can_repeat else None,
            config,
            make_slots(config.sweep.slots, config.sweep.gpus, plugins.backend.on_gpus),
            list_server_modules(plugins),
            start_error,
            next((sweep for sweep in sweeps if sweep.first.get("overrides") == redacted_overrides), None),
            sweeper.launcher,
            shlex.join([*command, *redacted_overrides, *redact_overrides(sweeper.hydra_overrides)]),
        )

    plugin_arguments = [argument for file in catalogue.files for argument in ("-p", file)]
    flags = {"--config-name": None if config_name == "config" else config_name, "--config-dir": config_dir}
    config_flags = [argument for flag, value in flags.items() if value for argument in (flag, value)]
    command = ["expfw", *plugin_arguments, "sweep", *config_flags]
    return compose_sweep(overrides, catalogue, preview, config_name, config_dir)


def _make_rows(
    sweep_request: SweepRequest, source: Source, base_config: RunConfig, report_progress: ProgressReport
) -> list[PreviewRow]:
    rows = []
    total = 1 if source.can_repeat else source.total * base_config.sweep.seeds
    finished_runs = {} if source.can_repeat else find_finished_runs(Path(base_config.runs_dir))
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
        rows.append(PreviewRow(trial, request, None, finished_runs.get(request.fingerprint), same_as))
    return rows


def find_finished_runs(runs_dir: Path) -> dict[str, RecordedRun]:
    """Returns the newest FINISHED run for each fingerprint: single runs and trials of all sweeps."""
    runs_by_fingerprint: dict[str, RecordedRun] = {}
    for run in run_index.list_runs(runs_dir):
        is_resumed = any(run.folder.glob("overrides-*.yaml"))  # then it may have been trained longer
        with suppress(JournalError):
            if run.status == FINISHED:
                runs_by_fingerprint.setdefault((run.setup if is_resumed else run.first).get("fingerprint", ""), run)
    return runs_by_fingerprint
