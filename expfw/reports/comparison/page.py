"""Comparison of runs as one HTML file that needs no network."""

from __future__ import annotations

import shlex
from html import escape

from expfw.reports.comparison.compared_runs import RunComparison
from expfw.reports.comparison.table import BEST_MARK, make_table_of_rows, make_table_of_same_parameters
from expfw.reports.html import curves
from expfw.reports.html.figures import draw_learning_curves, make_hover_text
from expfw.reports.html.page import Page
from expfw.reports.table import Column, Table
from expfw.tracking.ranking import make_sort_key
from expfw.tracking.workspace import Workspace

_MAX_FIGURES = 16


def render_comparison_page(comparison: RunComparison, workspace: Workspace) -> str:
    """Returns the text of the page."""
    runs, (metric, mode) = comparison.runs, (comparison.runs[0].metric, comparison.runs[0].mode)
    title = f"Comparison of {' and '.join(run.id for run in runs) if len(runs) < 4 else f'{len(runs)} runs'}"
    names = list(dict.fromkeys(run.recorded.name for run in runs))
    subtitle = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    hover_texts = {
        index: make_hover_text(f"{run.id}  {run.recorded.status}", [run.recorded.name], run.metric, run.objective)
        for index, run in enumerate(runs)
    }
    page = Page(title, hover_texts)
    page.add_html(f'<header><h1>{escape(title)}</h1><p class="quiet">{escape(subtitle)}</p></header>')
    best_values = comparison.find_best_values(metric, comparison.objectives)
    best_index = next((index for index, run in enumerate(runs) if run.objective in best_values), None)
    sentences = [
        "Click a header to sort by its column.",
        f"The objective is {metric}, {'lower' if mode == 'min' else 'higher'} is better.",
        f"{BEST_MARK} best value.",
    ]
    page.add_section("runs", "Runs", sentences, make_table_of_rows(comparison), best_row=best_index)
    _add_learning_curves(page, comparison, best_index)
    environment = comparison.environment
    if environment:
        columns = [Column("run", "code"), *map(Column, environment)]
        rows = [[run.id, *values] for run, *values in zip(runs, *environment.values(), strict=True)]
        page.add_section("environment", "Environment differences", [], Table(columns, rows))
    else:
        page.add_section("environment", "Environment", ["Versions, commit and threads are the same."])
    page.add_section("same", "The same in all runs", [], make_table_of_same_parameters(comparison))
    command = shlex.join(["expfw", "runs", "compare", *(run.id for run in runs)])
    page.add_footer(f"{command} --html{workspace.runs_dir_option}")
    return page.render()


def _add_learning_curves(page: Page, comparison: RunComparison, best_index: int | None) -> None:
    """Adds a figure for each metric, with the best run on top of the others."""
    runs, mode = comparison.runs, comparison.runs[0].mode
    sources = [
        (index, f"{run.id} {run.recorded.name}", run.recorded.folder)
        for index, run in sorted(enumerate(runs), key=lambda pair: make_sort_key(pair[1].objective, mode))
    ]
    metrics = sorted(comparison.metrics, key=lambda name: (name != runs[0].metric, not name.startswith("val/"), name))
    curves_by_metric, _ = curves.read_curves(sources, metrics)
    drawn = [draw_learning_curves(name, lines, best_index) for name, lines in curves_by_metric.items()]
    sentences = ["Better runs have stronger colours. The best run has a thick line."]
    if not drawn:
        sentences = ["No run has a metric with more than one point."]
    elif len(runs) > curves.MAX_CURVES:
        sentences.append(f"Shows the best {curves.MAX_CURVES} runs.")
    page.add_section("learning", "Learning curves", sentences, *drawn[:_MAX_FIGURES])
