"""Contract of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest

import expfw
from expfw.api.contracts import Model, Plugin
from expfw.api.data import get_named_parts
from expfw.config.overrides import format_override
from expfw.testing.bench import Bench
from expfw.testing.contract import RunContract


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

    def test_builds(self, expfw_bench: Bench) -> None:
        """The model builds for the data, and its outputs are finite, one per sample."""
        bench = expfw_bench
        try:
            hook, data, model = bench.build_model(bench.make_config())
        except Exception as error:
            text = error if isinstance(error, expfw.ExpfwError) else f"{type(error).__name__}: {error}"
            cause = None if isinstance(error, expfw.ExpfwError) else error
            remedy = "fix build, or set `data` and `options` that the model accepts"
            bench.fail(f"it does not build for {self.data}: {text}", remedy, cause)
        self._check_model(bench, model)
        if not hook.expfw_variables(model=model):
            remedy = "create them in build: add an Input to a Keras model, call a module once"
            bench.fail("build returns a model without trainable variables", remedy)
        outputs = hook.expfw_predict(model=model, x=data.train.take(slice(5)).x)
        for name, output in get_named_parts(outputs).items():
            classes, target_shape = self.data.targets().get(name, (None, None))
            shape = np.shape(output)
            if shape[:1] != (5,):
                bench.fail(f"it predicts outputs of shape {shape} for 5 samples", "return one output per sample")
            if not np.isfinite(output).all():
                bench.fail("it predicts outputs that are not finite", "return finite elements only")
            if classes is None and target_shape is not None and shape[1:] != target_shape:
                problem = f"it predicts outputs of shape {shape[1:]}, but the targets have shape {target_shape}"
                bench.fail(problem, "use data.output_shape for the output in build")
            if classes is not None and classes > 2 and shape[1:] != (classes,):
                problem = f"it predicts outputs of shape {shape[1:]} for {classes} classes"
                bench.fail(problem, "use data.classes for the width of the last layer in build")

    def _check_model(self, bench: Bench, model: Any) -> None:
        if model is None:
            bench.fail("build returns None", "return the model")
        if not getattr(model, "compiled", True):
            bench.fail("build returns a model that is not compiled", "call model.compile(optimizer, loss) in build")

    def test_loss_decreases(self, expfw_bench: Bench) -> None:
        """The loss of the last epoch is smaller than that of the first."""
        remedy = (
            "check that all trained variables are in trainable_variables and that the loss depends on them; or set "
            "`options` (for example the learning rate) or more `epochs`"
        )
        self.check_loss_decreases(expfw_bench, 2, remedy)

    def test_saved_model_predicts_the_same(self, expfw_bench: Bench) -> None:
        """The saved model, loaded again, makes the same predictions from raw samples as the trained model."""
        remedy = (
            "store all values that a prediction depends on in variables that the model tracks, and do not draw random "
            "constants in build: it is called again when a model is loaded"
        )
        self.check_saved_predictions(expfw_bench, remedy)

    def test_two_replicas_match_one_device(self, expfw_bench: Bench) -> None:
        """The losses on two mirrored replicas are equal to those on one device."""
        bench = expfw_bench
        if self.not_on_replicas:
            pytest.skip(f"{bench.label} does not support replicas: {self.not_on_replicas}")
        overrides = [format_override(f"++model.{name}", value) for name, value in self.without_noise.items()]
        folders = bench.run(*overrides).folder, bench.run_on_two_replicas(*overrides)
        remedy = (
            "compute losses as means over the samples of a batch, set synchronized=True for batch normalisation, and "
            "set `without_noise` to disable dropout and other noise; or set `not_on_replicas` to a reason"
        )
        self.check_same_losses(bench, *folders, "on two replicas than on one device", remedy)

    def test_random_state_can_be_saved(self, expfw_bench: Bench) -> None:
        """All random operations of a training step have a state that can be saved in checkpoints."""
        bench = expfw_bench
        hook, data, model = bench.build_model(bench.make_config())
        self._check_model(bench, model)
        if operations := hook.expfw_unsaved_random(model=model, data=data):
            bench.fail(
                f"it draws random numbers with {', '.join(operations)}, whose state cannot be saved",
                "draw with keras.random and a keras.random.SeedGenerator that is an attribute of the layer or model, "
                "with a tf.random.Generator, or with tf.random.stateless_* functions",
            )
