"""TensorBoard event files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import expfw
from expfw_callbacks.gradients import is_gradient_step, read_gradients, request_gradient_steps
from expfw_callbacks.plots.event_files import FLUSH_SECONDS, EventFiles, make_session_end, make_session_start
from expfw_callbacks.plots.images import is_image_shape, make_weight_images, restore_images
from expfw_callbacks.plots.predictions import find_mistakes, get_class_names

_SPLITS = ("train", "val", "test")
_OTHER_FOLDER, _SESSION_FOLDER = "other", "."


class TensorBoard(expfw.Callback):
    """Writes all metrics for TensorBoard to `tensorboard/` in the run folder.

    View them with `tensorboard --logdir runs`. Training, validation and test values have the same tag in the subfolders
    `train`, `val` and `test`, so TensorBoard shows them in one chart. All other metrics are in `other` with their full
    names. Options add histograms of the variables and their gradients, first-layer weights and misclassified
    samples as images, and the computational graph. Trials of a sweep also write their swept parameters, for the table
    of hyperparameters.
    """

    name = "tensorboard"

    @dataclass
    class Config:
        histograms: int | None = expfw.option(
            None, help="optimizer steps between two histograms of each variable; by default, no histograms", at_least=1
        )
        gradients: bool = expfw.option(False, help="histograms of the gradients, at the same steps")
        images: bool = expfw.option(False, help="first-layer weights as images, with each histogram and at the end")
        misclassified: int = expfw.option(
            0, help="maximum number of misclassified test (or validation) images to write at the end", at_least=0
        )
        graph: bool = expfw.option(False, help="the computational graph of the forward pass")

        def __post_init__(self) -> None:
            if self.gradients and self.histograms is None:
                raise ValueError(
                    "gradients is true, but histograms, the interval in steps, is not set; add "
                    "callback.tensorboard.histograms=100"
                )

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.files: EventFiles | None = None
        self.data: Any = None
        self.model: Any = None

    @expfw.hookimpl
    def expfw_run_started(self, run: expfw.Run, data: expfw.Splits, model: Any) -> None:
        self.data, self.model, self.files = data, model, EventFiles(run)
        if self.config.gradients:
            run.keep_gradients = True
        if run.swept:
            for path in self.files.root.glob("events.out.*"):  # TensorBoard shows the first status that it finds
                path.unlink()
            self.files.write_summary(_SESSION_FOLDER, 0, make_session_start(run))
        if run.resumed_at is None:  # a resumed run has these events already
            if self.config.graph:
                import tensorflow as tf

                x = data.train.take(slice(1)).x
                specs = tf.nest.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), x)
                forward = tf.function(lambda x: model(x), autograph=False).get_concrete_function(specs)
                self.files.write_graph("train", forward.graph)
            if self.config.histograms is not None:
                self._write_variables(run, self.files)
        self._request_next_call(run)

    @expfw.hookimpl
    def expfw_steps_ended(self, run: expfw.Run) -> None:
        assert self.files is not None, "set when the run started"
        every = self.config.histograms
        if every is not None:
            if self.config.gradients and is_gradient_step(run, every):
                gradients, step = read_gradients(run, self.model)
                self.files.write_histograms("train", step, gradients)
            if run.step % every == 0:
                self._write_variables(run, self.files)
        self._write_metrics(run)
        self._request_next_call(run)

    @expfw.hookimpl
    def expfw_evaluated(self, run: expfw.Run) -> None:
        self._write_metrics(run)

    @expfw.hookimpl
    def expfw_epoch_ended(self, run: expfw.Run) -> None:
        self._write_metrics(run)

    @expfw.hookimpl
    def expfw_run_ended(self, run: expfw.Run, result: expfw.Result) -> None:
        if self.files is None:  # the run ended before expfw_run_started
            return
        try:
            self._write_metrics(run)
            if run.swept:
                self.files.write_summary(_SESSION_FOLDER, 0, make_session_end(result.status))
            if result.error is None:
                every, train = self.config.histograms, run.config.train
                # the final weights are not those of the last step
                has_other_weights = train.test_on == "best" or train.average is not None
                if self.config.images and (every is None or run.step % every or has_other_weights):
                    self._write_weights(run, self.files, run.hook.expfw_variables(model=self.model))
                if self.config.misclassified:
                    self._write_misclassified(run, self.files)
        finally:
            self.files.close()
        if self.files.root.is_dir():
            run.add_artifact(self.files.root)

    def state(self) -> Mapping[str, Any]:
        if self.files is not None:
            self.files.flush()  # a run that resumes from this checkpoint does not write these events again
        return {}

    def _request_next_call(self, run: expfw.Run) -> None:
        every = self.config.histograms
        if every is not None and self.config.gradients:
            request_gradient_steps(run, every)
        elif every is not None:
            run.call_hooks_at((run.step // every + 1) * every)

    def _write_metrics(self, run: expfw.Run) -> None:
        assert self.files is not None, "set when the run started"
        for point in run.recent_points:
            values: dict[str, dict[str, float]] = {}
            for name, value in point.values.items():
                folder, tag = get_folder_and_tag(name)
                values.setdefault(folder, {})[tag] = value
            for folder, values_by_tag in values.items():
                self.files.write_scalars(folder, point.step, values_by_tag)
        self.files.flush(FLUSH_SECONDS)

    def _write_variables(self, run: expfw.Run, files: EventFiles) -> None:
        variables = run.hook.expfw_variables(model=self.model)
        files.write_histograms("train", run.step, variables)
        if self.config.images:
            self._write_weights(run, files, variables)

    def _write_weights(self, run: expfw.Run, files: EventFiles, variables: Any) -> None:
        pictures = make_weight_images(variables, self.data.spec.input_shape)
        if pictures is not None:
            largest = float(np.abs(pictures).max()) or 1.0
            files.write_images("train", run.step, "weights", pictures / (2 * largest) + 0.5)

    def _write_misclassified(self, run: expfw.Run, files: EventFiles) -> None:
        data, spec = self.data, self.data.spec
        split = data.validation if data.test is None else data.test
        if split is None or not (is_image_shape(spec.input_shape) and isinstance(spec.classes, int)):
            run.message(
                f"callback.{self.name}.misclassified={self.config.misclassified} has no effect: it needs test or "
                "validation images of 1 or 3 channels with one class each"
            )
            return
        mistakes = find_mistakes(split, spec.classes, lambda x: run.hook.expfw_predict(model=self.model, x=x))
        selected_mistakes = mistakes[: self.config.misclassified]
        if not selected_mistakes:
            return
        pictures = restore_images(
            split.take(np.array([m.number for m in selected_mistakes])).in_memory().x, spec.preprocessing
        )
        names = get_class_names(spec)
        rows: dict[str, list[int]] = {}
        for row, mistake in enumerate(selected_mistakes):
            tag = f"misclassified/{names[mistake.true_class]} taken for {names[mistake.predicted_class]}"
            rows.setdefault(tag, []).append(row)
        for tag, tag_rows in rows.items():
            numbers = ", ".join(str(selected_mistakes[row].number) for row in tag_rows)
            folder = "val" if data.test is None else "test"
            files.write_images(
                folder, run.step, tag, pictures[tag_rows], description=f"samples {numbers}, counted from 0"
            )


def get_folder_and_tag(name: str) -> tuple[str, str]:
    """Returns folder and tag of a metric; with any name, the folder is `train`, `val`, `test` or `other`."""
    split, _, metric = name.partition("/")
    return (split, metric) if split in _SPLITS and metric else (_OTHER_FOLDER, name or "unnamed")
