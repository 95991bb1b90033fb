"""Fused optimizers and accuracy: results equal to Keras."""

from __future__ import annotations

from contextlib import nullcontext

import keras
import numpy as np
import pytest
import tensorflow as tf

from expfw_backends.engine.metrics import KerasMetrics, compute_accuracy
from expfw_backends.engine.update import fused_update

pytestmark = pytest.mark.usefixtures("processors")
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adam with a schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "adam with other constants": lambda: keras.optimizers.Adam(0.01, beta_1=0.7, beta_2=0.9, epsilon=1e-3),
}


def run_updates(make, context, gradients=None, dtype="float32"):
    """Updates two variables ten times with random gradients; returns all variables, and the number of operations."""
    start = np.random.default_rng(1).normal(size=(3, 4))
    variables = [keras.Variable(start, dtype=dtype), keras.Variable(start[0], dtype=dtype)]
    optimizer = make()
    optimizer.build(variables)

    @tf.function
    def update(*gradients):
        with context(optimizer):
            optimizer.apply(gradients, variables)

    for step in range(10):
        random = np.random.default_rng(step)
        update(*(gradients or [tf.constant(random.normal(size=v.shape), v.dtype) for v in variables]))
    assert "update_step" not in vars(optimizer)
    (graph,) = (function.graph for function in update._list_all_concrete_functions())
    return [v.numpy() for v in [*variables, *optimizer.variables]], len(graph.get_operations())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_fused_updates_equal_keras(make, dtype):
    expected, keras_count = run_updates(make, nullcontext, dtype=dtype)
    values, fused_count = run_updates(make, fused_update, dtype=dtype)
    for value, want in zip(values, expected, strict=True):
        tolerance = 1e-12 if dtype == "float64" else 1e-5
        np.testing.assert_allclose(value, want, rtol=tolerance, atol=tolerance)
    assert fused_count < keras_count


def test_other_optimizers_and_sparse_gradients_use_keras():
    class Own(keras.optimizers.Adam):
        pass

    for make in (Own, keras.optimizers.RMSprop, lambda: keras.optimizers.Adam(amsgrad=True)):
        optimizer = make()
        before = optimizer.update_step
        with fused_update(optimizer):
            assert optimizer.update_step == before
    gradients = [tf.IndexedSlices(tf.ones((2, 4)), tf.constant([0, 2]), tf.constant([3, 4])), tf.ones(4)]
    (by_keras, _), (fused, _) = (run_updates(OPTIMIZERS["momentum"], c, gradients) for c in (nullcontext, fused_update))
    np.testing.assert_array_equal(by_keras[0], fused[0])


def compute_accuracies(final, labels="int32", rank=1, classes=5):
    """Returns accuracy and number of graph operations for random outputs, first by Keras, then fused."""
    numbers = np.random.default_rng(1).integers(0, classes, 40).reshape((40, 1)[:rank])
    outputs = np.random.default_rng(2).normal(size=(40, classes))
    outputs[::2] += 9 * np.eye(classes)[numbers.reshape(-1)[::2]]
    batch = tf.constant(numbers, labels), tf.constant(outputs, tf.float32)
    results = []
    for compute in (keras.metrics.sparse_categorical_accuracy, compute_accuracy):
        values = tf.function(lambda numbers, outputs, compute=compute: compute(numbers, final(outputs)))
        graph = values.get_concrete_function(*batch)
        results.append((graph(*batch).numpy(), len(graph.graph.get_operations())))
    return results


@pytest.mark.parametrize("labels", ["uint8", "int16", "int32", "int64"])
def test_accuracy_after_a_softmax_equals_keras_with_fewer_operations(labels):
    (expected, long), (values, short) = compute_accuracies(tf.nn.softmax, labels)
    assert 0 < expected.sum() < 40
    np.testing.assert_array_equal(values, expected)
    assert short < long - 4


@pytest.mark.parametrize(
    "case",
    [
        {"final": lambda x: tf.concat([-0.0 * tf.abs(x[:, :1]), 0.0 * tf.abs(x[:, 1:])], axis=1)},
        # Keras rounds class numbers to the type of the outputs.
        {"final": lambda x: tf.nn.softmax(tf.cast(x, tf.bfloat16)), "classes": 600},
        {"final": tf.nn.softmax, "labels": "float32"},
        {"final": tf.nn.softmax, "rank": 2},
    ],
    ids=["negative zeros", "16 bits", "float labels", "labels in a column"],
)
def test_other_accuracies_use_keras(case):
    (expected, long), (values, short) = compute_accuracies(**case)
    np.testing.assert_array_equal(values, expected)
    assert short == long


class OwnAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """A subclass, which is not changed."""


@pytest.mark.parametrize("kind", [keras.metrics.SparseCategoricalAccuracy, OwnAccuracy])
def test_a_step_neither_searches_negative_zeros_nor_reads_the_mean_loss(kind):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[kind(name="accuracy")])
    x, y = tf.ones((8, 3)), tf.zeros(8, tf.int32)
    model.compute_loss(x, y, model(x))
    model.compute_metrics(x, y, model(x), None)
    metrics = KerasMetrics(model, (x, y, model(x), None))
    graph = tf.function(lambda x, y: metrics.compute_sums((x, y), model(x))).get_concrete_function(x, y)
    total, count = graph(x, y)["accuracy"]
    assert (total.numpy() in (0, 8), count.numpy()) == (True, 8)
    kinds = [operation.type for operation in graph.graph.get_operations()]
    assert ("Bitcast" in kinds) == (kind is OwnAccuracy)
    assert kinds.count("ReadVariableOp") == 2, "expected reads of the two layer variables only"
