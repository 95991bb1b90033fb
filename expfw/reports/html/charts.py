"""Figures of a sweep report as Plotly JSON; the page replaces colour names by the colours of its scheme."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from expfw.api.result import PRUNED
from expfw.reports.html.curves import Curve
from expfw.reports.html.parameters import Parameter, Ticks, make_round_ticks, shorten_middle
from expfw.system.formatting import format_number
from expfw.tracking.ledger import Trial

Figure: TypeAlias = "dict[str, Any]"
MAX_AXES = 12
_MIN_LOG_RATIO = 50
_MAX_LEGEND_CURVES = 10
_MAX_TICKS = 12
_ABSENT = "not set"


@dataclass(frozen=True)
class TrialObjectives:
    """Trials with a finite objective, in the order of the sweep.

    Attributes:
        trials: the trials.
        rows: index of each trial among all trials of the sweep.
        values: objective of each trial.
        metric: name of the objective metric.
        mode: `min` or `max`.
        best_number: number of the best trial, or None.
        is_log_scale: whether the objective needs a logarithmic axis.
    """

    trials: Sequence[Trial]
    rows: Sequence[int]
    values: Sequence[float]
    metric: str
    mode: str
    best_number: int | None

    @property
    def is_log_scale(self) -> bool:
        return needs_log_scale(self.values)

    @property
    def axis_values(self) -> list[float]:
        """Positions of the objectives on their axis."""
        return [math.log10(value) if self.is_log_scale else value for value in self.values]


def needs_log_scale(values: Sequence[float]) -> bool:
    """Whether values of a metric need a logarithmic axis."""
    return bool(values) and min(values) > 0 and max(values) / min(values) >= _MIN_LOG_RATIO


def escape_tags(text: str) -> str:
    """Escapes text so that Plotly, which interprets some tags, finds no tags in it."""
    return html.escape(text, quote=False)


def make_hover_texts(trials: Sequence[Trial]) -> dict[int, str]:
    """Returns the hover text of each trial, by trial number."""
    hover_texts = {}
    for trial in trials:
        lines = [shorten_middle(word, 60) for word in trial.name.split(" ")[:12]]
        if trial.objective is not None:
            lines.append(f"{trial.objective_metric} {format_number(trial.objective)}")
        hover_texts[trial.number] = "<br>".join(map(escape_tags, [f"trial {trial.number}  {trial.status}", *lines]))
    return hover_texts


def draw_parallel_coordinates(parameters: Sequence[Parameter], objectives: TrialObjectives) -> Figure:
    """Draws parallel coordinates: one line for each trial through its parameters to the objective."""
    dimensions = [_make_dimension(parameter, objectives.rows) for parameter in parameters]
    dimensions.append(_make_objective_dimension(objectives))
    line = {"color": objectives.axis_values, "colorscale": "scale", "reversescale": objectives.mode == "max"}
    trace = {
        "type": "parcoords",
        "dimensions": dimensions,
        "line": line,
        "labelangle": -20 if len(dimensions) > 6 else 0,
    }
    top = 90 if len(dimensions) > 6 else 60
    return {"data": [trace], "layout": {"height": 440, "margin": {"l": 130, "r": 60, "t": top, "b": 30}}}


def _make_dimension(parameter: Parameter, rows: Sequence[int]) -> Figure:
    axis_values = [parameter.axis_values[row] for row in rows]
    present = [value for value in axis_values if value is not None]
    ticks = parameter.make_ticks(20 if parameter.numbers is None else 8)
    low, high = (min(present), max(present)) if present else (0.0, 1.0)
    pairs = [pair for pair in zip(ticks.values, ticks.texts, strict=True) if low <= pair[0] <= high]
    if len(present) < len(axis_values):
        absent_value = low - (0.15 * (high - low) or 1.0)
        axis_values = [absent_value if value is None else value for value in axis_values]
        pairs, low = [(absent_value, _ABSENT), *pairs], absent_value
    return {
        "label": escape_tags(shorten_middle(parameter.name)),
        "values": axis_values,
        "range": _make_range(low, high),
        "tickvals": [value for value, _ in pairs],
        "ticktext": [shorten_middle(text, 18) for _, text in pairs],  # Plotly does not interpret tags here
    }


def _make_objective_ticks(objectives: TrialObjectives) -> Ticks:
    low, high = min(objectives.values), max(objectives.values)
    if low == high:
        return Ticks(objectives.axis_values[:1], [format_number(low)])
    return make_round_ticks(low, high, objectives.is_log_scale)


def _make_objective_dimension(objectives: TrialObjectives) -> Figure:
    ticks = _make_objective_ticks(objectives)
    return {
        "label": escape_tags(shorten_middle(objectives.metric)),
        "values": objectives.axis_values,
        "range": _make_range(min(objectives.axis_values), max(objectives.axis_values)),
        "tickvals": ticks.values,
        "ticktext": ticks.texts,
    }


def _make_range(low: float, high: float) -> list[float]:
    """Returns a range that is never empty."""
    return [low, high] if high > low else [low - 0.5, high + 0.5]


def draw_objective_against(parameter: Parameter, objectives: TrialObjectives) -> Figure:
    """Draws the objective of each trial against one parameter; spreads the points of text values so that all show."""
    is_categorical = parameter.numbers is None
    indices = [i for i, row in enumerate(objectives.rows) if parameter.axis_values[row] is not None]
    exact_values = [parameter.axis_values[objectives.rows[i]] or 0.0 for i in indices]
    axis_values = (
        [value + _compute_jitter(objectives.trials[i].number) for i, value in zip(indices, exact_values, strict=True)]
        if is_categorical
        else exact_values
    )
    ticks = parameter.make_ticks(_MAX_TICKS if is_categorical else 6)
    axis: Figure = {
        "tickvals": ticks.values,
        "ticktext": [escape_tags(shorten_middle(text, 14)) for text in ticks.texts],
        "title": {"text": escape_tags(shorten_middle(parameter.name, 40))},
    }
    if is_categorical:
        axis["range"] = [-0.6, len(parameter.distinct_texts) - 0.4]
    traces = (
        [_make_box_trace(exact_values, [objectives.values[i] for i in indices])]
        if is_categorical and _has_enough_trials(exact_values)
        else []
    )
    traces += _make_point_traces(objectives, indices, axis_values)
    return {
        "data": traces,
        "layout": {"height": 280, "xaxis": axis, "yaxis": _make_metric_axis(objectives.metric, objectives.values)},
    }


def _compute_jitter(trial_number: int) -> float:
    """Returns an offset from -0.2 to 0.2; the golden ratio spreads the offsets evenly."""
    return (trial_number * 0.6180339887 % 1.0 - 0.5) * 0.4


def _has_enough_trials(axis_values: Sequence[float]) -> bool:
    """Whether each text value has enough trials for meaningful quartiles."""
    return len(set(axis_values)) <= _MAX_TICKS and all(axis_values.count(value) >= 5 for value in set(axis_values))


def _make_box_trace(axis_values: Sequence[float], values: Sequence[float]) -> Figure:
    return {
        "type": "box",
        "x": axis_values,
        "y": values,
        "boxpoints": False,
        "fillcolor": "var(--shade)",
        "line": {"color": "var(--muted)", "width": 1},
        "hoverinfo": "skip",
    }


def _make_point_traces(
    objectives: TrialObjectives, indices: Sequence[int], axis_values: Sequence[float]
) -> list[Figure]:
    """Returns the points of the trials: pruned trials are hollow, the best trial is larger."""
    marker_groups: list[tuple[list[int], Figure]] = [
        ([], {"color": "rgba(0,0,0,0)", "size": 7, "line": {"color": "var(--muted)", "width": 1.5}}),
        ([], {"color": "var(--accent)", "size": 7, "opacity": 0.75}),
        ([], {"color": "var(--best)", "size": 13, "symbol": "diamond", "line": {"color": "var(--card)", "width": 1.5}}),
    ]
    for position, index in enumerate(indices):
        trial = objectives.trials[index]
        marker_groups[2 if trial.number == objectives.best_number else 0 if trial.status == PRUNED else 1][0].append(
            position
        )
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [axis_values[p] for p in positions],
            "y": [objectives.values[indices[p]] for p in positions],
            "customdata": [objectives.trials[indices[p]].number for p in positions],
            "marker": marker,
        }
        for positions, marker in marker_groups
        if positions
    ]


def _make_metric_axis(metric: str, values: Sequence[float]) -> Figure:
    axis: Figure = {"title": {"text": escape_tags(shorten_middle(metric, 30))}}
    if needs_log_scale(values):
        axis |= {"type": "log", "tickformat": "~g"}
        if max(values) / min(values) < 1000:
            axis["dtick"] = "D2"  # ticks at 1, 2 and 5 of each decade
    return axis


def draw_learning_curves(metric: str, curves: Sequence[Curve], best_number: int | None) -> Figure:
    """Draws one metric over the steps: a line for each run, coloured from best to worst.

    Args:
        metric: name of the metric.
        curves: curves of the runs.
        best_number: number of the best run, or None.
    """
    has_legend = len(curves) <= _MAX_LEGEND_CURVES
    last_rank = max((curve.rank for curve in curves), default=0) or 1
    traces = []
    for curve in sorted(curves, key=lambda curve: -curve.rank):  # draws the best run last, on top
        is_best = curve.source.number == best_number
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(curve.steps) <= 30 else "lines",
                "name": escape_tags(shorten_middle(curve.source.name, 40)),
                "x": curve.steps,
                "y": [value if math.isfinite(value) else None for value in curve.values],
                "customdata": [curve.source.number] * len(curve.steps),
                "line": {"color": f"scale({curve.rank / last_rank:.3f})", "width": 3 if is_best else 1.5},
                "marker": {"size": 6 if is_best else 4},
                "opacity": 1 if is_best or has_legend else 0.75,
                "showlegend": has_legend,
            }
        )
    values = [value for curve in curves for value in curve.values if math.isfinite(value)]
    axes = {"xaxis": {"title": {"text": "step"}}, "yaxis": _make_metric_axis(metric, values)}
    return {"data": traces, "layout": {"height": 360, "legend": {"traceorder": "reversed", "y": 0.9}, **axes}}
