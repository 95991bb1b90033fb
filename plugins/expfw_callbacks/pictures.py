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
from expfw_callbacks.plots.samples import count_confusion, get_class_names, make_weight_images

_DRAWINGS = "expfw_callbacks.plots.drawings"
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
        self.preload = (_DRAWINGS,) if config.trials else ()
        self.trials: list[Mapping[str, Any]] = []
        self.data: expfw.Splits | None = None
        self.model: Any = None

    @expfw.hookimpl
    def expfw_run_started(self, data: expfw.Splits, model: Any) -> None:
        self.data, self.model = data, model

    @expfw.hookimpl
    def expfw_run_ended(self, run: expfw.Run, result: expfw.Result) -> None:
        if run.swept and not self.config.trials:
            return
        from expfw_callbacks.plots import drawings

        figures = {"learning_curves": drawings.draw_learning_curves(run.points())}
        if self.data is not None and result.error is None:
            figures |= self._draw_model(run, self.data)
        _save_figures(figures, run.folder / "pictures", run.add_artifact)

    def _draw_model(self, run: expfw.Run, data: expfw.Splits) -> dict[str, Any]:
        from expfw_callbacks.plots import drawings

        figures, spec = {}, data.spec
        if spec.input_shape == (1,) and spec.classes is None and math.prod(spec.output_shape) == 1:
            labels = {"train": "train", "validation": "val", "test": "test"}
            samples = {labels[name]: (s.x[:].reshape(-1), s.y.reshape(-1)) for name, s in data.get_splits().items()}
            inputs = np.concatenate([x for x, _ in samples.values()])
            x = np.linspace(inputs.min(), inputs.max(), _GRID_POINTS, dtype=np.float32)
            y = run.hook.expfw_predict(model=self.model, x=x.reshape(-1, 1)).reshape(-1)
            figures["fitted_line"] = drawings.draw_fitted_line(samples, x, y)
        if (confusion := count_confusion(run, self.model, data, self.config.samples)) is not None:
            split, counts = confusion
            title = f"{counts.sum():,} {split} samples, {np.trace(counts) / counts.sum():.2%}"
            figures["confusion_matrix"] = drawings.draw_confusion_matrix(counts, get_class_names(spec), title)
        images = make_weight_images(run.hook.expfw_variables(model=self.model), spec.input_shape)
        if images is not None:
            names = get_class_names(spec) if len(images) == spec.classes else ()
            figures["weights"] = drawings.draw_images(images, names)
        return figures

    @expfw.hookimpl
    def expfw_trial_ended(self, trial: Mapping[str, Any]) -> None:
        if not self.trials:  # import while other trials run, not at the end of the sweep
            Thread(target=import_module, args=(_DRAWINGS,), daemon=True).start()
        self.trials.append(trial)

    @expfw.hookimpl
    def expfw_sweep_ended(self, folder: Path, add_artifact: Callable[[Path], None]) -> None:
        trials = [trial for trial in self.trials if trial["status"] in ("FINISHED", "PRUNED")]
        trials.sort(key=lambda trial: int(trial["number"]))
        if len(trials) < 2:
            return
        from expfw_callbacks.plots import drawings

        metric = re.sub("^(train/epoch_|train/|val/|test/)", "", trials[0]["objective_metric"])
        prefixes = {"val": "val/", "test": "test/", "train": "train/epoch_"}
        curves = {
            f"{split}/{metric}": [trial["metrics"].get(prefix + metric, math.nan) for trial in trials]
            for split, prefix in prefixes.items()
            if any(prefix + metric in trial["metrics"] for trial in trials)
        }
        swept_options = [dict(override.split("=", 1) for override in trial["swept"]) for trial in trials]
        figures = {}
        for key in swept_options[0] if curves else ():
            values = [options.get(key, "") for options in swept_options]
            name = re.sub(r"[^\w.]", "", key)
            figures[f"against_{name}"] = drawings.draw_metrics_against(name, values, curves, metric)
        _save_figures(figures, folder / "pictures", add_artifact)


def _save_figures(figures: Mapping[str, Any], folder: Path, add_artifact: Callable[[Path], None]) -> None:
    """Writes the figures that are not None to PNG files; the folder becomes an artifact if there are any."""
    for name, figure in figures.items():
        if figure is not None:
            folder.mkdir(exist_ok=True)
            figure.savefig(folder / f"{name}.png", dpi=110)
    if folder.is_dir():
        add_artifact(folder)
