"""Preview of a sweep: composes and checks its trials without starting or writing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from expfw.api.result import FINISHED
from expfw.api.run_config import RunConfig
from expfw.config import third_party_launchers
from expfw.config.compose import compose_sweep
from expfw.config.hydra_sweeper import Sweeper
from expfw.errors import ConfigError, ExpfwError, JournalError
from expfw.plugins.catalogue import Catalogue
from expfw.redaction import redact_overrides
from expfw.runs.request import PreparedRun, Request
from expfw.sweeps.local.slots import Slot, make_slots
from expfw.sweeps.local.supervisor import list_server_modules
from expfw.sweeps.request import ComposeFunction, SweepRequest
from expfw.sweeps.scheduler import make_trial
from expfw.tracking import journal, run_index
from expfw.tracking.ledger import Trial
from expfw.tracking.ranking import add_seed
from expfw.tracking.run_index import IndexEntry

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

ProgressIterator: TypeAlias = Callable[[Sequence[int]], Iterable[int]]


class SearchedDimension(Protocol):
    """A dimension of the search space, as the source of a sweep describes it.

    Attributes:
        name: name, unique in its space.
        kind: "values", "float" or "int".
        low: smallest value of a float or an int.
        high: largest value of a float or an int.
        log: whether a float or an int is sampled on a log scale.
        values: values of a dimension of kind "values".
        condition: condition for the dimension, such as `model=cnn`; empty if it has none.
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def log(self) -> bool: ...
    @property
    def values(self) -> Sequence[str]: ...
    @property
    def condition(self) -> str: ...


@dataclass(frozen=True)
class PreviewRow:
    """A planned trial.

    Attributes:
        trial: trial, with its overrides.
        request: request to run the trial; None if it cannot run.
        error: reason why the trial cannot run, or None.
        finished_run: run with the same configuration and status FINISHED, or None.
        same_as: number of an earlier trial of this sweep with the same configuration, or None.
    """

    trial: Trial
    request: Request | None = None
    error: str | None = None
    finished_run: IndexEntry | None = None
    same_as: int | None = None


@dataclass(frozen=True)
class Preview:
    """A sweep before its start.

    Attributes:
        rows: planned trials; for a search, which selects values while it runs, only the first one.
        total: total number of trials.
        space: dimensions of the search space; None if all trials are known.
        base_config: configuration shared by all trials.
        slots: one slot for each trial that runs at the same time.
        preload: modules that the fork server imports.
        start_error: reason why the sweep would start no trial although some could run, or None.
        same_sweep: newest sweep with the same overrides, or None.
        overrides: overrides of the sweep.
        hydra_overrides: overrides for Hydra itself.
        launcher: name of a third-party launcher, which selects the machines and the number of trials at a time; None
            for expfw's launcher.
        config_flags: flags for the root configuration, such as `--config-name`.
        plugin_files: plugin files from `-p`.
    """

    rows: Sequence[PreviewRow]
    total: int
    space: Sequence[SearchedDimension] | None
    base_config: RunConfig
    slots: Sequence[Slot]
    preload: Sequence[str]
    start_error: str | None
    same_sweep: IndexEntry | None
    overrides: Sequence[str]
    hydra_overrides: Sequence[str]
    launcher: str | None
    config_flags: Sequence[str]
    plugin_files: tuple[str, ...]

    @property
    def runnable_rows(self) -> list[PreviewRow]:
        """Trials that can run."""
        return [row for row in self.rows if row.request is not None]


def make_preview(
    overrides: Sequence[str],
    catalogue: Catalogue,
    config_name: str | None = None,
    config_dir: str | None = None,
    track_progress: ProgressIterator = lambda numbers: numbers,
) -> Preview:
    """Composes, freezes and checks every trial of these overrides, including its data.

    Args:
        overrides: overrides of the sweep.
        catalogue: available plugins.
        config_name: name of the root configuration; None for the default.
        config_dir: additional folder of configuration files, or None.
        track_progress: wraps the iterator over the trial numbers, to show progress.

    Raises:
        ExpfwError: if all trials have the same error.
    """
    flags = {"--config-name": config_name, "--config-dir": config_dir}
    task = _Task(
        overrides,
        catalogue,
        track_progress,
        [argument for flag, value in flags.items() if value for argument in (flag, value)],
    )
    compose_sweep(overrides, catalogue, task, config_name or "config", config_dir)
    assert task.result is not None
    return task.result


@dataclass
class _Task:
    """Task function for Hydra; our sweeper calls `run` with the parsed overrides."""

    overrides: Sequence[str]
    catalogue: Catalogue
    track_progress: ProgressIterator
    config_flags: Sequence[str]
    result: Preview | None = None

    def run(self, parsed_overrides: Sequence[Override], compose: ComposeFunction, sweeper: Sweeper) -> None:
        """Makes the preview."""
        sweep_request = SweepRequest(parsed_overrides, compose, self.catalogue, self.overrides)
        if sweeper.has_other_launcher:
            third_party_launchers.check_launcher(
                sweeper.launcher_name, sweeper.launcher_options, sweep_request.settings, sweep_request.overrides
            )
        source = sweep_request.make_source(None)
        base_run, start_error = _prepare_base_run(sweep_request)
        base_config, plugins = base_run.config, base_run.plugins
        space = _get_search_space(source)
        total = source.total * base_config.sweep.seeds
        runs_by_fingerprint = {} if space is not None else find_finished_runs(Path(base_config.runs_dir))
        rows: list[PreviewRow] = []
        numbers_by_fingerprint: dict[str, int] = {}
        for number in self.track_progress(range(total) if space is None else range(1)):
            configuration, repeat = divmod(number, base_config.sweep.seeds)
            overrides = add_seed(source.propose(configuration), base_config, repeat)
            rows.append(
                _make_row(sweep_request, base_config, number, overrides, runs_by_fingerprint, numbers_by_fingerprint)
            )
        self.result = Preview(
            rows,
            total,
            space,
            base_config,
            make_slots(base_config.sweep.slots, base_config.sweep.gpus, plugins.backend.on_gpus),
            list_server_modules(plugins),
            start_error,
            find_same_sweep(Path(base_config.runs_dir), sweep_request.overrides),
            sweep_request.overrides,
            sweeper.hydra_overrides,
            sweeper.launcher_name if sweeper.has_other_launcher else None,
            self.config_flags,
            self.catalogue.files,
        )

    def __call__(self, config: DictConfig) -> Any:
        raise ConfigError("this launcher cannot run expfw trials; use hydra/launcher=expfw")


def _prepare_base_run(sweep_request: SweepRequest) -> tuple[PreparedRun, str | None]:
    """Returns a run that represents all trials, and the reason why a sweep would start none of them, or None.

    If the first trial has an error, a sweep starts no trial. If the last trial has an error too, most probably all
    trials have it, and it is raised.
    """
    try:
        return sweep_request.prepare_first_run(), None
    except ExpfwError as error:
        if (last := sweep_request.prepare_last_run()) is None:
            raise
        return last, str(error)


def _get_search_space(source: Any) -> Sequence[SearchedDimension] | None:
    """Returns the dimensions of a search; None for a grid, even with a pruner: all its trials are known."""
    if getattr(source, "sampler", "grid") == "grid":
        return None
    dimensions: Sequence[SearchedDimension] = source.describe()
    return dimensions


def _make_row(
    sweep_request: SweepRequest,
    base_config: RunConfig,
    number: int,
    overrides: Sequence[str],
    runs_by_fingerprint: dict[str, IndexEntry],
    numbers_by_fingerprint: dict[str, int],
) -> PreviewRow:
    """Returns a planned trial and adds it to `numbers_by_fingerprint`, the numbers of the trials so far."""
    trial = make_trial(number, overrides, sweep_request.swept_keys, base_config.sweep.seeds)
    try:
        request = sweep_request.make_trial_request(base_config, overrides)
    except ExpfwError as error:
        return PreviewRow(trial, error=str(error))
    first_number = numbers_by_fingerprint.setdefault(request.fingerprint, number)
    return PreviewRow(
        Trial(**{**vars(trial), "fingerprint": request.fingerprint}),
        request,
        finished_run=runs_by_fingerprint.get(request.fingerprint),
        same_as=None if first_number == number else first_number,
    )


def find_finished_runs(runs_dir: Path) -> dict[str, IndexEntry]:
    """Returns the newest FINISHED run for each fingerprint: single runs and trials of all sweeps."""
    runs_by_fingerprint: dict[str, IndexEntry] = {}
    for entry in run_index.list_runs(runs_dir):
        if entry.status == FINISHED and (fingerprint := _get_fingerprint(entry)) is not None:
            runs_by_fingerprint.setdefault(fingerprint, entry)
    return runs_by_fingerprint


def _get_fingerprint(entry: IndexEntry) -> str | None:
    """Returns the fingerprint of the run's last configuration; a resumed run may have been trained longer."""
    if not any(entry.folder.glob("overrides-*.yaml")):
        return entry.first.get("fingerprint")
    try:
        records, _ = journal.read_records(entry.folder / journal.NAME)
    except JournalError:
        return None
    fingerprints: list[str | None] = [
        r.get("fingerprint") for r in records if r["kind"] in ("run_started", "run_resumed")
    ]
    return fingerprints[-1]


def find_same_sweep(runs_dir: Path, overrides: Sequence[str]) -> IndexEntry | None:
    """Returns the newest sweep with these overrides, or None."""
    redacted_overrides = redact_overrides(overrides)
    return next(
        (entry for entry in run_index.list_sweeps(runs_dir) if entry.first.get("overrides") == redacted_overrides), None
    )
