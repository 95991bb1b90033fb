"""Figures of a page as Plotly JSON; the page replaces colour names by the colours of its scheme."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from expfw.api.result import PRUNED
from expfw.reports.html.curves import Curve
from expfw.reports.html.parameters import Parameter, needs_log_scale, shorten_middle
from expfw.system.formatting import format_number
from expfw.tracking.ledger import Trial

Figure: TypeAlias = "dict[str, Any]"
_MAX_LEGEND_CURVES = 10
_MIN_TRIALS_PER_BOX = 5
_MAX_TICKS = 8
_INVISIBLE = "rgba(0,0,0,0)"
_MARKERS: dict[str, Figure] = {
    "pruned": {"color": _INVISIBLE, "size": 7, "line": {"color": "var(--muted)", "width": 1.5}},
    "other": {"color": "var(--accent)", "size": 7, "opacity": 0.75},
    "best": {"color": "var(--best)", "size": 13, "symbol": "diamond", "line": {"color": "var(--card)", "width": 1.5}},
}


def make_label(text: str, max_length: int = 24) -> str:
    """Shortens text, and escapes it because Plotly interprets some tags."""
    return html.escape(shorten_middle(text, max_length), quote=False)


def make_hover_text(title: str, lines: Sequence[str], metric: str | None, value: float | None) -> str:
    """Returns the text that a figure shows next to the mouse."""
    value_lines = [] if value is None else [f"{metric} {format_number(value)}"]
    return "<br>".join(make_label(line, 60) for line in [title, *lines, *value_lines])


def draw_parallel_coordinates(parameters: Sequence[Parameter], objective: Parameter, mode: str) -> Figure:
    """Draws parallel coordinates: one line for each trial through its parameters to the objective."""
    trace = {
        "type": "parcoords",
        "dimensions": [_make_dimension(parameter) for parameter in [*parameters, objective]],
        "line": {"color": objective.positions, "colorscale": "scale", "reversescale": mode == "max"},
        "labelangle": -20 if len(parameters) > 5 else 0,
    }
    top = 90 if len(parameters) > 5 else 60
    return {"data": [trace], "layout": {"height": 440, "margin": {"l": 130, "r": 60, "t": top, "b": 30}}}


def _make_dimension(parameter: Parameter) -> Figure:
    present = [position for position in parameter.positions if position is not None]
    low, high = min(present), max(present)
    ticks = _make_ticks(parameter)
    # Trials without this parameter cross the axis below its smallest value.
    absent_position = low - (0.15 * (high - low) or 1.0)
    if len(present) < len(parameter.positions):
        low, ticks = absent_position, {absent_position: "not set", **(ticks or {v: f"{v:.3g}" for v in (low, high)})}
    dimension = {
        "label": make_label(parameter.name),
        "values": [absent_position if position is None else position for position in parameter.positions],
        "range": [low, high] if high > low else [low - 0.5, high + 0.5],
    }
    if ticks:
        dimension["tickvals"] = list(ticks)
        dimension["ticktext"] = [shorten_middle(text, 18) for text in ticks.values()]  # without tags
    return dimension


def _make_ticks(parameter: Parameter) -> dict[float, str]:
    """Returns texts by position: the values if these are few, some texts, or powers of 10; empty for other numbers."""
    texts = {position: str(text) for position, text in zip(parameter.positions, parameter.texts, strict=True)}
    positions = sorted(position for position in texts if position is not None)
    if parameter.numbers is None or len(positions) <= _MAX_TICKS:
        step = -(-len(positions) // 20)
        return {position: texts[position] for position in positions[::step]}
    if not parameter.is_log_scale:
        return {}
    digits = (1, 2, 5) if positions[-1] - positions[0] < 2.5 else (1,)
    powers = range(math.floor(positions[0]), math.ceil(positions[-1]) + 1)
    numbers = [float(f"{digit}e{power}") for power in powers for digit in digits]
    return {math.log10(v): f"{v:g}" for v in numbers if positions[0] - 1e-3 <= math.log10(v) <= positions[-1] + 1e-3}


def draw_objective_against(
    parameter: Parameter, trials: Sequence[Trial], metric: str, best_number: int | None
) -> Figure:
    """Draws the objective of each trial against one parameter: pruned trials are hollow, the best one is larger."""
    points = [
        (position, trial) for position, trial in zip(parameter.positions, trials, strict=True) if position is not None
    ]
    objectives = [trial.objective or 0.0 for _, trial in points]
    axis: Figure = {"title": {"text": make_label(parameter.name, 40)}}
    if ticks := _make_ticks(parameter):
        axis |= {"tickvals": list(ticks), "ticktext": [make_label(text, 14) for text in ticks.values()]}
    style: Figure = {"type": "scatter", "mode": "markers"}
    if parameter.numbers is None:  # a box plot without boxes, because it spreads the points of a value so that all show
        style = {"type": "box", "boxpoints": "all", "pointpos": 0, "jitter": 0.6, "hoveron": "points"}
        style |= {"fillcolor": _INVISIBLE, "line": {"color": _INVISIBLE}}
    traces: list[Figure] = []
    if parameter.numbers is None and len(points) >= _MIN_TRIALS_PER_BOX * len(parameter.distinct_texts):
        box_style = {"fillcolor": "var(--shade)", "line": {"color": "var(--muted)", "width": 1}, "hoverinfo": "skip"}
        traces.append(
            {"type": "box", "boxpoints": False, "x": [position for position, _ in points], "y": objectives, **box_style}
        )
    for kind, marker in _MARKERS.items():
        selected = [
            (position, trial)
            for position, trial in points
            if kind == ("best" if trial.number == best_number else "pruned" if trial.status == PRUNED else "other")
        ]
        if selected:
            x, drawn_trials = zip(*selected, strict=True)
            y, numbers = [trial.objective for trial in drawn_trials], [trial.number for trial in drawn_trials]
            traces.append({**style, "x": x, "y": y, "customdata": numbers, "marker": marker})
    layout = {"height": 280, "boxmode": "overlay", "xaxis": axis, "yaxis": _make_metric_axis(metric, objectives)}
    return {"data": traces, "layout": layout}


def _make_metric_axis(metric: str, values: Sequence[float]) -> Figure:
    axis: Figure = {"title": {"text": make_label(metric, 40)}}
    if needs_log_scale(values, min_ratio=50):
        axis |= {"type": "log", "tickformat": "~g"}
        if max(values) / min(values) < 1000:
            axis["dtick"] = "D2"  # ticks at 1, 2 and 5 of each decade
    return axis


def draw_learning_curves(metric: str, curves: Sequence[Curve], best_number: int | None) -> Figure:
    """Draws one metric over the steps: a line for each run, coloured from best to worst; the best run is the first."""
    has_legend = len(curves) <= _MAX_LEGEND_CURVES
    last_rank = max((curve.rank for curve in curves), default=0) or 1
    traces = []
    for curve in reversed(curves):  # draws the best run last, on top
        is_best = curve.number == best_number
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(curve.steps) <= 30 else "lines",
                "name": make_label(curve.name, 40),
                "x": curve.steps,
                "y": [value if math.isfinite(value) else None for value in curve.values],
                "customdata": [curve.number] * len(curve.steps),
                "line": {"color": f"scale({curve.rank / last_rank:.3f})", "width": 3 if is_best else 1.5},
                "marker": {"size": 6 if is_best else 4},
                "opacity": 1 if is_best or has_legend else 0.75,
                "showlegend": has_legend,
            }
        )
    values = [value for curve in curves for value in curve.values if math.isfinite(value)]
    axes = {"xaxis": {"title": {"text": "step"}}, "yaxis": _make_metric_axis(metric, values)}
    return {"data": traces, "layout": {"height": 360, "legend": {"traceorder": "reversed", "y": 0.9}, **axes}}


def draw_importance(importances: Sequence[tuple[Parameter, float | None]]) -> Figure:
    """Draws a bar for the share of each parameter."""
    keys = [parameter.key for parameter, _ in importances]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [share or 0.0 for _, share in importances],
        "y": keys,
        "text": ["not available" if share is None else f"{share:.0%}" for _, share in importances],
        "textposition": "outside",
        "marker": {"color": "var(--accent)"},
        "hoverinfo": "skip",
    }
    names = [make_label(parameter.name) for parameter, _ in importances]
    axes = {
        "xaxis": {"range": [0, 1.1], "tickformat": ".0%"},
        "yaxis": {"type": "category", "autorange": "reversed", "tickvals": keys, "ticktext": names},
    }
    return {"data": [trace], "layout": {"height": 70 + 28 * len(keys), **axes}}
