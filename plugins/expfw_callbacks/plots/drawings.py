"""Drawings of runs and sweeps: numbers in, matplotlib figures out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"train": "tab:blue", "val": "tab:orange", "test": "tab:green"}
Curve = Sequence[tuple[float, float]]


def draw_learning_curves(curves: Mapping[str, Curve]) -> Figure | None:
    """Each metric against the optimizer steps: one chart for training, validation and test together.

    Args:
        curves: metric such as `train/loss`, `train/epoch_loss`, `val/loss` to its points (step, value).
    """
    charts: dict[str, dict[str, Curve]] = {}
    for name, points in curves.items():
        split, _, metric = name.partition("/")
        if split in COLOURS and len(points):
            charts.setdefault(metric.removeprefix("epoch_"), {})[name] = points
    if not charts:
        return None
    metrics = sorted(charts, key=lambda metric: (metric != "loss", metric))[:6]
    figure = Figure(figsize=(5 * min(3, len(metrics)), 3.6 * math.ceil(len(metrics) / 3)), layout="constrained")
    for number, metric in enumerate(metrics, start=1):
        axes = figure.add_subplot(math.ceil(len(metrics) / 3), min(3, len(metrics)), number)
        for name, points in sorted(charts[metric].items()):
            _plot_curve(axes, name, points)
        if "accuracy" not in metric:
            _set_log_scale(axes, [value for points in charts[metric].values() for _, value in points])
        axes.set(title=metric, xlabel="optimizer steps")
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    return figure


def _plot_curve(axes: Axes, name: str, points: Curve) -> None:
    colour = COLOURS[name.partition("/")[0]]
    x, y = zip(*points, strict=True)
    is_batch_metric = name.startswith("train/") and not name.startswith("train/epoch_")
    alpha, width = (0.35, 0.8) if is_batch_metric else (1.0, 1.8)
    axes.plot(x, y, color=colour, label=name, marker="o" if len(points) == 1 else "", alpha=alpha, linewidth=width)


def _set_log_scale(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis where the values span more than a factor of thirty."""
    finite = [value for value in values if math.isfinite(value)]
    if finite and min(finite) > 0 and max(finite) > 30 * min(finite):
        axes.set_yscale("log")


def draw_fitted_line(samples: Mapping[str, tuple[np.ndarray, np.ndarray]], x: np.ndarray, y: np.ndarray) -> Figure:
    """Samples of one number and the values that a model gives along the way.

    Args:
        samples: split to its samples and targets, `(n,)` each.
        x, y: where the model was asked, ascending, and what it said, `(n,)` each.
    """
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    for split, (inputs, targets) in samples.items():
        axes.scatter(inputs, targets, s=22, color=COLOURS[split], label=split, alpha=0.8)
    axes.plot(x, y, color="black", linewidth=1.5, label="fitted")
    axes.set(xlabel="x", ylabel="y")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return figure


def draw_confusion_matrix(counts: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """How often each class (rows) was taken for which (columns).

    Args:
        counts: `(classes, classes)`.
    """
    side = min(12.0, 2.5 + 0.5 * len(names))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(names))
    axes.set(xlabel="predicted", ylabel="true", title=title, xticks=ticks, yticks=ticks)
    axes.set_xticklabels(names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticklabels(names)
    if len(names) <= 20:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour, fontsize=8)
    return figure


def draw_images(pictures: np.ndarray, names: Sequence[str] = ()) -> Figure:
    """Pictures in a grid, one channel in blue for negative and red for positive values.

    Args:
        pictures: values `(n, height, width, channels)`.
        names: written above each, if there are as many.
    """
    columns = min(len(pictures), 5 if len(pictures) <= 10 else 8)
    rows = math.ceil(len(pictures) / columns)
    figure = Figure(figsize=(1.5 * columns, 1.6 * rows), layout="constrained")
    largest = float(np.abs(pictures).max()) or 1.0
    for number, picture in enumerate(pictures):
        axes = figure.add_subplot(rows, columns, number + 1)
        if picture.shape[-1] == 1:
            axes.imshow(picture[..., 0], cmap="RdBu_r", vmin=-largest, vmax=largest)
        else:
            axes.imshow(np.clip(picture / (2 * largest) + 0.5, 0, 1))
        axes.set_axis_off()
        if len(names) == len(pictures):
            axes.set_title(names[number], fontsize=9)
    return figure


def draw_metrics_against(key: str, values: Sequence[str], curves: Mapping[str, Sequence[float]], metric: str) -> Figure:
    """Metrics of the trials of a sweep against what was swept: a line through the means, a dot for each trial.

    Args:
        key: what was swept; values: of it, one for each trial, as text.
        curves: metric such as `val/loss` to its values, one for each trial; NaN where it has none.
        metric: what they all measure, such as `loss`.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    numbers = _parse_numbers(values)
    positions = numbers if numbers is not None else _compute_positions(values)
    for name, metric_values in curves.items():
        pairs = [(p, m) for p, m in zip(positions, metric_values, strict=True) if math.isfinite(m)]
        x_positions = sorted({position for position, _ in pairs})
        means = [np.mean([m for p, m in pairs if p == position]) for position in x_positions]
        style, colour = "-" if numbers is not None else ":", COLOURS[name.partition("/")[0]]
        axes.plot([position for position, _ in pairs], [m for _, m in pairs], ".", color=colour, alpha=0.6)
        axes.plot(x_positions, means, style, color=colour, label=name, linewidth=1.6)
    if numbers is None:
        names = list(dict.fromkeys(values))
        axes.set_xticks(
            range(len(names)), names, rotation=45 if len(names) > 4 else 0, ha="right" if len(names) > 4 else "center"
        )
    elif min(numbers) > 0 and max(numbers) >= (30 if all(n.is_integer() for n in numbers) else 10) * min(numbers):
        axes.set_xscale("log")
    _set_log_scale(axes, [value for metric_values in curves.values() for value in metric_values])
    axes.set(xlabel=key, ylabel=metric)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return figure


def _parse_numbers(values: Sequence[str]) -> list[float] | None:
    try:
        return [float(value) for value in values]
    except ValueError:
        return None


def _compute_positions(values: Sequence[str]) -> list[float]:
    order = list(dict.fromkeys(values))
    return [float(order.index(value)) for value in values]
