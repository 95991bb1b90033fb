"""Comparison of runs as one HTML file that needs no network."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from html import escape

from expfw.reports.comparison.compared_runs import RunComparison, mark_best_values, shorten_parameter_keys
from expfw.reports.comparison.table import format_parameter
from expfw.reports.html import charts, curves, tables
from expfw.reports.html.page import render_footer, render_page
from expfw.reports.html.sections import render_card, render_section
from expfw.reports.html.tables import Column
from expfw.system import formatting
from expfw.tracking.ranking import make_sort_key
from expfw.tracking.workspace import Workspace

_MAX_FIGURES = 16


def render_comparison_page(comparison: RunComparison, workspace: Workspace) -> str:
    """Returns the text of the page."""
    same_params = comparison.params[1]
    arguments = ["expfw", "runs", "compare", *(run.id for run in comparison.runs)]
    command = f"{shlex.join(arguments)} --html{workspace.runs_dir_option}"
    title = (
        " and ".join(run.id for run in comparison.runs) if len(comparison.runs) < 4 else f"{len(comparison.runs)} runs"
    )
    learning_figures = _draw_learning_curves(comparison)
    names = list(dict.fromkeys(run.entry.name for run in comparison.runs))
    subtitle = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    first_run = comparison.runs[0]
    explanation = (
        f"Click a header to sort by its column. The objective is {first_run.metric}, "
        f"{'lower' if first_run.mode == 'min' else 'higher'} is better."
    )
    body = [
        f'<header><h1>Comparison of {escape(title)}</h1><p class="quiet">{escape(subtitle)}</p></header>',
        render_section("runs", "Runs", _render_runs(comparison), [explanation]),
        _render_parameters(comparison),
        render_section(
            "learning",
            "Learning curves",
            "".join(render_card(*pair) for pair in learning_figures.items()),
            _describe_curves(comparison, learning_figures),
        ),
        _render_environment(comparison),
        render_section(
            "same",
            f"The same in all runs: {formatting.pluralize(len(same_params), 'parameter')}",
            _render_same_params(same_params),
            [],
        ),
        render_footer(command),
    ]
    figures = {f"{name}-plot": figure for name, figure in learning_figures.items()}
    hover_texts = {index: _format_hover_text(comparison, index) for index in range(len(comparison.runs))}
    return render_page(f"Comparison of {title}", body, figures, hover_texts)


def _format_hover_text(comparison: RunComparison, index: int) -> str:
    run = comparison.runs[index]
    lines = [f"{run.id}  {run.entry.status}", run.entry.name]
    if run.objective is not None:
        lines.append(f"{run.metric} {formatting.format_number(run.objective)}")
    return "<br>".join(map(charts.escape_tags, lines))


def _find_best_index(comparison: RunComparison) -> int | None:
    marks = mark_best_values([run.objective for run in comparison.runs], comparison.runs[0].mode)
    return next((index for index, mark in enumerate(marks) if mark), None)


def _render_runs(comparison: RunComparison) -> str:
    """Renders a row for each run, with its results and duration."""
    runs = comparison.runs
    columns = [
        Column("run", [run.id for run in runs], "code"),
        Column("name", [run.entry.name for run in runs]),
        Column("status", [run.entry.status for run in runs], "status"),
        *(tables.make_metric_column(name, comparison.get_values(name)) for name in comparison.metrics),
        Column("seconds", ["" if run.seconds is None else f"{run.seconds:.1f}" for run in runs], "number"),
    ]
    return tables.render_rows_table("Runs", columns, range(len(runs)), _find_best_index(comparison))


def _render_parameters(comparison: RunComparison) -> str:
    """Renders a row for each run, with the parameters that differ."""
    differing, _ = comparison.params
    if not differing:
        return render_section("parameters", "Parameters", "", ["All parameters are the same."])
    columns = [Column("run", [run.id for run in comparison.runs], "code")]
    named_rows = zip(shorten_parameter_keys(differing), differing.items(), strict=True)
    for name, (key, values) in sorted(
        named_rows, key=lambda row: -len(set(map(format_parameter, row[1][1])))
    ):  # most distinct values first
        columns.append(Column(name, list(map(format_parameter, values)), _get_column_kind(values), tooltip=key))
    table = tables.render_rows_table("Parameters", columns, range(len(comparison.runs)), _find_best_index(comparison))
    return render_section("parameters", "Parameters that differ", table, [])


def _get_column_kind(values: Sequence[object]) -> str:
    is_numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    return "number" if is_numeric else "text"


def _draw_learning_curves(comparison: RunComparison) -> dict[str, charts.Figure]:
    """Draws a figure for each metric, with the best run on top of the others."""
    runs = comparison.runs
    order = sorted(range(len(runs)), key=lambda index: make_sort_key(runs[index].objective, runs[0].mode))
    sources = [
        curves.CurveSource(index, _format_run_label(comparison, index), runs[index].entry.folder) for index in order
    ]
    metrics = sorted(comparison.metrics, key=lambda name: (name != runs[0].metric, not name.startswith("val/"), name))
    run_curves = curves.read_run_curves(sources, metrics)
    curves_to_draw = list(run_curves.curves_by_metric.items())[:_MAX_FIGURES]
    best_index = _find_best_index(comparison)
    return {
        f"learning-{n}": charts.draw_learning_curves(name, lines, best_index)
        for n, (name, lines) in enumerate(curves_to_draw)
    }


def _format_run_label(comparison: RunComparison, index: int) -> str:
    run = comparison.runs[index]
    return f"{run.id} {run.entry.name}"


def _describe_curves(comparison: RunComparison, learning_figures: Mapping[str, charts.Figure]) -> list[str]:
    if not learning_figures:
        return ["No run has a metric with more than one point."]
    sentences = ["Better runs have stronger colours. The best run has a thick line."]
    if len(comparison.runs) > curves.MAX_CURVES:
        sentences.append(f"Shows the best {curves.MAX_CURVES} runs.")
    return sentences


def _render_environment(comparison: RunComparison) -> str:
    if not comparison.environment:
        return render_section("environment", "Environment", "", ["Versions, commit and threads are the same."])
    columns = [Column("run", [run.id for run in comparison.runs], "code")]
    columns += [Column(name, values) for name, values in comparison.environment.items()]
    table = tables.render_rows_table("Environment", columns, range(len(comparison.runs)), None)
    return render_section("environment", "Environment differences", table, [])


def _render_same_params(params: Mapping[str, object]) -> str:
    columns = [
        Column("parameter", list(params), "code"),
        Column("value", [format_parameter(value) for value in params.values()]),
    ]
    table = tables.render_rows_table("The same in all runs", columns, range(len(params)), None)
    return f"<details><summary>Show all</summary>{table}</details>"
