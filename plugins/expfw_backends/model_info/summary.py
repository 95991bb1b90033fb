"""Summary of a TensorFlow model: layers, parameters, FLOPs, memory; random operations that no checkpoint can save."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import keras
import tensorflow as tf

from expfw import Layer, ModelSummary, Split
from expfw_backends.engine.model_arrays import name_variables

_WITHOUT_RESULT = re.compile("Const|Placeholder|ReadVariableOp|NoOp|Identity|Reshape|Shape|Pack|StridedSlice")
# The state of these operations is in TensorFlow's context and cannot be read.
_UNSAVED_RANDOM = re.compile(
    "Multinomial|Random(Gamma|PoissonV2|Shuffle|StandardNormal|Uniform|UniformInt)|StatefulRandomBinomial|"
    "(Parameterized)?TruncatedNormal"
)


def summarize_model(model: Any, sample: Split, batch_size: int) -> ModelSummary:
    """Summarizes a model; traces its forward pass for one sample without computing it."""
    graph = _trace(model, sample.x)
    operations = [o for o in graph.get_operations() if not _WITHOUT_RESULT.fullmatch(o.type)]
    results = [
        output
        for operation in operations
        for output in operation.outputs
        if output.dtype.is_floating and output.shape.is_fully_defined()
    ]
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)
    if is_keras := isinstance(model, keras.Model):
        layers = [_summarize_layer(layer) for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    else:
        named_variables = name_variables(model.trainable_variables)
        layers = [Layer(n, "variable", _format_shape(v.shape), math.prod(v.shape)) for n, v in named_variables.items()]
    return ModelSummary(
        layers=layers,
        parameters=_count_elements(model.trainable_variables),
        fixed=_count_elements(model.non_trainable_weights if is_keras else model.non_trainable_variables),
        flops=_count_flops(graph),
        operations=dict(Counter(operation.type for operation in operations).most_common()),
        memory={
            "weights": _count_bytes(model.weights if is_keras else model.variables),
            "gradients": _count_bytes(model.trainable_variables),
            "optimizer": _count_bytes(optimizer.variables if optimizer is not None else ()),
            f"results of a batch of {batch_size}": _count_bytes(results) * batch_size,
        },
    )


def find_unsaved_random(model: Any, sample: Split) -> list[str]:
    """Returns the names of random operations in a training step whose state no checkpoint can save, sorted.

    Traces a step without computing it; for a Keras model, the forward pass in training mode.
    """
    if isinstance(model, keras.Model):
        graph = _trace(lambda x: model(x, training=True), sample.x)
    else:
        graph = _trace(getattr(model, "train_step", model.test_step), (sample.x, sample.y))
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    return sorted({node.op for node in nodes if _UNSAVED_RANDOM.fullmatch(node.op)})


def _trace(function: Any, samples: Any) -> tf.Graph:
    """Returns the graph of a function of one sample."""
    specs = keras.tree.map_structure(lambda array: tf.TensorSpec((1, *array.shape[1:]), array.dtype), samples)
    return tf.function(lambda x: function(x), autograph=False).get_concrete_function(specs).graph


def _summarize_layer(layer: keras.layers.Layer) -> Layer:
    output_shape, flops = "", None
    if len(getattr(layer, "_inbound_nodes", ())) == 1:  # not with several calls, or calls in Python code only
        output_shape = ", ".join(_format_shape(output.shape[1:]) for output in keras.tree.flatten(layer.output))
        if not any(None in tensor.shape[1:] for tensor in keras.tree.flatten(layer.input)):
            flops = _count_flops(_trace(layer, layer.input))
    return Layer(layer.name, type(layer).__name__, output_shape, _count_elements(layer.weights), flops)


def _format_shape(shape: Any) -> str:
    return "x".join(map(str, shape)) or "1"


def _count_flops(graph: tf.Graph) -> int:
    """Returns the floating-point operations, as counted by the TensorFlow profiler."""
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    return int(profiler.profile(graph, cmd="op", options=options.with_empty_output().build()).total_float_ops)


def _count_elements(variables: Any) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _count_bytes(variables: Any) -> int:
    return sum(math.prod(variable.shape) * tf.as_dtype(variable.dtype).size for variable in variables)
