"""Report of a sweep: one HTML file in the sweep folder that needs no network."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from expfw.api.result import FINISHED, PRUNED
from expfw.reports.html import charts, page, sections
from expfw.reports.html.charts import TrialObjectives
from expfw.reports.html.importance import compute_importance
from expfw.reports.html.page import SweepSummary
from expfw.reports.html.parameters import collect_parameters
from expfw.reports.html.sections import Overview
from expfw.reports.tables import make_best_command
from expfw.system import atomic_files
from expfw.tracking import journal, run_folders
from expfw.tracking.ledger import Trial
from expfw.tracking.ranking import find_best_trial, make_sort_key

log = logging.getLogger("expfw")
REPORT_NAME = "report.html"


def try_write_report(
    sweep_folder: Path, trials: Sequence[Trial], status: str, add_artifact: Callable[[Path], None]
) -> None:
    """Writes the report and passes it to `add_artifact`; if this fails, logs a warning and returns."""
    try:
        add_artifact(write_report(sweep_folder, trials, status))
    except Exception as error:
        log.warning("cannot write the report of the sweep: %s: %s", type(error).__name__, error)


def write_report(sweep_folder: Path, trials: Sequence[Trial], status: str) -> Path:
    """Writes `report.html` atomically and replaces an older one.

    Args:
        sweep_folder: sweep folder.
        trials: all trials, sorted by number.
        status: status of the sweep.

    Returns:
        Path of the report.

    Raises:
        JournalError: if the journal of the sweep cannot be read.
        OSError: if the file cannot be written.
    """
    path = sweep_folder / REPORT_NAME
    atomic_files.write_bytes(path, render_report(sweep_folder, trials, status).encode("utf-8", "replace"))
    return path


def render_report(sweep_folder: Path, trials: Sequence[Trial], status: str) -> str:
    """Returns the text of the report; trials with unreadable journals have no curves."""
    summary = read_sweep_summary(sweep_folder, trials, status)
    overview = _make_overview(sweep_folder, trials, summary)
    report_sections = [
        sections.render_configurations(overview),
        sections.render_trials(overview),
        sections.render_parallel_coordinates(overview),
        sections.render_objective_against(overview),
        sections.render_learning_curves(overview),
        sections.render_importance(overview),
        sections.render_failures(overview),
    ]
    header_html = page.render_header(summary, trials, make_best_command(trials, summary.mode, summary.plugin_arguments))
    command = f"expfw sweeps report {summary.id}{run_folders.format_runs_dir_option(sweep_folder.parent.parent)}"
    body = [header_html, *(section.html for section in report_sections), page.render_footer(command)]
    figures = {name: figure for section in report_sections for name, figure in section.figures.items()}
    return page.render_page(f"{summary.name} · sweep {summary.id}", body, figures, charts.make_hover_texts(trials))


def read_sweep_summary(sweep_folder: Path, trials: Sequence[Trial], status: str) -> SweepSummary:
    """Reads the summary of a sweep from its journal."""
    records, _ = journal.read_records(sweep_folder / journal.NAME)
    start_records = [record for record in records if record["kind"] in ("sweep_started", "sweep_resumed")]
    resume_record_ids = {id(start_record) for start_record in start_records[1:]}
    spans = [
        later["time"] - r["time"] for r, later in itertools.pairwise(records) if id(later) not in resume_record_ids
    ]
    objective = start_records[-1]["objective"]
    return SweepSummary(
        id=str(start_records[0]["id"]),
        name=str(start_records[0]["name"]) or "sweep",
        status=status,
        overrides=start_records[-1]["overrides"],
        plugin_arguments=[*start_records[-1]["files"], *start_records[-1].get("disabled", [])],
        metric=next((t.objective_metric for t in trials if t.objective_metric), str(objective["metric"])),
        mode=str(objective["mode"]),
        planned_trials=int(start_records[-1]["trials"]),
        start_time=float(start_records[0]["time"]),
        seconds=float(sum(spans)),
    )


def _make_overview(sweep_folder: Path, trials: Sequence[Trial], summary: SweepSummary) -> Overview:
    best_trial, parameters = find_best_trial(trials, summary.mode), collect_parameters(trials)
    objectives = [trial.objective if trial.status in (FINISHED, PRUNED) else None for trial in trials]
    rows = [row for row, value in enumerate(objectives) if value is not None and math.isfinite(value)]
    trial_objectives = TrialObjectives(
        trials=[trials[row] for row in rows],
        rows=rows,
        values=[value for value in objectives if value is not None and math.isfinite(value)],
        metric=summary.metric,
        mode=summary.mode,
        best_number=None if best_trial is None else best_trial.number,
    )
    return Overview(
        folder=sweep_folder,
        metric=summary.metric,
        mode=summary.mode,
        trials=trials,
        ranked_rows=sort_best_first(trials, summary.mode),
        parameters=parameters,
        importances=compute_importance(parameters, objectives, summary.mode),
        objectives=trial_objectives,
    )


def sort_best_first(trials: Sequence[Trial], mode: str) -> list[int]:
    """Returns the indices of the trials, best objective first; trials without an objective last."""
    return sorted(range(len(trials)), key=lambda row: make_sort_key(trials[row].objective, mode))
