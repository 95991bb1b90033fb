"""A callback that wraps the model: trains towards flat minima.

expfw -p docs/authors/examples/sharpness_aware.py run model=cnn dataset=digits +callback=sharpness_aware
"""

from __future__ import annotations

from dataclasses import dataclass

import expfw


class FlatMinima:
    """A training step with the gradient at the point of highest loss, at a distance of `radius` from the weights.

    Put this class before a Keras model class in the list of base classes. Loss and metrics are those at the weights.
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
            scaled = self.optimizer.scale_loss(loss)  # changes the loss only in 16 bit precision
        return tape.gradient(scaled, self.trainable_variables, unconnected_gradients="zero"), loss, outputs


class SharpnessAware(expfw.Callback):
    """Trains a Keras model with sharpness-aware minimisation (SAM, arXiv 2010.01412); a step takes twice as long.

    The model keeps the layers, weights and optimizer of the model plugin. It is therefore saved and loaded as a model
    of that plugin, and a run resumes bit for bit.
    """

    @dataclass
    class Config:
        radius: float = expfw.option(
            0.05, help="distance between the weights and the point of the gradient", at_least=0
        )

    @expfw.hookimpl(wrapper=True)
    def expfw_build_model(self):
        model = yield  # here the model plugin builds the model
        import keras
        import tensorflow as tf

        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            raise expfw.ConfigError(f"callback={self.name} needs one device; replicas would use different points")
        cls = type(model)
        if not isinstance(model, keras.Model) or cls.train_step is not keras.Model.train_step:
            raise expfw.ConfigError(f"callback={self.name} needs a Keras model that does not override train_step")
        # Keep the compiled object, and change only its training step.
        model.__class__ = type(f"FlatMinima{cls.__name__}", (FlatMinima, cls), {"radius": self.config.radius})
        return model
