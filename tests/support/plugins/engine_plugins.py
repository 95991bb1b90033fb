"""Plugins that test the engine: odd sizes, several inputs, custom training steps. Load with `-p`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

import expfw


class Odd(expfw.Dataset):
    """100 images of 4x4 in 3 classes; with a batch size of 33, the last batch of an epoch has 1 sample."""

    @dataclass
    class Config:
        samples: int = 100
        weights: bool = False

    def load(self, seed):
        generator = np.random.default_rng(5)
        x = generator.normal(size=(self.config.samples + 67, 4, 4, 1)).astype(np.float32)
        y = x.reshape(len(x), 16)[:, :3].argmax(axis=1).astype(np.int32)
        weight = generator.uniform(0.1, 2, len(x)).astype(np.float32) if self.config.weights else None
        whole = expfw.Split(x, y, weight)
        ends = (0, self.config.samples, self.config.samples + 34, self.config.samples + 67)
        parts = [whole.take(slice(a, b)) for a, b in itertools.pairwise(ends)]
        return expfw.Splits(expfw.DataSpec((4, 4, 1), 3), *parts)


def make_loss(keras, **options):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **options)


def make_layers(keras, normalize=None, outputs=3):
    """Returns the layers of a small network for these images."""
    stack = [keras.layers.Input((4, 4, 1)), keras.layers.Conv2D(4, 3, activation="relu")]
    if normalize is not None:
        stack.append(keras.layers.BatchNormalization(synchronized=normalize))
    stack += [keras.layers.MaxPooling2D(2), keras.layers.Flatten()]
    return [*stack, keras.layers.Dense(outputs, kernel_regularizer=keras.regularizers.L2(0.01))]


class KerasModel(expfw.Model):  # imports Keras when it is built
    def build(self, data):
        import keras

        return self.make_model(keras, data)


class Small(KerasModel):  # a convolution, pooling and an L2 penalty; optional batch normalisation, synchronised or not
    @dataclass
    class Config:
        normalize: bool = False
        synchronized: bool = True
        loss_scaling: bool = False
        reduction: str = "sum_over_batch_size"
        optimizer: expfw.Optimizer = expfw.option(expfw.Optimizer("adam", 0.01))

    def make_model(self, keras, data):
        options = self.config
        model = keras.Sequential(make_layers(keras, options.synchronized if options.normalize else None))
        optimizer = keras.optimizers.get(options.optimizer.keras())
        if options.loss_scaling:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        loss = make_loss(keras, reduction=options.reduction)
        no_mean = keras.metrics.MeanIoU(3, sparse_y_pred=False, name="iou")
        weighted = keras.metrics.SparseCategoricalCrossentropy("weighted", from_logits=True)
        model.compile(optimizer, loss, metrics=["accuracy", no_mean], weighted_metrics=[weighted])
        return model


class OwnStep(KerasModel):  # a Keras model with a custom train_step that uses the sign of the gradient
    def make_model(self, keras, data):
        import tensorflow as tf

        class Signed(keras.Sequential):
            def train_step(self, batch):
                x, y = batch
                with tf.GradientTape() as tape:
                    loss = self.compute_loss(x, y, self(x, training=True))
                gradients = tape.gradient(loss, self.trainable_weights)
                self.optimizer.apply([tf.sign(g) for g in gradients], self.trainable_weights)
                return {"loss": loss, "mine": tf.constant(0.5)}

        model = Signed(make_layers(keras))
        model.compile("sgd", make_loss(keras), metrics=["accuracy"])
        return model


class Pairs(expfw.Dataset):  # two inputs and two targets, one of them with classes, and weights
    def load(self, seed):
        generator = np.random.default_rng(6)
        left, right = (generator.normal(size=(120, n)).astype(np.float32) for n in (3, 5))
        x = {"left": left, "right": right}
        y = {"sign": (left[:, 0] > 0).astype(np.int32), "size": right.sum(axis=1, keepdims=True)}
        whole = expfw.Split(x, y, generator.uniform(0.5, 2, 120).astype(np.float32))
        spec = expfw.DataSpec(
            {"left": (3,), "right": (5,)},
            {"sign": 2, "size": None},
            {"size": (1,)},
            preprocessing={"left": expfw.AffineScaling(), "right": expfw.AffineScaling(2.0, 0.0)},
        )
        return expfw.Splits(spec, whole.take(slice(0, 100)), whole.take(slice(100, 120)))


class TwoHeads(KerasModel):  # a functional Keras model with two inputs and two outputs, each with its loss and metrics
    def make_model(self, keras, data):
        inputs = {name: keras.layers.Input(shape, name=name) for name, shape in data.input_shape.items()}
        h = keras.layers.Dense(8, "tanh")(keras.layers.Concatenate()(list(inputs.values())))
        sign, size = keras.layers.Dense(2, "softmax", name="sign"), keras.layers.Dense(1, name="size")
        model = keras.Model(inputs, {"sign": sign(h), "size": size(h)})
        model.compile(
            keras.optimizers.SGD(0.05),
            {"sign": "sparse_categorical_crossentropy", "size": "mse"},
            loss_weights={"sign": 1.0, "size": 0.3},
            metrics={"sign": ["accuracy"]},
            weighted_metrics={"size": ["mae"]},
        )
        return model


class Words(KerasModel):  # a subclassed Keras model with an embedding, whose gradient is sparse
    def make_model(self, keras, data):
        class Bag(keras.Model):
            def __init__(self):
                super().__init__()
                self.embedding, self.dense = keras.layers.Embedding(12, 4), keras.layers.Dense(3)

            def call(self, x):
                words = keras.ops.cast(keras.ops.abs(keras.ops.reshape(x, (-1, 16))) * 3, "int32")
                return self.dense(keras.ops.mean(self.embedding(keras.ops.minimum(words, 11)), axis=1))

        model = Bag()
        model.compile(keras.optimizers.SGD(0.5, momentum=0.9), make_loss(keras), metrics=["accuracy"])
        return model


class AddedUp(KerasModel):  # a loss function that sums over the batch without declaring it
    def make_model(self, keras, data):
        model = keras.Sequential(make_layers(keras))
        model.compile("sgd", lambda y, output: keras.ops.sum(keras.ops.square(output)))
        return model


class Masked(KerasModel):  # a recurrent network with masked time steps
    def make_model(self, keras, data):
        model = keras.Sequential([keras.layers.Input((4, 4, 1)), keras.layers.Reshape((4, 4)), keras.layers.Masking()])
        model.add(keras.layers.LSTM(5, return_sequences=True))
        model.add(keras.layers.TimeDistributed(keras.layers.Dense(1)))
        model.compile("sgd", "mse")
        return model


class OwnLoss(KerasModel):  # overrides compute_loss
    def make_model(self, keras, data):
        class Own(keras.Sequential):
            def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
                return 2 * super().compute_loss(x, y, y_pred, sample_weight, training)

        model = Own(make_layers(keras))
        model.compile("sgd", make_loss(keras))
        return model


class Particular(KerasModel):  # a fixed batch size; optionally a metric with several values
    @dataclass
    class Config:
        vector: bool = False

    def make_model(self, keras, data):
        several = keras.metrics.MeanMetricWrapper(lambda y, output: output, name="several")
        several.result = lambda: keras.ops.zeros((3,))
        model = keras.Sequential([keras.layers.Input(batch_shape=(20, 4, 4, 1)), *make_layers(keras)[1:]])
        model.compile("sgd", make_loss(keras), metrics=[several] if self.config.vector else [])
        return model
