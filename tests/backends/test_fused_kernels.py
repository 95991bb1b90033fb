"""Fused optimizers and accuracy: results equal to Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from expfw_backends.engine.fused_kernels import fused_accuracy, fused_update
from expfw_backends.engine.metrics import KerasMetrics

pytestmark = pytest.mark.usefixtures("processors")
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adam with a schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
}


class Trained:
    """Two variables and an optimizer, which updates them ten times with random gradients."""

    def __init__(self, make, dtype="float32"):
        start = np.random.default_rng(1).normal(size=(3, 4))
        self.variables = [keras.Variable(start, dtype=dtype), keras.Variable(start[0], dtype=dtype)]
        self.optimizer = make()
        self.optimizer.build(self.variables)

    def run_updates(self, optimize):
        graph = tf.function(optimize).get_concrete_function(*self._gradients(0)).graph
        for step in range(10):
            optimize(*self._gradients(step))
        return [variable.numpy() for variable in self.variables], graph

    def _gradients(self, step):
        random = np.random.default_rng(step)
        return [tf.constant(random.normal(size=v.shape), v.dtype) for v in self.variables]

    def apply_by_keras(self, *gradients):
        self.optimizer.apply(gradients, self.variables)

    def apply_fused(self, *gradients):
        with fused_update(self.optimizer):
            self.optimizer.apply(gradients, self.variables)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_fused_updates_equal_keras(make, dtype):
    by_keras, fused = Trained(make, dtype), Trained(make, dtype)
    expected, keras_graph = by_keras.run_updates(by_keras.apply_by_keras)
    weights, fused_graph = fused.run_updates(fused.apply_fused)
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # Keras rounds constants to float32
    for a, b in zip(fused.optimizer.variables, by_keras.optimizer.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6)
    assert len(fused_graph.get_operations()) < len(keras_graph.get_operations())
    assert "update_step" not in vars(fused.optimizer)


def test_other_optimizers_and_sparse_gradients_use_keras():
    class Own(keras.optimizers.Adam):
        pass

    for make in (Own, keras.optimizers.RMSprop, lambda: keras.optimizers.Adam(amsgrad=True)):
        trained = Trained(make)
        before = trained.optimizer.update_step
        with fused_update(trained.optimizer):
            assert trained.optimizer.update_step == before
    by_keras, fused = Trained(OPTIMIZERS["momentum"]), Trained(OPTIMIZERS["momentum"])
    rows = tf.IndexedSlices(tf.ones((2, 4)), tf.constant([0, 2]), tf.constant([3, 4]))
    by_keras.apply_by_keras(rows, tf.ones(4))
    fused.apply_fused(rows, tf.ones(4))
    np.testing.assert_array_equal(by_keras.variables[0].numpy(), fused.variables[0].numpy())


def compute_accuracies(final, labels="int32", rank=1, classes=5):
    """Returns accuracy and number of graph operations for random outputs, first by Keras, then fused."""
    metric = keras.metrics.SparseCategoricalAccuracy()
    numbers = np.random.default_rng(1).integers(0, classes, 40).reshape((40, 1)[:rank])
    outputs = np.random.default_rng(2).normal(size=(40, classes))
    outputs[::2] += 9 * np.eye(classes)[numbers.reshape(-1)[::2]]
    batch = tf.constant(numbers, labels), tf.constant(outputs, tf.float32)
    results = []
    for context in (fused_accuracy([]), fused_accuracy([metric])):

        def values(numbers, outputs, context=context):
            with context:
                return metric._fn(numbers, final(outputs))

        graph = tf.function(values).get_concrete_function(*batch)
        results.append((graph(*batch).numpy(), len(graph.graph.get_operations())))
    return results


@pytest.mark.parametrize("labels", ["uint8", "int16", "int32", "int64"])
def test_accuracy_after_a_softmax_equals_keras_with_fewer_operations(labels):
    (expected, long), (values, short) = compute_accuracies(tf.nn.softmax, labels)
    assert 0 < expected.sum() < 40
    np.testing.assert_array_equal(values, expected)
    assert short < long - 4


def negative_zeros(outputs):
    return tf.concat([-0.0 * tf.abs(outputs[:, :1]), 0.0 * tf.abs(outputs[:, 1:])], axis=1)


def rounded_softmax(outputs):
    return tf.nn.softmax(tf.cast(outputs, tf.bfloat16))


@pytest.mark.parametrize(
    "case",
    [
        {"final": negative_zeros},
        {"final": rounded_softmax, "classes": 600},  # Keras rounds class numbers to the type of the outputs
        {"final": tf.nn.softmax, "labels": "float32"},
        {"final": tf.nn.softmax, "rank": 2},
    ],
    ids=["negative zeros", "16 bits", "float labels", "labels in a column"],
)
def test_other_accuracies_use_keras(case):
    (expected, long), (values, short) = compute_accuracies(**case)
    np.testing.assert_array_equal(values, expected)
    assert short == long


def test_the_metric_is_restored_after_the_context():
    metric = keras.metrics.SparseCategoricalAccuracy()
    before = metric._fn
    with fused_accuracy([metric]):
        assert metric._fn is not before
    assert metric._fn is before


def test_a_subclass_of_the_accuracy_is_not_changed():
    class Own(keras.metrics.SparseCategoricalAccuracy):
        pass

    metric = Own()
    before = metric._fn
    with fused_accuracy([metric]):
        assert metric._fn is before


def test_a_step_neither_searches_negative_zeros_nor_reads_the_mean_loss():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = tf.ones((8, 3)), tf.zeros(8, tf.int32)
    model.compute_loss(x, y, model(x))
    model.compute_metrics(x, y, model(x), None)
    metrics = KerasMetrics(model)
    graph = tf.function(lambda x, y: metrics.compute_batch_sums(x, y, model(x), None)).get_concrete_function(x, y)
    total, count = graph(x, y)["accuracy"]
    assert (total.numpy() in (0, 8), count.numpy()) == (True, 8)
    kinds = [operation.type for operation in graph.graph.get_operations()]
    assert "Bitcast" not in kinds
    assert kinds.count("ReadVariableOp") == 2, "expected reads of the two layer variables only"
