"""TensorBoard event files."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import expfw
from expfw_callbacks.gradients import is_gradient_step, read_gradients, request_gradient_steps
from expfw_callbacks.plots.event_files import EventFiles
from expfw_callbacks.plots.samples import (
    find_mistakes,
    get_class_names,
    is_image_shape,
    make_weight_images,
    predict_classes,
    restore_images,
)

_SPLITS = ("train", "val", "test")
_OTHER_FOLDER, _SESSION_FOLDER = "other", "."
_MAX_SAMPLES = 10_000  # samples to search for misclassified ones
_MAX_EXACT_INTEGER = 2**53  # TensorBoard stores numbers as float64


class TensorBoard(expfw.Callback):
    """Writes all metrics for TensorBoard to `tensorboard/` in the run folder.

    View them with `tensorboard --logdir runs`. Training, validation and test values have the same tag in the subfolders
    `train`, `val` and `test`, so TensorBoard shows them in one chart. All other metrics are in `other` with their full
    names. Options add histograms of the variables and their gradients, first-layer weights and misclassified
    samples as images, and the computational graph. Trials of a sweep also write their swept parameters, for the table
    of hyperparameters.
    """

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

    files: EventFiles | None = None
    data: Any = None
    model: Any = None

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
                graph = forward.graph.as_graph_def(add_shapes=True)
                self.files.write_event("train", 0, graph_def=graph.SerializeToString())
            if self.config.histograms is not None:
                self._write_variables(run, self.files)
        if self.config.histograms is not None:
            request_gradient_steps(run, self.config.histograms)

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
            request_gradient_steps(run, every)
        self.expfw_evaluated(run)

    @expfw.hookimpl
    def expfw_evaluated(self, run: expfw.Run) -> None:
        """Writes the new metrics."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        assert self.files is not None, "set when the run started"
        for point in run.recent_points:
            values_by_folder = defaultdict(list)
            for name, value in point.values.items():
                split, _, metric = name.partition("/")
                folder, tag = (split, metric) if split in _SPLITS and metric else (_OTHER_FOLDER, name or "unnamed")
                values_by_folder[folder].append(Summary.Value(tag=tag, simple_value=value))
            for folder, values in values_by_folder.items():
                self.files.write_event(folder, point.step, summary=Summary(value=values))
        self.files.flush()

    expfw_epoch_ended = expfw_evaluated

    @expfw.hookimpl
    def expfw_run_ended(self, run: expfw.Run, result: expfw.Result) -> None:
        if self.files is None:  # the run ended before expfw_run_started
            return
        try:
            self.expfw_evaluated(run)
            if run.swept:
                self.files.write_summary(_SESSION_FOLDER, 0, make_session_end(result.status))
            if result.error is None:
                every = self.config.histograms
                # the final weights may not be those of the last step
                has_other_weights = run.model_step not in (None, run.step) or run.config.train.average is not None
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
            self.files.flush(min_seconds=0)  # a run that resumes from this checkpoint does not write these events again
        return {}

    def _write_variables(self, run: expfw.Run, files: EventFiles) -> None:
        variables = run.hook.expfw_variables(model=self.model)
        files.write_histograms("train", run.step, variables)
        if self.config.images:
            self._write_weights(run, files, variables)

    def _write_weights(self, run: expfw.Run, files: EventFiles, variables: Mapping[str, Any]) -> None:
        if (images := make_weight_images(variables, self.data.spec.input_shape)) is not None:
            files.write_images("train", run.step, "weights", images)

    def _write_misclassified(self, run: expfw.Run, files: EventFiles) -> None:
        spec, predictions = self.data.spec, None
        if is_image_shape(spec.input_shape):
            predictions = predict_classes(run, self.model, self.data, _MAX_SAMPLES)
        if predictions is None:
            run.message(
                f"callback.{self.name}.misclassified={self.config.misclassified} has no effect: it needs images of 1 "
                "or 3 channels, and a model that predicts one class for each"
            )
            return
        split, classes, scores = predictions
        numbers = find_mistakes(classes, scores)[: self.config.misclassified]
        if not len(numbers):
            return
        images = restore_images(self.data.get_splits()[split].take(numbers).x, spec.preprocessing)
        names, predicted = get_class_names(spec), scores.argmax(axis=1)
        rows_by_tag = defaultdict(list)
        for row, number in enumerate(numbers):
            tag = f"misclassified/{names[classes[number]]} taken for {names[predicted[number]]}"
            rows_by_tag[tag].append(row)
        for tag, rows in rows_by_tag.items():
            description = f"samples {', '.join(map(str, numbers[rows]))}, counted from 0"
            files.write_images("val" if split == "validation" else split, run.step, tag, images[rows], description)


def make_session_start(run: expfw.Run) -> Any:
    """Returns the `Summary` with the swept values of a trial, as text if TensorBoard cannot store them.

    The run ID is the name of the trial in the table of hyperparameters.
    """
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    values = {  # one infinite number would hide all other trials
        key: value if isinstance(value, (int, float)) and abs(value) <= _MAX_EXACT_INTEGER else str(value)
        for key, value in run.swept.items()
    }
    return hparams_pb(values, trial_id=run.id, start_time_secs=time.time() - run.seconds)


def make_session_end(status: str) -> Any:
    """Returns the `Summary` with the status of a trial; a pruned trial counts as a success."""
    from tensorboard.plugins.hparams.api_pb2 import Status
    from tensorboard.plugins.hparams.summary import session_end_pb

    return session_end_pb(Status.Value("STATUS_SUCCESS" if status in ("FINISHED", "PRUNED") else "STATUS_FAILURE"))
