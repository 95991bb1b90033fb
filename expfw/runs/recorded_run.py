"""A recorded run, read from its run folder: configuration, metrics, model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.api.result import FINISHED, PRUNED, Result
from expfw.api.run_config import RunConfig
from expfw.config.freeze import build_config
from expfw.errors import JournalError, NotFoundError
from expfw.runs.saved_model import SavedModel, load_model
from expfw.system import redirection
from expfw.tracking import journal, run_index

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class RecordedRun:
    """A run read from its run folder. `config`, `params`, `metrics` and `model` are read on first access.

    Attributes:
        id: unique ID of the run.
        name: readable name.
        folder: run folder, with all files that the run wrote.
        status: FINISHED, FAILED, KILLED or PRUNED; RUNNING while it runs, INTERRUPTED if its process is dead.
        error: one-line error; None if there was no error.
    """

    id: str
    name: str
    folder: Path
    status: str
    error: str | None

    @cached_property
    def config(self) -> RunConfig:
        """Complete configuration, as passed to the hooks; secrets are hidden."""
        return build_config(self._setup_record["config"])

    @cached_property
    def params(self) -> dict[str, Any]:
        """Flat configuration by dotted key, as in trackers: `params["model.units"]`."""
        return dict(self._setup_record["params"])

    @cached_property
    def metrics(self) -> pandas.DataFrame:
        """All logged values: one row per optimizer step (the index), one column per metric.

        A metric that was not logged at a step is NaN there, so `metrics["val/loss"].dropna()` is its curve.
        """
        import pandas

        rows: dict[int, dict[str, float]] = {}
        for step, values in journal.read_points(self.folder / journal.NAME):
            rows.setdefault(step, {}).update(values)
        frame = pandas.DataFrame.from_dict(rows, orient="index").sort_index()
        return frame.rename_axis(index="step", columns="metric")

    @cached_property
    def model(self) -> SavedModel:
        """The trained model, which predicts from raw input: `model.predict(raw)`. Imports the framework.

        Raises:
            NotFoundError: if the run has no saved model.
            PluginError: if a plugin of the model is not installed.
        """
        folder = self.folder / "model"
        if not folder.is_dir():
            if self.status in (FINISHED, PRUNED):
                raise NotFoundError(
                    f"run {self.id} is {self.status}, but its folder {folder} is missing; to train it again as a new "
                    f"run: expfw runs rerun {self.id}"
                )
            raise NotFoundError(
                f"run {self.id} is {self.status} and has no model; a run saves its model at the end; to resume: "
                f"expfw runs resume {self.id}"
            )
        with redirection.redirect_noise(Path(os.devnull)):
            return load_model(folder)

    @cached_property
    def _setup_record(self) -> journal.Record:
        """Last record with the configuration: `run_started` or `run_resumed`."""
        records, _ = journal.read_records(self.folder / journal.NAME)
        start_records = [record for record in records if record["kind"] in ("run_started", "run_resumed")]
        if not start_records or "config" not in start_records[-1]:
            raise JournalError(f"cannot read the run in {self.folder}: it was recorded by another version of expfw")
        return start_records[-1]


def load(run: str | Path | Result, runs_dir: str | Path = "runs") -> RecordedRun:
    """Loads a recorded run.

    Args:
        run: ID or prefix of the ID, run folder, or the result of `expfw.run`.
        runs_dir: runs folder to search for an ID.

    Raises:
        NotFoundError: if no run or several runs match.
        JournalError: if its journal cannot be read.
    """
    folder = run.folder if isinstance(run, Result) else run if isinstance(run, Path) else None
    if folder is not None:
        entry = run_index.read_entry(folder)
    else:
        entry = run_index.find_run(Path(runs_dir), str(run), run_index.RUNS_DIR_HINT_IN_PYTHON)
    if entry.first["kind"] != "run_started":
        raise NotFoundError(f"{entry.folder} is a sweep; load it with expfw.load_sweep")
    return RecordedRun(entry.id, entry.name, entry.folder.absolute(), entry.status, entry.last.get("error"))
