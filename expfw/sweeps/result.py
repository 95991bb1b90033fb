"""Result of a sweep: table of its trials, and the best trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.api.run_config import RunConfig
from expfw.errors import NotFoundError
from expfw.plugins.trust import Trust, make_trust
from expfw.reports import sweep_summary
from expfw.reports.html.report import REPORT_NAME
from expfw.system.formatting import pluralize
from expfw.tracking import ranking, run_index
from expfw.tracking.ledger import Ledger, Trial
from expfw.tracking.recorded_run import RecordedRun, read_run

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class SweepResult:
    """Result of a sweep, or its current state while it runs.

    Attributes:
        id: ID of the sweep.
        folder: sweep folder with all files of the sweep and its trials.
        status: FINISHED if all trials are FINISHED or PRUNED, FAILED if not, KILLED if interrupted.
        trials: trials, by number.
        config: configuration shared by the trials; swept parameters have the values of the first trial.
        trust: code that may run, in addition to installed plugins, to use the model of `best`.
    """

    id: str
    folder: Path
    status: str
    trials: Sequence[Trial]
    config: RunConfig
    trust: Trust = field(default_factory=Trust, repr=False)

    @cached_property
    def table(self) -> pandas.DataFrame:
        """One row per trial, best objective first. The index is the trial number.

        Columns: the swept parameters, by dotted key; `objective`; `step` and `epoch` of the metrics; `status`;
        `seconds`; `run`, the run ID; `error`; every metric, see `Result.metrics`.
        """
        import pandas

        rows = {}
        groups = ranking.rank_seed_groups(self.trials, self.config.objective.mode)
        for trial in [trial for group in groups for trial in group.trials]:
            result: dict[str, Any] = {
                "objective": trial.objective,
                "step": trial.metrics_step,
                "epoch": trial.metrics_epoch,
            }
            result |= {"status": trial.status, "seconds": trial.seconds}
            rows[trial.number] = trial.values | result | {"run": trial.run_id, "error": trial.error}
            rows[trial.number] |= trial.metrics or {}
        return pandas.DataFrame(list(rows.values()), index=pandas.Index(list(rows), name="trial"))

    @cached_property
    def best(self) -> RecordedRun:
        """Run of the trial with the best objective among those with status FINISHED.

        Raises:
            NotFoundError: if no trial has finished.
        """
        best_trial = ranking.find_best_trial(self.trials, self.config.objective.mode)
        if best_trial is None or best_trial.folder is None:
            failures = sweep_summary.format_failures(self.trials)
            example = f" ({failures[0]})" if failures else ""
            raise NotFoundError(
                f"no trial of sweep {self.id} has finished{example}; the table of the sweep has the error of each trial"
            )
        return replace(read_run(Path(best_trial.folder).absolute()), trust=self.trust)

    @property
    def report(self) -> Path:
        """HTML report with tables and figures in one file; it needs no network."""
        return self.folder / REPORT_NAME

    def _repr_html_(self) -> str:
        """Returns the HTML for a notebook."""
        text = f"sweep {self.id}  {self.status}  {pluralize(len(self.trials), 'trial')}  {self.folder}"
        visible_table = self.table.dropna(axis="columns", how="all")
        return f"<p>{text}</p>{visible_table.to_html(max_rows=20)}"


def load_sweep(
    sweep_id: str | Path, runs_dir: str | Path = "runs", *, files: Sequence[str | Path] = (), trust: bool = False
) -> SweepResult:
    """Loads a recorded sweep, also while it runs.

    Args:
        sweep_id: ID of the sweep, which may be shortened, or its folder.
        runs_dir: runs folder to search for the ID.
        files: plugin files of the sweep, as for `load`.
        trust: whether to run the copies of plugin files in the folders of trials.

    Returns:
        The result of the sweep so far.

    Raises:
        NotFoundError: if no sweep or more than one sweep matches.
        JournalError: if its journal cannot be read.
    """
    entry = run_index.find_sweep(Path(runs_dir), str(sweep_id), run_index.RUNS_DIR_HINT_IN_PYTHON)
    trials = [trial.read_current_state() for trial in Ledger(entry.folder).read_trials()]
    return SweepResult(entry.id, entry.folder.absolute(), entry.status, trials, entry.config, make_trust(files, trust))
