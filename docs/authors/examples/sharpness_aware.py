"""A callback around the model: it trains towards flat minima.

expfw -p docs/authors/examples/sharpness_aware.py run model=cnn dataset=digits +callback=sharpness_aware
"""

from __future__ import annotations

from dataclasses import dataclass

import expfw


class FlatMinima:
    """A training step with the gradient of the place, `radius` away from the weights, where the loss is highest.

    Comes before a Keras model among the bases of a class. Loss and metrics are those at the weights themselves.
    """

    radius: float

    def train_step(self, data):
        import keras
        import tensorflow as tf

        batch = keras.utils.unpack_x_y_sample_weight(data)
        variables = self.trainable_variables
        weights = [tf.identity(variable) for variable in variables]
        gradients, loss, outputs = self._gradients(*batch)
        scale = self.radius / (tf.linalg.global_norm(gradients) + 1e-12)
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.assign_add(tf.cast(scale, gradient.dtype) * gradient)
        gradients, _, _ = self._gradients(*batch)
        for variable, weight in zip(variables, weights, strict=True):
            variable.assign(weight)
        self.optimizer.apply(gradients, variables)
        x, y, sample_weight = batch
        return {**self.compute_metrics(x, y, outputs, sample_weight), "loss": loss}

    def _gradients(self, x, y, sample_weight):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            outputs = self(x, training=True)
            loss = self.compute_loss(x, y, outputs, sample_weight)
            scaled = self.optimizer.scale_loss(loss)  # does nothing but in 16 bits
        return tape.gradient(scaled, self.trainable_variables, unconnected_gradients="zero"), loss, outputs


class SharpnessAware(expfw.Callback):
    """Sharpness-aware minimisation (SAM, arXiv 2010.01412) of whatever Keras model; a step takes twice as long.

    Its layers, weights and optimizer are those that the model plugin made. So it is saved and loaded as that plugin's
    model, and goes on exactly.
    """

    @dataclass
    class Config:
        radius: float = expfw.option(0.05, help="how far from the weights the gradient is taken")

        def __post_init__(self) -> None:
            if self.radius < 0:
                raise ValueError(f"radius is {self.radius}; expected 0 or more")

    @expfw.hookimpl(wrapper=True)
    def expfw_build_model(self):
        model = yield  # here the model plugin builds
        import keras
        import tensorflow as tf

        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            raise expfw.ConfigError(f"callback={self.name} is for one device: replicas would climb to different places")
        cls = type(model)
        if not isinstance(model, keras.Model) or cls.train_step is not keras.Model.train_step:
            raise expfw.ConfigError(f"callback={self.name} takes a Keras model without a train_step of its own")
        # The same object, compiled as it is: only its step becomes another.
        model.__class__ = type(f"FlatMinima{cls.__name__}", (FlatMinima, cls), {"radius": self.config.radius})
        return model
