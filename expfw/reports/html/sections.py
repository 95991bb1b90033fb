"""Sections of a sweep report, and their texts if there is too little data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from expfw.api.result import FAILED, KILLED, PRUNED
from expfw.reports import tables as text_tables
from expfw.reports.html import charts, curves, tables
from expfw.reports.html.charts import MAX_AXES, Figure, TrialObjectives
from expfw.reports.html.curves import MAX_POINTS
from expfw.reports.html.importance import MIN_TRIALS
from expfw.reports.html.parameters import Parameter
from expfw.system.formatting import pluralize
from expfw.tracking import ranking
from expfw.tracking.ledger import Trial
from expfw.tracking.run_index import INTERRUPTED

_MAX_AGAINST_FIGURES = 24
_TRAINING_LOSS = "train/loss"


@dataclass(frozen=True)
class Overview:
    """Data of a sweep for all sections.

    Attributes:
        folder: sweep folder.
        metric: name of the objective metric.
        mode: `min` or `max`.
        trials: all trials.
        ranked_rows: indices of the trials, best first.
        parameters: swept parameters.
        importances: parameters with their importance, most important first.
        objectives: trials with a finite objective.
    """

    folder: Path
    metric: str
    mode: str
    trials: Sequence[Trial]
    ranked_rows: Sequence[int]
    parameters: Sequence[Parameter]
    importances: Sequence[tuple[Parameter, float | None]]
    objectives: TrialObjectives


@dataclass(frozen=True)
class Section:
    """Section of a page.

    Attributes:
        html: HTML of the section.
        figures: figures to draw, by the ID of their HTML element.
    """

    html: str
    figures: Mapping[str, Figure] = field(default_factory=dict)


def render_configurations(overview: Overview) -> Section:
    """Renders the table of seed groups; empty if no configuration has several seeds."""
    groups = ranking.rank_seed_groups(overview.trials, overview.mode)
    if all(len(group.trials) == 1 for group in groups):
        return Section("")
    sentences = [
        f"Each with {max(len(group.trials) for group in groups)} seeds, best mean first. {overview.metric}: mean of "
        "the trials ± half of the 95 % confidence interval of the mean (Student's t)."
    ]
    return Section(
        render_section(
            "configurations",
            "Configurations",
            tables.render_configurations_table(*text_tables.tabulate_groups(groups)),
            sentences,
        )
    )


def render_trials(overview: Overview) -> Section:
    """Renders the table of all trials."""
    table = tables.render_trials_table(
        overview.trials, overview.parameters, overview.metric, overview.ranked_rows, overview.objectives.best_number
    )
    sentences = ["Best first. Click a header to sort by its column."]
    infinite_count = sum(
        trial.objective is not None and not math.isfinite(trial.objective) for trial in overview.trials
    )
    if infinite_count:
        sentences.append(
            f"The objective of {pluralize(infinite_count, 'trial')} is not finite; the figures below do not show it."
        )
    return Section(render_section("trials", "Trials", table, sentences))


def render_parallel_coordinates(overview: Overview) -> Section:
    """Renders parallel coordinates of at most `MAX_AXES` parameters, the most important ones, in order of the sweep."""
    section_id, title, objectives = "parallel", "Parallel coordinates", overview.objectives
    if not overview.parameters or len(objectives.trials) < 2:
        return _render_empty_section(
            section_id, title, "Needs at least two trials with an objective, and a swept parameter."
        )
    selected_keys = {parameter.key for parameter, _ in overview.importances[:MAX_AXES]}
    figure = charts.draw_parallel_coordinates([p for p in overview.parameters if p.key in selected_keys], objectives)
    sentences = ["Each line is a trial. Drag along an axis to show only the lines that cross this range."]
    if len(overview.parameters) > MAX_AXES:
        sentences.append(f"Shows the {MAX_AXES} most important of {len(overview.parameters)} parameters.")
    return Section(
        render_section(section_id, title, render_card(section_id, figure), sentences),
        {_get_plot_id(section_id): figure},
    )


def render_objective_against(overview: Overview) -> Section:
    """Renders the objective against each parameter, most important first."""
    section_id, title, objectives = "against", f"{overview.metric} against each parameter", overview.objectives
    if not overview.parameters or not objectives.trials:
        return _render_empty_section(section_id, title, "No trial with a swept parameter has a finite objective.")
    drawn_parameters = [parameter for parameter, _ in overview.importances[:_MAX_AGAINST_FIGURES]]
    figures = {
        f"{section_id}-{n}": charts.draw_objective_against(parameter, objectives)
        for n, parameter in enumerate(drawn_parameters)
    }
    sentences = ["Most important parameter first. The diamond is the best trial."]
    if any(trial.status == PRUNED for trial in objectives.trials):
        sentences.append("Hollow points are pruned trials, with their objective when they were pruned.")
    if len(overview.parameters) > len(drawn_parameters):
        sentences.append(f"Shows the first {len(drawn_parameters)} of {len(overview.parameters)} parameters.")
    cards = "".join(render_card(name, figure) for name, figure in figures.items())
    html = render_section(section_id, title, f'<div class="grid">{cards}</div>', sentences)
    return Section(html, {_get_plot_id(name): figure for name, figure in figures.items()})


def render_learning_curves(overview: Overview) -> Section:
    """Renders the objective metric and the training loss over the steps."""
    ranked_trials = [overview.trials[row] for row in overview.ranked_rows]
    metrics = list(dict.fromkeys([overview.metric, _TRAINING_LOSS]))
    trial_curves = curves.read_trial_curves(overview.folder, ranked_trials, metrics)
    figures = {
        f"learning-{n}": charts.draw_learning_curves(metric, lines, overview.objectives.best_number)
        for n, (metric, lines) in enumerate(trial_curves.curves_by_metric.items())
    }
    sentences = ["Better trials have stronger colours. The best trial has a thick line."]
    if not figures:
        sentences = ["No trial has a metric with more than one point."]
    if trial_curves.run_count < sum(trial.folder is not None for trial in overview.trials):
        sentences.append(f"Shows the best {pluralize(trial_curves.run_count, 'trial')}.")
    if any(len(line.steps) == MAX_POINTS for lines in trial_curves.curves_by_metric.values() for line in lines):
        sentences.append(f"Long curves show {MAX_POINTS} evenly spaced points.")
    if trial_curves.unreadable_count:
        sentences.append(f"The journals of {pluralize(trial_curves.unreadable_count, 'trial')} cannot be read.")
    html = render_section(
        "learning", "Learning curves", "".join(render_card(*pair) for pair in figures.items()), sentences
    )
    return Section(html, {_get_plot_id(name): figure for name, figure in figures.items()})


def render_importance(overview: Overview) -> Section:
    """Renders the importance of each parameter."""
    section_id, title = "importance", "Parameter importance"
    if len(overview.parameters) < 2 or len(overview.objectives.trials) < 3:
        return _render_empty_section(
            section_id, title, "Needs at least two swept parameters and three trials with an objective."
        )
    sentences = [
        "Shows how much each parameter alone explains the rank differences between trials, corrected for chance. "
        "Interactions of parameters are not included.",
        f"Not reliable with fewer than about {MIN_TRIALS} trials.",
    ]
    return Section(render_section(section_id, title, tables.render_importance_table(overview.importances), sentences))


def render_failures(overview: Overview) -> Section:
    """Renders the table of failed trials, with their errors."""
    failed_trials = [t for t in overview.trials if t.error or t.status in (FAILED, KILLED, INTERRUPTED)]
    table = tables.render_failures_table(failed_trials) if failed_trials else ""
    return Section(render_section("failures", "Failures", table, [] if failed_trials else ["No failures."]))


def _render_empty_section(section_id: str, title: str, sentence: str) -> Section:
    return Section(render_section(section_id, title, "", [sentence]))


def render_section(section_id: str, title: str, content: str, sentences: Sequence[str]) -> str:
    """Renders a section: title, explanation and content."""
    paragraph = f'<p class="quiet">{" ".join(map(escape, sentences))}</p>' if sentences else ""
    return f'<section id="{section_id}"><h2>{escape(title)}</h2>{paragraph}{content}</section>'


def render_card(name: str, figure: Figure) -> str:
    """Renders the element of a figure, which the script of the page finds as `NAME-plot`."""
    height = figure["layout"]["height"]
    return (
        f'<div class="card figure"><div class="plot" id="{_get_plot_id(name)}" style="height:{height}px"></div></div>'
    )


def _get_plot_id(name: str) -> str:
    return f"{name}-plot"
