"""Matplotlib figures of runs and sweeps."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

import expfw

COLOURS = {"train": "tab:blue", "val": "tab:orange", "test": "tab:green"}


def draw_learning_curves(points: Iterable[expfw.Point]) -> Figure | None:
    """Draws each metric against the optimizer steps: training, validation and test in one chart.

    Returns:
        The figure; None without any points of such metrics.
    """
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for point in points:
        for name, value in point.values.items():
            curves[name].append((point.step, value))
    charts: dict[str, list[str]] = defaultdict(list)
    for name in sorted(curves):
        split, _, metric = name.partition("/")
        if split in COLOURS:
            charts[metric.removeprefix("epoch_")].append(name)
    if not charts:
        return None
    metrics = sorted(charts, key=lambda metric: (metric != "loss", metric))[:6]
    rows, columns = math.ceil(len(metrics) / 3), min(3, len(metrics))
    figure = Figure(figsize=(5 * columns, 3.6 * rows), layout="constrained")
    for number, metric in enumerate(metrics, start=1):
        axes = figure.add_subplot(rows, columns, number)
        for name in charts[metric]:
            x, y = zip(*curves[name], strict=True)
            is_batch_metric = name.startswith("train/") and not name.startswith("train/epoch_")
            alpha, width = (0.35, 0.8) if is_batch_metric else (1.0, 1.8)
            colour, marker = COLOURS[name.partition("/")[0]], "o" if len(x) == 1 else ""
            axes.plot(x, y, color=colour, label=name, marker=marker, alpha=alpha, linewidth=width)
        if "accuracy" not in metric:
            _set_log_scale(axes.set_yscale, [value for name in charts[metric] for _, value in curves[name]], 30)
        axes.set(title=metric, xlabel="optimizer steps")
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    return figure


def _set_log_scale(set_scale: Callable[[str], None], values: Sequence[float], ratio: float) -> None:
    """Sets a logarithmic scale if the values are positive and the largest is `ratio` times the smallest or more."""
    finite = [value for value in values if math.isfinite(value)]
    if finite and min(finite) > 0 and max(finite) >= ratio * min(finite):
        set_scale("log")


def draw_fitted_line(samples: Mapping[str, tuple[np.ndarray, np.ndarray]], x: np.ndarray, y: np.ndarray) -> Figure:
    """Draws samples of one number, and the predictions of a model as a line.

    Args:
        samples: samples and targets of each split, `(n,)` each.
        x: inputs of the model in ascending order, `(n,)`.
        y: predictions for `x`, `(n,)`.
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
    """Draws a confusion matrix: true classes in rows, predicted classes in columns.

    Args:
        counts: numbers of samples, `(classes, classes)`.
        names: names of the classes.
        title: title of the figure.
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
    """Draws pictures in a grid; with one channel, values below 0.5 are blue and values above it red.

    Args:
        pictures: values in [0, 1], `(n, height, width, channels)`.
        names: titles of the pictures; not shown unless each picture has one.
    """
    columns = min(len(pictures), 5 if len(pictures) <= 10 else 8)
    rows = math.ceil(len(pictures) / columns)
    figure = Figure(figsize=(1.5 * columns, 1.6 * rows), layout="constrained")
    for number, picture in enumerate(pictures):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.imshow(np.clip(picture, 0, 1), cmap="RdBu_r", vmin=0, vmax=1)
        axes.set_axis_off()
        if len(names) == len(pictures):
            axes.set_title(names[number], fontsize=9)
    return figure


def draw_metrics_against(key: str, values: Sequence[str], curves: Mapping[str, Sequence[float]], metric: str) -> Figure:
    """Draws metrics against a swept parameter: a dot for each trial and a line through the means.

    Args:
        key: dotted key of the swept parameter.
        values: value of the parameter in each trial, as text.
        curves: values of each metric, such as `val/loss`, one for each trial; NaN if the trial did not measure it.
        metric: common name of the metrics without their splits, such as `loss`.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    try:
        positions, style = [float(value) for value in values], "-"
        _set_log_scale(axes.set_xscale, positions, 30 if all(p.is_integer() for p in positions) else 10)
    except ValueError:  # texts
        names = list(dict.fromkeys(values))
        positions, style = [float(names.index(value)) for value in values], ":"
        rotation, alignment = (45, "right") if len(names) > 4 else (0, "center")
        axes.set_xticks(range(len(names)), names, rotation=rotation, ha=alignment)
    for name, metric_values in curves.items():
        pairs = [(p, m) for p, m in zip(positions, metric_values, strict=True) if math.isfinite(m)]
        x_positions = sorted({position for position, _ in pairs})
        means = [np.mean([m for p, m in pairs if p == position]) for position in x_positions]
        colour = COLOURS[name.partition("/")[0]]
        axes.plot([position for position, _ in pairs], [m for _, m in pairs], ".", color=colour, alpha=0.6)
        axes.plot(x_positions, means, style, color=colour, label=name, linewidth=1.6)
    _set_log_scale(axes.set_yscale, [value for metric_values in curves.values() for value in metric_values], 30)
    axes.set(xlabel=key, ylabel=metric)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return figure
