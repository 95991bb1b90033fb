"""Contract of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

import expfw
from expfw.api.contracts import Model, Plugin
from expfw.api.data import get_named_parts
from expfw.testing.bench import Bench, read_run_points
from expfw.testing.failure import fail
from expfw.testing.overrides import make_override
from expfw.testing.run_contract import RunContract, read_metric


class ModelContract(RunContract):
    """The checks of a model.

    Attributes:
        data: data specification that the model accepts: shape of a sample, and classes or shape of a target.
        without_noise: options that disable random operations, such as `{"dropout": 0.0}`, for the comparison of
            replicas.
        not_on_replicas: reason why the model does not support several replicas; skips that check. Empty if it does.
    """

    base: ClassVar[type[Plugin]] = Model
    without_noise: ClassVar[Mapping[str, Any]] = {}
    not_on_replicas: ClassVar[str] = ""

    def select_plugins(self, bench: Bench) -> list[str]:
        return [*bench.select_plugin(), "callback=[checkpoint]", "backend=tf-cpu"]

    def test_builds(self, expfw_bench: Bench) -> None:
        """The model builds for the data, and its outputs are finite, one per sample."""
        bench = expfw_bench
        try:
            hook, data, model = bench.build_model(bench.make_config())
        except expfw.ExpfwError as error:
            fail(
                f"{bench.plugin_label} does not build for {self.data}: {error}",
                "set `data` and `options` that the model accepts",
            )
        except Exception as error:
            problem = f"{bench.plugin_label} does not build for {self.data}: {type(error).__name__}: {error}"
            fail(problem, "fix build, or set `data` that the model accepts", cause=error)
        self._check_model(bench, model)
        if not hook.expfw_variables(model=model):
            fail(
                f"{bench.plugin_label}: build returns a model without trainable variables",
                "create them in build: add an Input to a Keras model, call a module once",
            )
        samples = data.train.take(slice(5)).in_memory()
        outputs = hook.expfw_predict(model=model, x=samples.x)
        for name, output in get_named_parts(outputs).items():
            self._check_output(bench, name, np.asarray(output))

    def _check_model(self, bench: Bench, model: Any) -> None:
        if model is None:
            fail(f"{bench.plugin_label}: build returns None", "return the model")
        if not getattr(model, "compiled", True):
            fail(
                f"{bench.plugin_label}: build returns a model that is not compiled",
                "call model.compile(optimizer, loss) in build",
            )

    def _check_output(self, bench: Bench, name: str, output: np.ndarray) -> None:
        classes, shape = self.data.targets().get(name, (None, None))
        if output.shape[:1] != (5,) or not np.isfinite(output).all():
            problem = "that are not finite" if output.shape[:1] == (5,) else f"of shape {output.shape} for 5 samples"
            fail(
                f"{bench.plugin_label} predicts outputs {problem}",
                "return one output per sample, with finite elements only",
            )
        if classes is None and shape is not None and output.shape[1:] != tuple(shape):
            fail(
                f"{bench.plugin_label} predicts outputs of shape {output.shape[1:]}, but the targets have shape "
                f"{tuple(shape)}",
                "use data.output_shape for the output in build",
            )
        if classes is not None and classes > 2 and output.shape[1:] != (classes,):
            fail(
                f"{bench.plugin_label} predicts outputs of shape {output.shape[1:]} for {classes} classes",
                "use data.classes for the width of the last layer in build",
            )

    def test_loss_decreases(self, expfw_bench: Bench) -> None:
        """The loss of the last epoch is smaller than that of the first."""
        losses = read_metric(expfw_bench.run())
        if not (np.isfinite(losses).all() and len(losses) > 1 and losses[-1] < losses[0]):
            loss_history = ", ".join(f"{loss:.4g}" for loss in losses)
            fail(
                f"{expfw_bench.plugin_label} does not decrease the loss: train/epoch_loss was {loss_history}",
                "check that all trained variables are in trainable_variables and that the loss depends on them; or set "
                "`options` (for example the learning rate) or more `epochs`",
            )

    def test_saved_model_predicts_the_same(self, expfw_bench: Bench) -> None:
        """The saved model, loaded again, makes the same predictions from raw samples as the trained model."""
        bench = expfw_bench
        expected, actual = bench.make_predictions()
        for name, output in get_named_parts(expected).items():
            if not np.allclose(output, get_named_parts(actual)[name], rtol=1e-5, atol=1e-6):
                difference = np.abs(np.asarray(output) - get_named_parts(actual)[name]).max()
                fail(
                    f"{bench.plugin_label}: the predictions of the saved and the trained model differ (by "
                    f"{difference:.3g})",
                    "store all values that a prediction depends on in variables that the model tracks, and do not "
                    "draw random constants in build: it is called again when a model is loaded",
                )

    def test_two_replicas_match_one_device(self, expfw_bench: Bench) -> None:
        """The losses on two mirrored replicas are equal to those on one device."""
        bench = expfw_bench
        if self.not_on_replicas:
            bench.skip(f"{bench.plugin_label} does not support replicas: {self.not_on_replicas}")
        noise_overrides = [make_override(f"model.{name}", value) for name, value in self.without_noise.items()]
        one_device, two_replicas = (
            read_run_points(bench.run(*noise_overrides).folder),
            read_run_points(bench.run_on_two_replicas(*noise_overrides)),
        )
        self.check_same_losses(
            bench,
            one_device,
            two_replicas,
            "on two replicas than on one device",
            "compute losses as means over the samples of a batch, set synchronized=True for batch normalisation, and "
            "set `without_noise` to disable dropout and other noise; or set `not_on_replicas` to a reason",
        )

    def test_random_state_can_be_saved(self, expfw_bench: Bench) -> None:
        """All random operations of a training step have a state that can be saved in checkpoints."""
        bench = expfw_bench
        hook, data, model = bench.build_model(bench.make_config())
        self._check_model(bench, model)
        operations = hook.expfw_unsaved_random(model=model, data=data)
        if operations:
            fail(
                f"{bench.plugin_label} draws random numbers with {', '.join(operations)}, whose state cannot be saved",
                "draw with keras.random and a keras.random.SeedGenerator that is an attribute of the layer or model, "
                "with a tf.random.Generator, or with tf.random.stateless_* functions",
            )
