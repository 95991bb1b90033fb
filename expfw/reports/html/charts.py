"""The figures of a sweep's report, as Plotly's plain JSON; colours are names that the page replaces by its scheme's."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from expfw.api.run import PRUNED
from expfw.reports.html.curves import Curve
from expfw.reports.html.parameters import Parameter, Ticks, round_ticks, shortened
from expfw.system.formatting import number
from expfw.tracking.ledger import Trial

Figure: TypeAlias = "dict[str, Any]"
MOST_AXES = 12
_LOG_FROM = 50
_FEW_CURVES = 10
_MOST_TICKS = 12
_ABSENT = "not set"


@dataclass(frozen=True)
class Measured:
    """The trials that have a finite objective, in the order of the sweep; `rows` says which of all trials they are.

    Attributes:
        best: the number of the best trial.
        log: whether the objective is drawn on a logarithmic axis.
    """

    trials: Sequence[Trial]
    rows: Sequence[int]
    values: Sequence[float]
    metric: str
    mode: str
    best: int | None

    @property
    def log(self) -> bool:
        return spans(self.values)

    @property
    def places(self) -> list[float]:
        """The objectives on their axis."""
        return [math.log10(value) if self.log else value for value in self.values]


def spans(values: Sequence[float]) -> bool:
    """Whether values of a metric need a logarithmic axis."""
    return bool(values) and min(values) > 0 and max(values) / min(values) >= _LOG_FROM


def plain(text: str) -> str:
    """A text in which Plotly, which knows some tags, finds none."""
    return html.escape(text, quote=False)


def hover(trials: Sequence[Trial]) -> dict[int, str]:
    """What is shown beside the mouse, for each trial."""
    made = {}
    for trial in trials:
        words = [shortened(word, 60) for word in trial.name.split(" ")[:12]]
        if trial.objective is not None:
            words.append(f"{trial.objective_metric} {number(trial.objective)}")
        made[trial.number] = "<br>".join(map(plain, [f"trial {trial.number}  {trial.status}", *words]))
    return made


def parallel(parameters: Sequence[Parameter], measured: Measured) -> Figure:
    """Parallel coordinates: one line for each trial through its parameters to the objective."""
    dimensions = [_dimension(parameter, measured.rows) for parameter in parameters]
    dimensions.append(_objective_dimension(measured))
    line = {"color": measured.places, "colorscale": "scale", "reversescale": measured.mode == "max"}
    trace = {
        "type": "parcoords",
        "dimensions": dimensions,
        "line": line,
        "labelangle": -20 if len(dimensions) > 6 else 0,
    }
    top = 90 if len(dimensions) > 6 else 60
    return {"data": [trace], "layout": {"height": 440, "margin": {"l": 130, "r": 60, "t": top, "b": 30}}}


def _dimension(parameter: Parameter, rows: Sequence[int]) -> Figure:
    places = [parameter.places[row] for row in rows]
    present = [place for place in places if place is not None]
    ticks = parameter.ticks(20 if parameter.numbers is None else 8)
    low, high = (min(present), max(present)) if present else (0.0, 1.0)
    pairs = [pair for pair in zip(ticks.places, ticks.texts, strict=True) if low <= pair[0] <= high]
    if len(present) < len(places):
        below = low - (0.15 * (high - low) or 1.0)
        places = [below if place is None else place for place in places]
        pairs, low = [(below, _ABSENT), *pairs], below
    return {
        "label": plain(shortened(parameter.name)),
        "values": places,
        "range": _wide(low, high),
        "tickvals": [place for place, _ in pairs],
        "ticktext": [shortened(text, 18) for _, text in pairs],  # Plotly knows no tags here
    }


def _objective_ticks(measured: Measured) -> Ticks:
    low, high = min(measured.values), max(measured.values)
    if low == high:
        return Ticks(measured.places[:1], [number(low)])
    return round_ticks(low, high, measured.log)


def _objective_dimension(measured: Measured) -> Figure:
    ticks = _objective_ticks(measured)
    return {
        "label": plain(shortened(measured.metric)),
        "values": measured.places,
        "range": _wide(min(measured.places), max(measured.places)),
        "tickvals": ticks.places,
        "ticktext": ticks.texts,
    }


def _wide(low: float, high: float) -> list[float]:
    """A range that is never empty."""
    return [low, high] if high > low else [low - 0.5, high + 0.5]


def against(parameter: Parameter, measured: Measured) -> Figure:
    """The objective of each trial against one parameter; between words, a little apart so that points stay seen."""
    words = parameter.numbers is None
    having = [i for i, row in enumerate(measured.rows) if parameter.places[row] is not None]
    exact = [parameter.places[measured.rows[i]] or 0.0 for i in having]
    places = [p + _apart(measured.trials[i].number) for i, p in zip(having, exact, strict=True)] if words else exact
    ticks = parameter.ticks(_MOST_TICKS if words else 6)
    axis: Figure = {
        "tickvals": ticks.places,
        "ticktext": [plain(shortened(text, 14)) for text in ticks.texts],
        "title": {"text": plain(shortened(parameter.name, 40))},
    }
    if words:
        axis["range"] = [-0.6, len(parameter.distinct) - 0.4]
    traces = [_boxes(exact, [measured.values[i] for i in having])] if words and _often(exact) else []
    traces += _points(measured, having, places)
    return {
        "data": traces,
        "layout": {"height": 280, "xaxis": axis, "yaxis": _metric_axis(measured.metric, measured.values)},
    }


def _apart(trial: int) -> float:
    """From -0.2 to 0.2, spread evenly by the golden ratio."""
    return (trial * 0.6180339887 % 1.0 - 0.5) * 0.4


def _often(places: Sequence[float]) -> bool:
    """Whether there are enough trials of each word for quartiles to tell something."""
    return len(set(places)) <= _MOST_TICKS and all(places.count(place) >= 5 for place in set(places))


def _boxes(places: Sequence[float], values: Sequence[float]) -> Figure:
    return {
        "type": "box",
        "x": places,
        "y": values,
        "boxpoints": False,
        "fillcolor": "var(--shade)",
        "line": {"color": "var(--muted)", "width": 1},
        "hoverinfo": "skip",
    }


def _points(measured: Measured, having: Sequence[int], places: Sequence[float]) -> list[Figure]:
    """Pruned trials hollow, the best one larger."""
    kinds: list[tuple[list[int], Figure]] = [
        ([], {"color": "rgba(0,0,0,0)", "size": 7, "line": {"color": "var(--muted)", "width": 1.5}}),
        ([], {"color": "var(--accent)", "size": 7, "opacity": 0.75}),
        ([], {"color": "var(--best)", "size": 13, "symbol": "diamond", "line": {"color": "var(--card)", "width": 1.5}}),
    ]
    for position, index in enumerate(having):
        trial = measured.trials[index]
        kinds[2 if trial.number == measured.best else 0 if trial.status == PRUNED else 1][0].append(position)
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [places[p] for p in positions],
            "y": [measured.values[having[p]] for p in positions],
            "customdata": [measured.trials[having[p]].number for p in positions],
            "marker": marker,
        }
        for positions, marker in kinds
        if positions
    ]


def _metric_axis(metric: str, values: Sequence[float]) -> Figure:
    axis: Figure = {"title": {"text": plain(shortened(metric, 30))}}
    if spans(values):
        axis |= {"type": "log", "tickformat": "~g"}
        if max(values) / min(values) < 1000:
            axis["dtick"] = "D2"  # ticks at 1, 2 and 5 of each decade
    return axis


def learning(metric: str, curves: Sequence[Curve], best: int | None) -> Figure:
    """One metric over the steps, a line for each run, coloured from the best to the worst.

    Args:
        best: the number of the best run.
    """
    few = len(curves) <= _FEW_CURVES
    last = max((curve.place for curve in curves), default=0) or 1
    traces = []
    for curve in sorted(curves, key=lambda curve: -curve.place):  # the best one is drawn last, above the others
        is_best = curve.run.number == best
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(curve.steps) <= 30 else "lines",
                "name": plain(shortened(curve.run.name, 40)),
                "x": curve.steps,
                "y": [value if math.isfinite(value) else None for value in curve.values],
                "customdata": [curve.run.number] * len(curve.steps),
                "line": {"color": f"scale({curve.place / last:.3f})", "width": 3 if is_best else 1.5},
                "marker": {"size": 6 if is_best else 4},
                "opacity": 1 if is_best or few else 0.75,
                "showlegend": few,
            }
        )
    values = [value for curve in curves for value in curve.values if math.isfinite(value)]
    axes = {"xaxis": {"title": {"text": "step"}}, "yaxis": _metric_axis(metric, values)}
    return {"data": traces, "layout": {"height": 360, "legend": {"traceorder": "reversed", "y": 0.9}, **axes}}
