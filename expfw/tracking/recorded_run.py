"""A run or sweep, read back from its folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.api.result import FAILED, FINISHED, PRUNED, Point, Result
from expfw.errors import ConfigError, JournalError, NotFoundError, RunsFolderError
from expfw.plugins.trust import Trust
from expfw.system import cpu, process_lock
from expfw.system.contained_paths import resolve_inside
from expfw.system.redirection import redact_file
from expfw.tracking import journal, run_folders
from expfw.tracking.environment import Environment, read_environment
from expfw.tracking.journal import Journal, Record

if TYPE_CHECKING:
    import pandas

    from expfw.api.run_config import Objective, RunConfig
    from expfw.tracking.saved_model import SavedModel

RUNNING, INTERRUPTED = "RUNNING", "INTERRUPTED"
DAMAGED = "DAMAGED"
"""Status of a folder without a readable journal."""


@dataclass(frozen=True)
class RecordedRun:
    """A run or sweep, read from its folder. All but the first and the last record is read on first access.

    Attributes:
        folder: run folder, with all files that the run wrote.
        first: first record of the journal.
        last: last record of the journal.
        status: FINISHED, FAILED, KILLED or PRUNED; RUNNING while it runs, INTERRUPTED if its process is dead.
        trust: code that may run, in addition to installed plugins, to use the model or to resume the run.
    """

    folder: Path
    first: Record = field(repr=False)
    last: Record = field(repr=False)
    status: str
    trust: Trust = field(default_factory=Trust, repr=False)

    @property
    def id(self) -> str:
        """Unique ID of the run."""
        return str(self.first["id"])

    @property
    def name(self) -> str:
        """Readable name."""
        return str(self.first["name"])

    @property
    def error(self) -> str | None:
        """One-line error; None if there was no error."""
        return self.last.get("error")

    @property
    def is_sweep(self) -> bool:
        return bool(self.first["kind"] == "sweep_started")

    @property
    def has_ended(self) -> bool:
        """Whether the last record is the end of the run or sweep, with its result."""
        return self.last["kind"] in journal.END_KINDS

    @property
    def runs_dir(self) -> Path:
        """Runs folder that contains this run."""
        return self.folder.parents[3 if self.folder.parent.name == "trials" else 1]

    @cached_property
    def records(self) -> list[Record]:
        """All records of the journal.

        Raises:
            JournalError: if the journal is damaged.
        """
        return journal.read_records(self.folder / journal.NAME)[0]

    def select(self, *kinds: str) -> list[Record]:
        """Returns the records of these kinds."""
        return [record for record in self.records if record["kind"] in kinds]

    @cached_property
    def starts(self) -> list[Record]:
        """Records of the start and of each resume, with the configuration."""
        return self.select("run_started", "run_resumed", "sweep_started", "sweep_resumed")

    @property
    def setup(self) -> Record:
        """Record of the last start or resume, with the configuration.

        Raises:
            JournalError: if it was recorded without a configuration.
        """
        if "config" not in self.starts[-1]:
            raise JournalError(f"cannot read the run in {self.folder}: it was recorded by another version of expfw")
        return self.starts[-1]

    @property
    def code(self) -> dict[str, str]:
        """Digests of the code of the plugins at the last start or resume."""
        return dict(self.setup["code"])

    @property
    def end_steps(self) -> Sequence[int]:
        """Steps at which the run had ended before it was trained longer."""
        return list(self.setup["ends"])

    @cached_property
    def config(self) -> RunConfig:
        """Complete configuration, as passed to the hooks; secrets are hidden."""
        from expfw.config.freeze import build_config

        try:
            return build_config(self.setup["config"])
        except ConfigError as error:
            raise JournalError(f"cannot read the configuration of the run in {self.folder}: {error}") from error

    @property
    def params(self) -> dict[str, Any]:
        """Flat configuration by dotted key, as in trackers: `params["model.units"]`."""
        return dict(self.setup["params"])

    @property
    def objective(self) -> Objective:
        """Objective of the run; its metric is the training loss if there is no validation data."""
        datasets = self.select("dataset")
        return self.config.choose_objective(datasets[0]["samples"])[0] if datasets else self.config.objective

    @cached_property
    def points(self) -> list[Point]:
        """All logged points, in the order in which they were logged."""
        return journal.select_points(self.records)

    @cached_property
    def metrics(self) -> pandas.DataFrame:
        """All logged values: one row per optimizer step (the index), one column per metric.

        A metric that was not logged at a step is NaN there, so `metrics["val/loss"].dropna()` is its curve.
        """
        import pandas

        rows: dict[int, dict[str, float]] = {}
        for point in self.points:
            rows.setdefault(point.step, {}).update(point.values)
        frame = pandas.DataFrame.from_dict(rows, orient="index").sort_index()
        return frame.rename_axis(index="step", columns="metric")

    @property
    def info(self) -> dict[str, Any]:
        """Information about devices and model, as recorded at the last start or resume."""
        return {name: value for record in self.select("info") for name, value in record["values"].items()}

    @cached_property
    def environment(self) -> Environment | None:
        """Environment at the first start: versions, machine, source code; None if it cannot be read."""
        return read_environment(self.folder / run_folders.ENVIRONMENT_FILE)

    @property
    def cores(self) -> int:
        """Number of CPU cores that the run could use."""
        recorded_cores = self.environment and self.environment.cpu.cores
        return recorded_cores or len(cpu.get_cores())

    @cached_property
    def result(self) -> Result:
        """Result of the run; of a run that has not ended, its result so far."""
        if self.has_ended:
            values: dict[str, Any] = {f.name: self.last.get(f.name) for f in fields(Result)}
            values |= {"run_id": self.id, "name": self.name, "folder": self.folder.absolute()}
            return Result(**values)
        from expfw.api.run import Run

        run = Run(self.id, self.name, self.folder, self.config, self.objective, journal.discard_record)
        for record in self.select("dataset"):
            run.steps_per_epoch = -(-record["samples"]["train"] // self.config.train.batch_size)
        for point in self.points:
            run.step = max(run.step, point.step)
            run.log(point.values, point.step)
        run.epoch = run.step // (run.steps_per_epoch or run.step + 1)
        return replace(run.result(self.status), seconds=time.time() - self.first["time"])

    @cached_property
    def model(self) -> SavedModel:
        """The trained model, which predicts from raw input: `model.predict(raw)`. Imports the framework on first use.

        Raises:
            NotFoundError: if the run has no saved model.
            TrustError: if it needs a plugin file that the user has not allowed to run.
        """
        from expfw.tracking.saved_model import read_model

        folder, option = resolve_inside(self.folder, "model"), run_folders.format_runs_dir_option(self.runs_dir)
        if not folder.is_dir():
            command = {FINISHED: "rerun", PRUNED: "rerun", RUNNING: "show", FAILED: "show"}.get(self.status, "resume")
            raise NotFoundError(
                f"run {self.id} is {self.status} and has no saved model {folder}, which a run writes at the end of its "
                f"training; try: expfw runs {command} {self.id}{option}"
            )
        return read_model(folder, self.trust, self.first["files"])


def read_run(folder: Path) -> RecordedRun:
    """Reads the run or sweep in `folder`; raises `JournalError` if its journal is missing or damaged."""
    first, last = journal.read_first_and_last(folder / journal.NAME)
    if first["kind"] not in ("run_started", "sweep_started"):
        raise JournalError(f"{folder / journal.NAME} does not begin with the start of a run")
    if last["kind"] in journal.END_KINDS:
        return RecordedRun(folder, first, last, status=str(last["status"]))
    last = {"kind": last["kind"], "time": last["time"]}  # other fields are those of a result only at the end
    return RecordedRun(folder, first, last, RUNNING if process_lock.has_live_process(folder) else INTERRUPTED)


def make_damaged_run(folder: Path) -> RecordedRun:
    """Returns the recorded run of a folder with an unreadable journal."""
    run_id, modified_at = folder.name.rpartition("-")[2], folder.stat().st_mtime
    first = {"kind": "run_started", "id": run_id, "name": folder.name, "time": modified_at, "tracker": {}, "files": {}}
    return RecordedRun(folder, first, {"kind": "damaged", "time": modified_at}, DAMAGED)


def record_death(folder: Path, error: str) -> None:
    """Ends the journal in `folder` with FAILED and the error, if the run has started but not ended.

    Trackers get this end like any other; the recorded metrics are kept. While a process is writing the run, nothing is
    written, because this process records the end.
    """
    with suppress(JournalError, RunsFolderError):
        if read_run(folder).status != INTERRUPTED:
            return
        with process_lock.lock_folder(folder):
            redact_file(folder / run_folders.LOG_FILE)  # native code may have written to it
            run = read_run(folder)
            if not run.has_ended:
                result = replace(run.result, status=FAILED, error=error)
                with Journal(folder / journal.NAME) as run_journal:
                    run_journal.write("run_ended", **make_end_record(result))


def make_end_record(result: Result) -> dict[str, Any]:
    """Returns the fields of the last record of a run."""
    return {f.name: getattr(result, f.name) for f in fields(result) if f.name not in ("run_id", "name", "folder")}
