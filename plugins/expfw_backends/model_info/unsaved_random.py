"""Detection of random operations in a training step whose state no checkpoint can save."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from expfw import Split

# The state of these operations is in TensorFlow's context and cannot be read.
_UNSAVED_OPERATIONS = (
    "Multinomial",
    "ParameterizedTruncatedNormal",
    "RandomGamma",
    "RandomPoissonV2",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "StatefulRandomBinomial",
    "TruncatedNormal",
)


def find_unsaved_random(model: Any, sample: Split) -> list[str]:
    """Returns the names of these operations, sorted.

    Traces a step without computing it; for a Keras model, the forward pass in training mode.

    Args:
        model: a Keras model or a `tf.Module`.
        sample: one sample, for the shapes and types of the inputs.
    """
    specs = tf.nest.map_structure(lambda array: tf.TensorSpec((1, *array.shape[1:]), array.dtype), (sample.x, sample.y))
    if isinstance(model, keras.Model):
        step = tf.function(lambda x, y: model(x, training=True), autograph=False)
    else:
        step_function = getattr(model, "train_step", model.test_step)
        step = tf.function(lambda x, y: step_function((x, y)), autograph=False)
    graph = step.get_concrete_function(*specs).graph
    inner_nodes = [function.node_def for function in graph.as_graph_def().library.function]
    names = {operation.type for operation in graph.get_operations()} | {
        node.op for nodes in inner_nodes for node in nodes
    }
    return sorted(names & set(_UNSAVED_OPERATIONS))
