"""Which operations of a training step draw random numbers from a state that no checkpoint can keep."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from expfw import Split

# Their state belongs to TensorFlow's context, which gives it to nobody.
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
    """Their names, sorted; traces a step, or for a Keras model its forward pass in training, and computes nothing.

    Args:
        sample: one sample, which says what the model takes.
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
