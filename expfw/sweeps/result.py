"""What a sweep came to: its trials as a table, and the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.api.run_config import RunConfig
from expfw.config.freeze import build_config
from expfw.errors import JournalError, NotFoundError
from expfw.reports import tables
from expfw.reports.html.report import REPORT_NAME
from expfw.runs.recorded_run import RecordedRun, load
from expfw.system.formatting import pluralize
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

        rows = [
            _make_row(trial)
            for seed_group in ranking.rank_seed_groups(self.trials, self._mode)
            for trial in seed_group.trials
        ]
        numbers = [
            trial.number
            for seed_group in ranking.rank_seed_groups(self.trials, self._mode)
            for trial in seed_group.trials
        ]
        return pandas.DataFrame(rows, index=pandas.Index(numbers, name="trial"))

    @cached_property
    def best(self) -> RecordedRun:
        """The run of the best trial: of those that ended well, the one with the best objective.

        Raises:
            NotFoundError: no trial ended well.
        """
        best_trial = ranking.find_best_trial(self.trials, self._mode)
        if best_trial is None or best_trial.folder is None:
            failures = tables.format_failures(self.trials)
            example = f" ({failures[0]})" if failures else ""
            raise NotFoundError(f"no trial of sweep {self.id} ended well{example}; its table has an error for each")
        return load(Path(best_trial.folder))

    @property
    def report(self) -> Path:
        """The HTML report: tables and figures in one file, which needs no network."""
        return self.folder / REPORT_NAME

    @property
    def _mode(self) -> str:
        return self.config.objective.mode

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        text = f"sweep {self.id}  {self.status}  {pluralize(len(self.trials), 'trial')}  {self.folder}"
        visible_table = self.table.dropna(axis="columns", how="all")
        return f"<p>{text}</p>{visible_table.to_html(max_rows=20)}"


def _make_row(trial: Trial) -> Mapping[str, Any]:
    fields = {"objective": trial.objective, "status": trial.status, "seconds": trial.seconds, "run": trial.run_id}
    return {**trial.values, **fields, "error": trial.error, **(trial.metrics or {})}


def load_sweep(sweep_id: str | Path, runs_dir: str | Path = "runs") -> SweepResult:
    """A sweep that was made, or goes on, as far as it has come.

    Args:
        sweep_id: its id, which may be shortened, or its folder.
        runs_dir: the folder to look for an id in.

    Raises:
        NotFoundError: there is none, or more than one.
        JournalError: its record cannot be read.
    """
    entry = run_index.find_sweep(Path(runs_dir), str(sweep_id), run_index.RUNS_DIR_HINT_IN_PYTHON)
    if "config" not in entry.first:
        raise JournalError(f"the sweep in {entry.folder} was recorded by another version of expfw; it cannot be read")
    trials = [trial.read_current_state() for trial in Ledger(entry.folder).read_trials()]
    return SweepResult(entry.id, entry.folder.absolute(), entry.status, trials, build_config(entry.first["config"]))
