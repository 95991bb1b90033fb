"""Plots of a run or a sweep."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

import expfw
from expfw_callbacks.plots.predictions import count_confusion, get_class_names

_GRID_POINTS = 200  # points of a fitted line


class Pictures(expfw.Callback):
    """Plots runs and sweeps to PNG files in `pictures/`.

    For a run: learning curves; the fitted line, if the model maps one number to one number; the confusion matrix of the
    test (or validation) data; first-layer weights as images. For a sweep: metrics against each swept parameter. Trials
    of a sweep get plots only with `trials=true`.
    """

    @dataclass
    class Config:
        samples: int = expfw.option(10_000, help="maximum number of samples in the confusion matrix", at_least=1)
        trials: bool = expfw.option(False, help="also plot each trial of a sweep")

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        if config.trials:
            self.preload = ("expfw_callbacks.plots.drawings",)
        self.trials: list[Mapping[str, Any]] = []
        self.data: expfw.Splits | None = None
        self.model: Any = None
        self.import_thread: Thread | None = None

    @expfw.hookimpl
    def expfw_run_started(self, data: expfw.Splits, model: Any) -> None:
        self.data, self.model = data, model

    @expfw.hookimpl
    def expfw_run_ended(self, run: expfw.Run, result: expfw.Result) -> None:
        if run.swept and not self.config.trials:
            return
        from expfw_callbacks.plots import drawings

        curves: dict[str, list[tuple[float, float]]] = {}
        for point in run.points():
            for name, value in point.values.items():
                curves.setdefault(name, []).append((point.step, value))
        figures = {"learning_curves": drawings.draw_learning_curves(curves)}
        if self.data is not None and result.error is None:
            figures |= self._draw_model(run, self.data)
        if _save_figures(run.folder / "pictures", figures):
            run.add_artifact(run.folder / "pictures")

    @expfw.hookimpl
    def expfw_trial_ended(self, trial: Mapping[str, Any]) -> None:
        self.trials.append(trial)
        if self.import_thread is None:  # import while other trials run, not at the end of the sweep
            self.import_thread = Thread(target=import_module, args=("expfw_callbacks.plots.drawings",), daemon=True)
            self.import_thread.start()

    @expfw.hookimpl
    def expfw_sweep_ended(self, folder: Path, add_artifact: Callable[[Path], None]) -> None:
        trials = [trial for trial in self.trials if trial["status"] in ("FINISHED", "PRUNED")]
        figures = self._draw_sweep(sorted(trials, key=lambda trial: int(trial["number"])))
        if _save_figures(folder / "pictures", figures):
            add_artifact(folder / "pictures")

    def _draw_model(self, run: expfw.Run, data: expfw.Splits) -> dict[str, Any]:
        from expfw_callbacks.plots import drawings
        from expfw_callbacks.plots.images import make_weight_images

        figures: dict[str, Any] = {}
        spec = data.spec
        if spec.input_shape == (1,) and spec.classes is None and math.prod(spec.output_shape) == 1:
            figures["fitted_line"] = self._draw_fitted_line(run, data)
        if isinstance(spec.classes, int):
            figures["confusion_matrix"] = self._draw_confusion_matrix(run, data)
        pictures = make_weight_images(run.hook.expfw_variables(model=self.model), spec.input_shape)
        if pictures is not None:
            names = get_class_names(spec) if len(pictures) == spec.classes else ()
            figures["weights"] = drawings.draw_images(pictures, names)
        return figures

    def _draw_fitted_line(self, run: expfw.Run, data: expfw.Splits) -> Any:
        from expfw_callbacks.plots import drawings

        splits = {name: split.in_memory() for name, split in data.get_splits().items()}
        labels = {"validation": "val"}
        samples = {labels.get(name, name): (split.x[:, 0], split.y.reshape(-1)) for name, split in splits.items()}
        inputs = np.concatenate([x for x, _ in samples.values()])
        x = np.linspace(inputs.min(), inputs.max(), _GRID_POINTS, dtype=np.float32)
        y = run.hook.expfw_predict(model=self.model, x=x.reshape(-1, 1)).reshape(-1)
        return drawings.draw_fitted_line(samples, x, y)

    def _draw_confusion_matrix(self, run: expfw.Run, data: expfw.Splits) -> Any:
        from expfw_callbacks.plots import drawings

        confusion = count_confusion(run, self.model, data, self.config.samples)
        if confusion is None:
            return None
        name, counts = confusion
        total, correct = counts.sum(), np.trace(counts)
        return drawings.draw_confusion_matrix(
            counts, get_class_names(data.spec), f"{total:,} {name} samples, {correct / total:.2%}"
        )

    def _draw_sweep(self, trials: list[Mapping[str, Any]]) -> dict[str, Any]:
        from expfw_callbacks.plots import drawings

        figures: dict[str, Any] = {}
        if len(trials) < 2:
            return figures
        metric = re.sub("^(train/epoch_|train/|val/|test/)", "", trials[0]["objective_metric"])
        metric_names = {split: f"{split}/{metric}" for split in ("val", "test")} | {"train": f"train/epoch_{metric}"}
        curves = {
            f"{split}/{metric}": [trial["metrics"].get(name, math.nan) for trial in trials]
            for split, name in metric_names.items()
            if any(name in trial["metrics"] for trial in trials)
        }
        swept_options = [dict(override.split("=", 1) for override in trial["swept"]) for trial in trials]
        for key in swept_options[0] if curves else ():
            values = [options.get(key, "") for options in swept_options]
            name = re.sub(r"[^\w.]", "", key)
            figures[f"against_{name}"] = drawings.draw_metrics_against(name, values, curves, metric)
        return figures


def _save_figures(folder: Path, figures: Mapping[str, Any]) -> bool:
    """Writes the figures that are not None; returns whether it wrote any."""
    drawn_figures = {name: figure for name, figure in figures.items() if figure is not None}
    if drawn_figures:
        folder.mkdir(exist_ok=True)
    for name, figure in drawn_figures.items():
        figure.savefig(folder / f"{name}.png", dpi=110)
    return bool(drawn_figures)
