"""What a model promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

import expfw
from expfw.api.contracts import Model, Plugin
from expfw.api.data import get_named_parts
from expfw.testing.bench import Bench, read_run_points
from expfw.testing.failure import fail
from expfw.testing.run_contract import RunContract, read_metric
from expfw.testing.words import make_override


class ModelContract(RunContract):
    """The checks of a model.

    Attributes:
        data: what it takes: the shape of a sample, classes or the shape of a target.
        without_noise: options that switch off what replicas draw differently, `{"dropout": 0.0}`, for the check that
            compares them.
        not_on_replicas: why it is not for several replicas, where it is not; that check is skipped then.
    """

    base: ClassVar[type[Plugin]] = Model
    without_noise: ClassVar[Mapping[str, Any]] = {}
    not_on_replicas: ClassVar[str] = ""

    def select_plugins(self, bench: Bench) -> list[str]:
        return [*bench.select_plugin(), "callback=[checkpoint]", "backend=tf-cpu"]

    def test_builds(self, expfw_bench: Bench) -> None:
        """It builds a model for these data whose outputs are numbers, as many as there are samples."""
        bench = expfw_bench
        try:
            hook, data, model = bench.build_model(bench.make_config())
        except expfw.ExpfwError as error:
            fail(
                f"{bench.plugin_label} does not build for {self.data}: {error}",
                "set `data` and `options` to what it takes",
            )
        except Exception as error:
            problem = f"{bench.plugin_label} does not build for {self.data}: {type(error).__name__}: {error}"
            fail(problem, "mend build, or set `data` to what it takes", cause=error)
        self._check_model(bench, model)
        if not hook.expfw_variables(model=model):
            fail(
                f"{bench.plugin_label}: build returns a model without trained variables",
                "create them in build: give a Keras model its Input, call a module once",
            )
        samples = data.train.take(slice(5)).in_memory()
        outputs = hook.expfw_predict(model=model, x=samples.x)
        for name, output in get_named_parts(outputs).items():
            self._check_output(bench, name, np.asarray(output))

    def _check_model(self, bench: Bench, model: Any) -> None:
        if model is None:
            fail(f"{bench.plugin_label}: build returns None", "let it return the model")
        if not getattr(model, "compiled", True):
            fail(
                f"{bench.plugin_label}: build returns a model that is not compiled",
                "call model.compile(optimizer, loss) there",
            )

    def _check_output(self, bench: Bench, name: str, output: np.ndarray) -> None:
        classes, shape = self.data.targets().get(name, (None, None))
        if output.shape[:1] != (5,) or not np.isfinite(output).all():
            fail(
                f"{bench.plugin_label} predicts {output.shape} for 5 samples, or what is no number",
                "let the first axis of the output be that of the samples, and every element be finite",
            )
        if classes is None and shape is not None and output.shape[1:] != tuple(shape):
            fail(
                f"{bench.plugin_label} predicts values of shape {output.shape[1:]}, the targets have {tuple(shape)}",
                "let build take the shape of its output from data.output_shape",
            )
        if classes is not None and classes > 2 and output.shape[1:] != (classes,):
            fail(
                f"{bench.plugin_label} predicts {output.shape[1:]} for {classes} classes",
                "let build take the width of its last layer from data.classes",
            )

    def test_loss_falls(self, expfw_bench: Bench) -> None:
        """Training makes the loss of an epoch smaller."""
        losses = read_metric(expfw_bench.run())
        if not (np.isfinite(losses).all() and len(losses) > 1 and losses[-1] < losses[0]):
            loss_history = ", ".join(f"{loss:.4g}" for loss in losses)
            fail(
                f"the loss with {expfw_bench.plugin_label} does not fall; epoch by epoch it was {loss_history}",
                "see that all trained variables are in trainable_variables and the loss depends on them; else set "
                "`options` (a learning rate that suits) or more `epochs`",
            )

    def test_saved_model_predicts_the_same(self, expfw_bench: Bench) -> None:
        """The saved model, loaded again, predicts from raw samples what the trained one predicted."""
        bench = expfw_bench
        expected, actual = bench.make_predictions()
        for name, output in get_named_parts(expected).items():
            if not np.allclose(output, get_named_parts(actual)[name], rtol=1e-5, atol=1e-6):
                difference = np.abs(np.asarray(output) - get_named_parts(actual)[name]).max()
                fail(
                    f"the saved model of {bench.plugin_label} predicts otherwise than the trained one (by "
                    f"{difference:.3g})",
                    "keep all that a prediction depends on in variables that the model tracks, and draw no constants "
                    "in build: it is called again when a model is loaded",
                )

    def test_two_replicas_are_one_device(self, expfw_bench: Bench) -> None:
        """On two mirrored replicas, the losses are those of one device."""
        bench = expfw_bench
        if self.not_on_replicas:
            bench.skip(f"{bench.plugin_label} is not for replicas: {self.not_on_replicas}")
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
            "let losses be means over the samples of a batch, batch normalisation be synchronized=True, and set "
            "`without_noise` to what switches off dropout and other noise; or say in `not_on_replicas` why not",
        )

    def test_random_state_can_be_saved(self, expfw_bench: Bench) -> None:
        """All random operations of a training step have a state that checkpoints can keep."""
        bench = expfw_bench
        hook, data, model = bench.build_model(bench.make_config())
        self._check_model(bench, model)
        operations = hook.expfw_unsaved_random(model=model, data=data)
        if operations:
            fail(
                f"{bench.plugin_label} draws random numbers by {', '.join(operations)}, whose state cannot be saved",
                "draw by keras.random with a keras.random.SeedGenerator that the layer or model keeps, by a "
                "tf.random.Generator, or by tf.random.stateless_* functions",
            )
