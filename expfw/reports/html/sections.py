"""Sections of a sweep report, and their texts if there is too little data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from expfw.api.result import FAILED, FINISHED, KILLED, PRUNED
from expfw.reports.html import curves, figures
from expfw.reports.html.importance import MIN_TRIALS, compute_importance
from expfw.reports.html.page import Page
from expfw.reports.html.parameters import Parameter, collect_parameters
from expfw.reports.sweep_summary import make_trials_table
from expfw.reports.table import Column, Table
from expfw.system.formatting import format_number, pluralize
from expfw.tracking import ranking
from expfw.tracking.ledger import Trial
from expfw.tracking.ranking import SeedGroup
from expfw.tracking.recorded_run import INTERRUPTED

_MAX_AXES = 12
_MAX_AGAINST_FIGURES = 24


@dataclass(frozen=True)
class Overview:
    """Data of a sweep for all sections; the trials are sorted by number."""

    folder: Path
    trials: Sequence[Trial]
    mode: str
    configured_metric: str

    @cached_property
    def metric(self) -> str:
        """Name of the objective metric of the trials."""
        return next((t.objective_metric for t in self.trials if t.objective_metric), self.configured_metric)

    @cached_property
    def best_number(self) -> int | None:
        """Number of the best trial."""
        best_trial = ranking.find_best_trial(self.trials, self.mode)
        return None if best_trial is None else best_trial.number

    @cached_property
    def ranked_trials(self) -> list[Trial]:
        """All trials, best objective first."""
        return sorted(self.trials, key=lambda trial: ranking.make_sort_key(trial.objective, self.mode))

    @cached_property
    def scored_trials(self) -> list[Trial]:
        """Trials with a finite objective, which the figures show."""
        ended_trials = (trial for trial in self.trials if trial.status in (FINISHED, PRUNED))
        return [trial for trial in ended_trials if trial.objective is not None and math.isfinite(trial.objective)]

    @property
    def objectives(self) -> list[float]:
        """Objective of each scored trial."""
        return [trial.objective for trial in self.scored_trials if trial.objective is not None]

    @cached_property
    def importances(self) -> list[tuple[Parameter, float | None]]:
        """Swept parameters of the scored trials with their importance, most important first."""
        return compute_importance(collect_parameters(self.scored_trials), self.objectives)


def add_configurations(page: Page, overview: Overview) -> None:
    """Adds the table of seed groups, if a configuration has several seeds."""
    groups = ranking.rank_seed_groups(overview.trials, overview.mode)
    seeds = max((len(group.trials) for group in groups), default=1)
    if seeds > 1:
        sentence = (
            f"Each with {seeds} seeds, best mean first. {overview.metric}: mean of the trials ± half of the 95 % "
            "confidence interval of the mean (Student's t)."
        )
        page.add_section("configurations", "Configurations", [sentence], make_trials_table(groups))


def add_trials(page: Page, overview: Overview) -> None:
    """Adds the table of all trials."""
    table = make_trials_table([SeedGroup([trial]) for trial in overview.ranked_trials])
    folders = ["" if trial.folder is None else f"trials/{Path(trial.folder).name}" for trial in overview.ranked_trials]
    rows = [
        [trial.number, *row, folder]
        for trial, row, folder in zip(overview.ranked_trials, table.rows, folders, strict=True)
    ]
    sentences = ["Best first. Click a header to sort by its column."]
    infinite_count = sum(
        trial.objective is not None and not math.isfinite(trial.objective) for trial in overview.trials
    )
    if infinite_count:
        sentences.append(
            f"The objective of {pluralize(infinite_count, 'trial')} is not finite; the figures below do not show it."
        )
    numbers = [trial.number for trial in overview.ranked_trials]
    best_row = None if overview.best_number is None else numbers.index(overview.best_number)
    table = Table([Column("trial", "number"), *table.columns, Column("folder", "code")], rows)
    page.add_section("trials", "Trials", sentences, table, best_row=best_row)


def add_parallel_coordinates(page: Page, overview: Overview) -> None:
    """Adds parallel coordinates of the most important parameters."""
    section_id, title, importances = "parallel", "Parallel coordinates", overview.importances
    if not importances or len(overview.scored_trials) < 2:
        sentence = "Needs at least two trials with an objective, and a swept parameter."
        page.add_section(section_id, title, [sentence])
        return
    parameters = [parameter for parameter, _ in importances[:_MAX_AXES]]
    sentences = ["Each line is a trial. Drag along an axis to show only the lines that cross this range."]
    if len(importances) > _MAX_AXES:
        sentences.append(f"Shows the {_MAX_AXES} most important of {len(importances)} parameters.")
    objective = Parameter(
        overview.metric, overview.metric, list(map(format_number, overview.objectives)), overview.objectives
    )
    figure = figures.draw_parallel_coordinates(parameters, objective, overview.mode)
    page.add_section(section_id, title, sentences, figure)


def add_objective_against(page: Page, overview: Overview) -> None:
    """Adds the objective against each parameter, most important first."""
    section_id, title, importances = "against", f"{overview.metric} against each parameter", overview.importances
    if not importances:
        page.add_section(section_id, title, ["No trial with a swept parameter has a finite objective."])
        return
    sentences = ["Most important parameter first. The diamond is the best trial."]
    if any(trial.status == PRUNED for trial in overview.scored_trials):
        sentences.append("Hollow points are pruned trials, with their objective when they were pruned.")
    if len(importances) > _MAX_AGAINST_FIGURES:
        sentences.append(f"Shows the first {_MAX_AGAINST_FIGURES} of {len(importances)} parameters.")
    drawn = [
        figures.draw_objective_against(parameter, overview.scored_trials, overview.metric, overview.best_number)
        for parameter, _ in importances[:_MAX_AGAINST_FIGURES]
    ]
    page.add_section(section_id, title, sentences, *drawn)


def add_learning_curves(page: Page, overview: Overview) -> None:
    """Adds the objective metric and the training loss over the steps."""
    trials_folder = overview.folder / "trials"  # the sweep folder may have been moved
    sources = [
        (trial.number, trial.name, trials_folder / Path(trial.folder).name)
        for trial in overview.ranked_trials
        if trial.folder is not None
    ]
    metrics = list(dict.fromkeys([overview.metric, "train/loss"]))
    curves_by_metric, unreadable_count = curves.read_curves(sources, metrics)
    drawn = [
        figures.draw_learning_curves(metric, lines, overview.best_number) for metric, lines in curves_by_metric.items()
    ]
    sentences = [
        "Better trials have stronger colours. The best trial has a thick line."
        if drawn
        else "No trial has a metric with more than one point."
    ]
    if len(sources) > curves.MAX_CURVES:
        sentences.append(f"Shows the best {curves.MAX_CURVES} trials.")
    if any(len(line.steps) == curves.MAX_POINTS for lines in curves_by_metric.values() for line in lines):
        sentences.append(f"Long curves show {curves.MAX_POINTS} evenly spaced points.")
    if unreadable_count:
        sentences.append(f"The journals of {pluralize(unreadable_count, 'trial')} cannot be read.")
    page.add_section("learning", "Learning curves", sentences, *drawn)


def add_importance(page: Page, overview: Overview) -> None:
    """Adds the importance of each parameter."""
    section_id, title = "importance", "Parameter importance"
    if len(overview.importances) < 2 or len(overview.scored_trials) < 3:
        sentence = "Needs at least two swept parameters and three trials with an objective."
        page.add_section(section_id, title, [sentence])
        return
    sentences = [
        "Shows how much each parameter alone explains the rank differences between trials, corrected for chance. "
        "Interactions of parameters are not included.",
        f"Not reliable with fewer than about {MIN_TRIALS} trials.",
    ]
    page.add_section(section_id, title, sentences, figures.draw_importance(overview.importances))


def add_failures(page: Page, overview: Overview) -> None:
    """Adds the table of failed trials, with their errors."""
    trials = [t for t in overview.trials if t.error or t.status in (FAILED, KILLED, INTERRUPTED)]
    if not trials:
        page.add_section("failures", "Failures", ["No failures."])
        return
    columns = [Column("trial", "number"), Column("parameters"), Column("status", "status"), Column("reason")]
    rows = [[trial.number, trial.name, trial.status, trial.error or "interrupted"] for trial in trials]
    page.add_section("failures", "Failures", [], Table(columns, rows))
