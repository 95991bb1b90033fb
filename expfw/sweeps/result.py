"""What a sweep came to: its trials as a table, and the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.api.settings import RunConfig
from expfw.config.freeze import from_plain
from expfw.errors import JournalError, NotFoundError
from expfw.reports import tables
from expfw.reports.html.report import NAME
from expfw.runs.recorded_run import RecordedRun, load
from expfw.system.formatting import many
from expfw.tracking import ranking, run_index
from expfw.tracking.ledger import Ledger, Trial

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to, or has come to so far.

    Attributes:
        id: the sweep's; folder: everything that it and its trials wrote.
        status: FINISHED where every trial ended well (pruned ones too), else FAILED; KILLED when interrupted.
        trials: by number.
        config: what the trials share, with the values of the first one for the rest.
    """

    id: str
    folder: Path
    status: str
    trials: Sequence[Trial]
    config: RunConfig

    @cached_property
    def table(self) -> pandas.DataFrame:
        """A row per trial, best objective first, its number as the index.

        Columns: what was swept over, by dotted key; `objective`; `status`, `seconds`; `run`, the id of its run;
        and `error`; the last value of every metric.
        """
        import pandas

        rows = [_row(trial) for one in ranking.ranked(self.trials, self._mode) for trial in one.trials]
        numbers = [trial.number for one in ranking.ranked(self.trials, self._mode) for trial in one.trials]
        return pandas.DataFrame(rows, index=pandas.Index(numbers, name="trial"))

    @cached_property
    def best(self) -> RecordedRun:
        """The run of the best trial: of those that ended well, the one with the best objective.

        Raises:
            NotFoundError: no trial ended well.
        """
        found = ranking.best(self.trials, self._mode)
        if found is None or found.folder is None:
            failures = tables.failures(self.trials)
            said = f" ({failures[0]})" if failures else ""
            raise NotFoundError(f"no trial of sweep {self.id} ended well{said}; its table has an error for each")
        return load(Path(found.folder))

    @property
    def report(self) -> Path:
        """The HTML report: tables and figures in one file, which needs no network."""
        return self.folder / NAME

    @property
    def _mode(self) -> str:
        return self.config.objective.mode

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        text = f"sweep {self.id}  {self.status}  {many(len(self.trials), 'trial')}  {self.folder}"
        shown = self.table.dropna(axis="columns", how="all")
        return f"<p>{text}</p>{shown.to_html(max_rows=20)}"


def _row(trial: Trial) -> Mapping[str, Any]:
    about = {"objective": trial.objective, "status": trial.status, "seconds": trial.seconds, "run": trial.run_id}
    return {**trial.values, **about, "error": trial.error, **(trial.metrics or {})}


def load_sweep(sweep_id: str | Path, runs_dir: str | Path = "runs") -> SweepResult:
    """A sweep that was made, or goes on, as far as it has come.

    Args:
        sweep_id: its id, which may be shortened, or its folder.
        runs_dir: the folder to look for an id in.

    Raises:
        NotFoundError: there is none, or more than one.
        JournalError: its record cannot be read.
    """
    entry = run_index.find_sweep(Path(runs_dir), str(sweep_id), run_index.ELSEWHERE_IN_PYTHON)
    if "config" not in entry.first:
        raise JournalError(f"the sweep in {entry.folder} was recorded by another version of expfw; it cannot be read")
    trials = [trial.now() for trial in Ledger(entry.folder).trials()]
    return SweepResult(entry.id, entry.folder.absolute(), entry.status, trials, from_plain(entry.first["config"]))
