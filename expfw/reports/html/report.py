"""Report of a sweep: one HTML file in the sweep folder that needs no network."""

from __future__ import annotations

import itertools
import logging
import math
import shlex
import time
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from expfw.api.result import FAILED, FINISHED, KILLED, PRUNED
from expfw.reports.html import figures
from expfw.reports.html.importance import MIN_TRIALS, compute_importance
from expfw.reports.html.page import Page
from expfw.reports.html.parameters import Parameter, collect_parameters
from expfw.reports.sweep_summary import make_best_command, make_trials_table
from expfw.reports.table import Column, Table
from expfw.system import atomic_files
from expfw.system.formatting import format_duration, format_number, pluralize
from expfw.tracking import ranking, run_folders
from expfw.tracking.ledger import Trial
from expfw.tracking.recorded_run import INTERRUPTED, RecordedRun, read_run

log = logging.getLogger("expfw")
REPORT_NAME = "report.html"
_MAX_AXES = 12
_MAX_AGAINST_FIGURES = 24


def try_write_report(
    sweep_folder: Path, trials: Sequence[Trial], status: str, add_artifact: Callable[[Path], None]
) -> None:
    """Writes the report and passes it to `add_artifact`; if this fails, logs a warning and returns."""
    try:
        add_artifact(write_report(sweep_folder, trials, status))
    except Exception as error:
        log.warning("cannot write the report of the sweep: %s: %s", type(error).__name__, error)


def write_report(sweep_folder: Path, trials: Sequence[Trial], status: str) -> Path:
    """Writes `report.html` atomically and returns its path; trials with unreadable journals have no curves."""
    sweep = read_run(sweep_folder)
    report = _Report(sweep, trials)
    report.add_header(status)
    report.add_commands()
    report.add_configurations()
    report.add_trials()
    report.add_parallel_coordinates()
    report.add_objective_against()
    report.add_learning_curves()
    report.add_importance()
    report.add_failures()
    report.page.add_footer(f"expfw sweeps report {sweep.id}{run_folders.format_runs_dir_option(sweep.runs_dir)}")
    path = sweep_folder / REPORT_NAME
    atomic_files.write_bytes(path, report.page.render().encode("utf-8", "replace"))
    return path


class _Report:
    """The page of a sweep, and the data of all its sections.

    Attributes:
        trials: all trials, by number.
        metric: name of the objective metric of the trials.
        best_number: number of the best trial, or None.
        ranked_trials: all trials, best objective first.
        scored_trials: trials with a finite objective, which the figures show.
        objectives: objective of each scored trial.
        importances: swept parameters of the scored trials with their importance, most important first.
    """

    def __init__(self, sweep: RecordedRun, trials: Sequence[Trial]) -> None:
        self.sweep, self.trials, self.start = sweep, trials, sweep.starts[-1]
        objective = self.start["objective"]
        self.mode = str(objective["mode"])
        self.metric = next((t.objective_metric for t in trials if t.objective_metric), str(objective["metric"]))
        best_trial = ranking.find_best_trial(trials, self.mode)
        self.best_number = None if best_trial is None else best_trial.number
        self.ranked_trials = sorted(trials, key=lambda trial: ranking.make_sort_key(trial.objective, self.mode))
        scores = [
            (trial, trial.objective)
            for trial in trials
            if trial.status in (FINISHED, PRUNED) and trial.objective is not None and math.isfinite(trial.objective)
        ]
        self.scored_trials, self.objectives = [trial for trial, _ in scores], [value for _, value in scores]
        self.importances = compute_importance(collect_parameters(self.scored_trials), self.objectives)
        hover_texts = {
            trial.number: figures.make_hover_text(
                f"trial {trial.number}  {trial.status}",
                trial.name.split(" ")[:12],
                trial.objective_metric,
                trial.objective,
            )
            for trial in trials
        }
        self.page = Page(f"{sweep.name or 'sweep'} · sweep {sweep.id}", hover_texts)

    def add_header(self, status: str) -> None:
        """Adds the name, and a summary of the sweep."""
        sweep = self.sweep
        ended_count = sum(trial.has_result for trial in self.trials)
        counts = Counter(trial.status.lower() for trial in self.trials if trial.status != FINISHED)
        count_texts = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        # The time of an interruption, which ends with a resume, does not count.
        pairs = [pair for pair in itertools.pairwise(sweep.records) if pair[1]["kind"] != "sweep_resumed"]
        descriptions = {
            "Status": status,
            "Trials": f"{ended_count} of {self.start['trials']}{f' ({count_texts})' if count_texts else ''}",
            "Objective": f"{self.metric}, {'lower' if self.mode == 'min' else 'higher'} is better",
            "Started": time.strftime("%Y-%m-%d %H:%M", time.localtime(sweep.first["time"])),
            "Duration": format_duration(sum(after["time"] - before["time"] for before, after in pairs)),
        }
        items = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in descriptions.items())
        heading = f'<h1>{escape(sweep.name or "sweep")}</h1><p class="quiet">sweep {escape(sweep.id)}</p>'
        self.page.html.append(f'<header>{heading}<dl class="summary">{items}</dl></header>')

    def add_commands(self) -> None:
        """Adds the commands that repeat the best trial and the sweep."""
        plugin_arguments = [*self.start["files"], *self.start.get("disabled", [])]
        options = [argument for file in plugin_arguments for argument in ("-p", file)]
        best_command = make_best_command(self.trials, self.mode, plugin_arguments)
        sweep_command = shlex.join(["expfw", *options, "sweep", *self.start["overrides"]])
        for section_id, label, command in (
            ("best", "Train the best trial again", best_command),
            ("sweep", "Run this sweep again", sweep_command),
        ):
            content = "<p>No trial has finished.</p>"
            if command is not None:
                code = f'<div class="code">{escape(command)}</div><button type="button" class="copy">Copy</button>'
                content = f'<p class="label">{label}</p><div class="command">{code}</div>'
            self.page.html.append(f'<section class="card" id="{section_id}">{content}</section>')

    def add_configurations(self) -> None:
        """Adds the table of seed groups, if a configuration has several seeds."""
        groups = ranking.rank_seed_groups(self.trials, self.mode)
        seeds = max((len(group.trials) for group in groups), default=1)
        if seeds > 1:
            sentence = (
                f"Each with {seeds} seeds, best mean first. {self.metric}: mean of the trials ± half of the 95 % "
                "confidence interval of the mean (Student's t)."
            )
            self.page.add_section("configurations", "Configurations", [sentence], make_trials_table(groups))

    def add_trials(self) -> None:
        """Adds the table of all trials."""
        table = make_trials_table([ranking.SeedGroup([trial]) for trial in self.ranked_trials])
        folders = ["" if trial.folder is None else f"trials/{Path(trial.folder).name}" for trial in self.ranked_trials]
        numbers = [trial.number for trial in self.ranked_trials]
        rows = [[number, *row, folder] for number, row, folder in zip(numbers, table.rows, folders, strict=True)]
        sentences = ["Best first. All metrics of a row are of its epoch or step. Click a header to sort by its column."]
        infinite_count = sum(t.objective is not None and not math.isfinite(t.objective) for t in self.trials)
        if infinite_count:
            trials_text = pluralize(infinite_count, "trial")
            sentences.append(f"The objective of {trials_text} is not finite; the figures below do not show it.")
        best_row = None if self.best_number is None else numbers.index(self.best_number)
        table = Table(["trial", *table.columns, Column("folder", "code")], rows)
        self.page.add_section("trials", "Trials", sentences, table, best_row=best_row)

    def add_parallel_coordinates(self) -> None:
        """Adds parallel coordinates of the most important parameters."""
        if not self.importances or len(self.scored_trials) < 2:
            sentence = "Needs at least two trials with an objective, and a swept parameter."
            self.page.add_section("parallel", "Parallel coordinates", [sentence])
            return
        parameters = [parameter for parameter, _ in self.importances[:_MAX_AXES]]
        sentences = ["Each line is a trial. Drag along an axis to show only the lines that cross this range."]
        if len(self.importances) > _MAX_AXES:
            sentences.append(f"Shows the {_MAX_AXES} most important of {len(self.importances)} parameters.")
        objective = Parameter(self.metric, self.metric, list(map(format_number, self.objectives)), self.objectives)
        figure = figures.draw_parallel_coordinates(parameters, objective, self.mode)
        self.page.add_section("parallel", "Parallel coordinates", sentences, figure)

    def add_objective_against(self) -> None:
        """Adds the objective against each parameter, most important first."""
        sentences = ["Most important parameter first. The diamond is the best trial."]
        if not self.importances:
            sentences = ["No trial with a swept parameter has a finite objective."]
        elif any(trial.status == PRUNED for trial in self.scored_trials):
            sentences.append("Hollow points are pruned trials, with their objective when they were pruned.")
        if len(self.importances) > _MAX_AGAINST_FIGURES:
            sentences.append(f"Shows the first {_MAX_AGAINST_FIGURES} of {len(self.importances)} parameters.")
        drawn = [
            figures.draw_objective_against(parameter, self.scored_trials, self.metric, self.best_number)
            for parameter, _ in self.importances[:_MAX_AGAINST_FIGURES]
        ]
        self.page.add_section("against", f"{self.metric} against each parameter", sentences, *drawn)

    def add_learning_curves(self) -> None:
        """Adds the objective metric and the training loss over the steps."""
        trials_folder = self.sweep.folder / "trials"  # the sweep folder may have been moved
        sources = [
            (trial.number, trial.name, trials_folder / Path(trial.folder).name)
            for trial in self.ranked_trials
            if trial.folder is not None
        ]
        metrics = list(dict.fromkeys([self.metric, "train/loss"]))
        self.page.add_learning_curves("trial", sources, metrics, self.best_number)

    def add_importance(self) -> None:
        """Adds the importance of each parameter."""
        if len(self.importances) < 2 or len(self.scored_trials) < 3:
            sentence = "Needs at least two swept parameters and three trials with an objective."
            self.page.add_section("importance", "Parameter importance", [sentence])
            return
        sentences = [
            "Shows how much each parameter alone explains the rank differences between trials, corrected for chance. "
            "Interactions of parameters are not included.",
            f"Not reliable with fewer than about {MIN_TRIALS} trials.",
        ]
        figure = figures.draw_importance(self.importances)
        self.page.add_section("importance", "Parameter importance", sentences, figure)

    def add_failures(self) -> None:
        """Adds the table of failed trials, with their errors."""
        trials = [t for t in self.trials if t.error or t.status in (FAILED, KILLED, INTERRUPTED)]
        columns = [Column("trial"), Column("parameters"), Column("status", "status"), Column("reason")]
        rows = [[trial.number, trial.name, trial.status, trial.error or "interrupted"] for trial in trials]
        contents = [Table(columns, rows)] if rows else []
        self.page.add_section("failures", "Failures", [] if rows else ["No failures."], *contents)
