"""Comparison of runs as one HTML file that needs no network."""

from __future__ import annotations

import shlex
from html import escape

from expfw.reports.comparison.compared_runs import RunComparison
from expfw.reports.comparison.table import BEST_MARK, make_table_of_rows, make_table_of_same_parameters
from expfw.reports.html.figures import make_hover_text
from expfw.reports.html.page import Page
from expfw.reports.table import Column, Table
from expfw.tracking.ranking import make_sort_key
from expfw.tracking.run_index import Workspace


def render_comparison_page(comparison: RunComparison, workspace: Workspace) -> str:
    """Returns the text of the page."""
    runs, objectives, (metric, mode) = comparison.runs, comparison.objectives, comparison.targets[0]
    title = f"Comparison of {' and '.join(run.id for run in runs) if len(runs) < 4 else f'{len(runs)} runs'}"
    names = list(dict.fromkeys(run.name for run in runs))
    subtitle = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    hover_texts = {
        index: make_hover_text(f"{run.id}  {run.status}", [run.name], comparison.targets[index][0], objectives[index])
        for index, run in enumerate(runs)
    }
    page = Page(title, hover_texts)
    page.html.append(f'<header><h1>{escape(title)}</h1><p class="quiet">{escape(subtitle)}</p></header>')
    best_values = comparison.find_best_values(metric, objectives)
    best_index = next((index for index, value in enumerate(objectives) if value in best_values), None)
    sentences = [
        "Click a header to sort by its column.",
        f"The objective is {metric}, {'lower' if mode == 'min' else 'higher'} is better.",
        f"{BEST_MARK} best value.",
    ]
    page.add_section("runs", "Runs", sentences, make_table_of_rows(comparison), best_row=best_index)
    ranks = sorted(range(len(runs)), key=lambda index: make_sort_key(objectives[index], mode))
    sources = [(index, f"{runs[index].id} {runs[index].name}", runs[index].folder) for index in ranks]
    metrics = sorted(comparison.metrics, key=lambda name: (name != metric, not name.startswith("val/"), name))
    page.add_learning_curves("run", sources, metrics, best_index)
    if environment := comparison.environment:
        columns = [Column("run", "code"), *map(Column, environment)]
        rows = [[run.id, *values] for run, *values in zip(runs, *environment.values(), strict=True)]
        page.add_section("environment", "Environment differences", [], Table(columns, rows))
    else:
        page.add_section("environment", "Environment", ["Versions, commit and threads are the same."])
    if packages := comparison.other_packages:
        columns = [Column("package"), *(Column(run.id, "code") for run in runs)]
        rows = [[name, *versions] for name, versions in packages.items()]
        sentences = ["Other versions of these packages do not affect results."]
        page.add_section("packages", "Other packages with different versions", sentences, Table(columns, rows))
    page.add_section("same", "The same in all runs", [], make_table_of_same_parameters(comparison))
    command = shlex.join(["expfw", "runs", "compare", *(run.id for run in runs)])
    page.add_footer(f"{command} --html{workspace.runs_dir_option}")
    return page.render()
