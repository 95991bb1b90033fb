"""A run that has been made, read back from its folder: configuration, metrics, model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.api.run import FINISHED, PRUNED, Result
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
    """One run as its record tells it. What takes time is read when it is first asked for.

    Attributes:
        id: the run's; name: what people read; folder: everything that it wrote.
        status: FINISHED, FAILED, KILLED or PRUNED; RUNNING while it goes on, INTERRUPTED where its process is gone.
        error: what went wrong, in one line; None where nothing did.
    """

    id: str
    name: str
    folder: Path
    status: str
    error: str | None

    @cached_property
    def config(self) -> RunConfig:
        """Its whole configuration, as the hooks had it; secrets are hidden."""
        return build_config(self._setup_record["config"])

    @cached_property
    def params(self) -> dict[str, Any]:
        """The same on one level, by dotted key, as trackers show it: `params["model.units"]`."""
        return dict(self._setup_record["params"])

    @cached_property
    def metrics(self) -> pandas.DataFrame:
        """Every logged value: a row per optimizer step, which is the index, and a column per metric.

        A metric that was not measured at a step is NaN there, so `metrics["val/loss"].dropna()` is its curve.
        """
        import pandas

        rows: dict[int, dict[str, float]] = {}
        for step, values in journal.read_points(self.folder / journal.NAME):
            rows.setdefault(step, {}).update(values)
        frame = pandas.DataFrame.from_dict(rows, orient="index").sort_index()
        return frame.rename_axis(index="step", columns="metric")

    @cached_property
    def model(self) -> SavedModel:
        """The trained model, which predicts from raw input: `model.predict(raw)`; imports the framework.

        Raises:
            NotFoundError: the run has none, since it did not come to its end.
            PluginError: a plugin that made it is not installed.
        """
        folder = self.folder / "model"
        if not folder.is_dir():
            if self.status in (FINISHED, PRUNED):
                raise NotFoundError(
                    f"run {self.id} is {self.status}, but its folder {folder} is missing; to make it again, as a new "
                    f"run: expfw runs rerun {self.id}"
                )
            raise NotFoundError(
                f"run {self.id} is {self.status} and has no model; a run saves it at its end. To go on with it: "
                f"expfw runs resume {self.id}"
            )
        with redirection.redirect_noise(Path(os.devnull)):
            return load_model(folder)

    @cached_property
    def _setup_record(self) -> journal.Record:
        """The last record that tells how the run was set up."""
        records, _ = journal.read_records(self.folder / journal.NAME)
        start_records = [record for record in records if record["kind"] in ("run_started", "run_resumed")]
        if not start_records or "config" not in start_records[-1]:
            raise JournalError(f"the run in {self.folder} was recorded by another version of expfw; it cannot be read")
        return start_records[-1]


def load(run: str | Path | Result, runs_dir: str | Path = "runs") -> RecordedRun:
    """A run that has been made.

    Args:
        run: its id, which may be shortened, its folder, or what `expfw.run` returned.
        runs_dir: the folder to look for an id in.

    Raises:
        NotFoundError: there is none, or more than one.
        JournalError: its record cannot be read.
    """
    folder = run.folder if isinstance(run, Result) else run if isinstance(run, Path) else None
    if folder is not None:
        entry = run_index.read_entry(folder)
    else:
        entry = run_index.find_run(Path(runs_dir), str(run), run_index.RUNS_DIR_HINT_IN_PYTHON)
    if entry.first["kind"] != "run_started":
        raise NotFoundError(f"{entry.folder} is a sweep; expfw.load_sweep reads it")
    return RecordedRun(entry.id, entry.name, entry.folder.absolute(), entry.status, entry.last.get("error"))
