"""Summary of a TensorFlow model: layers, parameters, FLOPs, memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from expfw import Layer, ModelSummary, Split
from expfw_backends.engine.model_arrays import name_variables

_OPERATIONS_WITHOUT_RESULT = (
    "Const",
    "Placeholder",
    "ReadVariableOp",
    "NoOp",
    "Identity",
    "Reshape",
    "Shape",
    "Pack",
    "StridedSlice",
)


def summarize_model(model: Any, sample: Split, batch_size: int) -> ModelSummary:
    """Summarizes a model; traces its forward pass for one sample without computing it.

    Args:
        model: a Keras model or a `tf.Module`.
        sample: one sample, for the shapes and types of the inputs.
        batch_size: samples per step, for the memory of the results.
    """
    graph = _trace_forward(model, sample)
    trained_count = sum(math.prod(v.shape) for v in model.trainable_variables)
    fixed_count = _count_fixed_parameters(model)
    operation_types = [operation.type for operation in graph.get_operations()]
    return ModelSummary(
        layers=list(_summarize_layers(model) if isinstance(model, keras.Model) else _summarize_variables(model)),
        parameters=trained_count,
        fixed=fixed_count,
        flops=_count_flops(graph),
        operations=dict(
            Counter(name for name in operation_types if name not in _OPERATIONS_WITHOUT_RESULT).most_common()
        ),
        memory={
            "weights": _count_bytes(model.weights if isinstance(model, keras.Model) else model.variables),
            "gradients": _count_bytes(model.trainable_variables),
            "optimizer": _count_optimizer_bytes(model),
            f"results of a batch of {batch_size}": _count_result_bytes(graph) * batch_size,
        },
    )


def _trace_forward(model: Any, sample: Split) -> tf.Graph:
    specs = tf.nest.map_structure(lambda array: tf.TensorSpec((1, *array.shape[1:]), array.dtype), sample.x)
    return tf.function(lambda x: model(x), autograph=False).get_concrete_function(specs).graph


def _count_flops(graph: tf.Graph) -> int:
    """Returns the floating-point operations, as counted by the TensorFlow profiler."""
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    return int(profiler.profile(graph, cmd="op", options=options.with_empty_output().build()).total_float_ops)


def _summarize_layers(model: keras.Model) -> Iterator[Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        parameters = sum(math.prod(weight.shape) for weight in layer.weights)
        output_shape, flops = "", None
        if (
            len(getattr(layer, "_inbound_nodes", ())) == 1
        ):  # not for layers with several calls, or calls in Python code only
            outputs = keras.tree.flatten(layer.output)
            output_shape = ", ".join("x".join(map(str, output.shape[1:])) or "1" for output in outputs)
            flops = _count_layer_flops(layer)
        yield Layer(layer.name, type(layer).__name__, output_shape, parameters, flops)


def _count_layer_flops(layer: keras.layers.Layer) -> int | None:
    """Returns the floating-point operations of one layer, for one sample; None if a shape is unknown."""
    inputs = layer.input
    if any(None in tensor.shape[1:] for tensor in keras.tree.flatten(inputs)):
        return None
    specs = keras.tree.map_structure(lambda t: tf.TensorSpec((1, *t.shape[1:]), t.dtype), inputs)
    return _count_flops(tf.function(lambda x: layer(x), autograph=False).get_concrete_function(specs).graph)


def _summarize_variables(module: tf.Module) -> Iterator[Layer]:
    for name, variable in name_variables(module.trainable_variables).items():
        yield Layer(name, "variable", "x".join(map(str, variable.shape)) or "1", math.prod(variable.shape))


def _count_fixed_parameters(model: Any) -> int:
    if isinstance(model, keras.Model):
        return sum(math.prod(weight.shape) for weight in model.non_trainable_weights)
    return sum(math.prod(v.shape) for v in model.non_trainable_variables)


def _count_optimizer_bytes(model: Any) -> int:
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return 0
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    return _count_bytes(optimizer.variables)


def _count_bytes(variables: Any) -> int:
    return sum(int(math.prod(variable.shape)) * tf.as_dtype(variable.dtype).size for variable in variables)


def _count_result_bytes(graph: tf.Graph) -> int:
    """Returns the bytes of all results in the forward pass of one sample."""
    outputs = [
        output
        for operation in graph.get_operations()
        if operation.type not in _OPERATIONS_WITHOUT_RESULT
        for output in operation.outputs
        if output.dtype.is_floating and output.shape.is_fully_defined()
    ]
    return sum(output.shape.num_elements() * output.dtype.size for output in outputs)
