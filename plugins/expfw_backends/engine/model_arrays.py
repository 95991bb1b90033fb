"""Variables of a model as arrays: weights; to resume, also optimizer, metrics and random states."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from expfw import JournalError, ModelState


def collect_variables(model: Any, training: bool, averages: Sequence[Any] = ()) -> dict[str, Any]:
    """Returns the variables by group and number, for example `weights/000`.

    Names of variables are not stable, because Keras numbers the layers of a process in their names. The order is: the
    same plugin and options create the same variables in the same order.

    Args:
        model: a Keras model or a `tf.Module`.
        training: whether to include the state that a resumed training needs.
        averages: averages of the weights.
    """
    keras_model = isinstance(model, keras.Model)
    groups = {"weights": list(model.weights if keras_model else model.variables)}
    if training:
        groups["optimizer"] = [variable for optimizer in _list_optimizers(model) for variable in optimizer.variables]
    if averages:
        groups["averages"] = list(averages)
    if training and keras_model:  # states of random generators, and the metrics of the current epoch
        metrics = [variable for metric in model.metrics for variable in metric.variables]
        groups["state"] = [
            v for v in [*model.non_trainable_variables, *metrics] if not any(v is w for w in model.weights)
        ]
    if training and not keras_model:
        groups["random"] = [generator.state for generator in model._flatten(predicate=_is_generator)]
    return {
        f"{group}/{number:03d}": variable
        for group, members in groups.items()
        for number, variable in enumerate(members)
    }


def _list_optimizers(model: Any) -> list[Any]:
    """Returns the optimizer of the model, and further ones in attributes of a model with a custom step."""
    own_optimizers = [value for value in vars(model).values() if isinstance(value, keras.optimizers.Optimizer)]
    main_optimizers = [model.optimizer] if getattr(model, "optimizer", None) is not None else []
    return main_optimizers + [
        optimizer for optimizer in own_optimizers if not any(optimizer is other for other in main_optimizers)
    ]


def _is_generator(value: Any) -> bool:
    return isinstance(value, (tf.random.Generator, keras.random.SeedGenerator))


def get_tensorflow_variable(variable: Any) -> Any:
    """Returns the `tf.Variable` in a Keras variable; its `numpy()` copies once, that of Keras three times."""
    return getattr(variable, "value", variable) if isinstance(variable, keras.Variable) else variable


def name_variables(variables: Sequence[Any]) -> dict[str, Any]:
    """Returns the variables by their short, readable names; equal names are numbered: `kernel_0`, `kernel_1`."""
    own_names = [variable.name.partition(":")[0].rpartition("/")[2] for variable in variables]
    duplicate_names = {name for name, count in Counter(own_names).items() if count > 1}
    variables_by_name: dict[str, Any] = {}
    for name, variable in zip(own_names, variables, strict=True):
        numbers = (f"{name}_{number}" for number in itertools.count())
        variables_by_name[
            next(n for n in numbers if n not in variables_by_name and n not in own_names)
            if name in duplicate_names
            else name
        ] = variable
    return variables_by_name


def make_model_state(variables: Mapping[str, Any]) -> ModelState:
    """Returns copies of the values, with the readable names of the variables."""
    arrays = {name: np.asarray(get_tensorflow_variable(variable).numpy()) for name, variable in variables.items()}
    return ModelState(arrays, names={name: getattr(v, "path", v.name) for name, v in variables.items()})


def assign_arrays(variables: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Assigns these values to the variables.

    Raises:
        JournalError: if names or shapes differ from those of the variables.
    """
    actual_shapes, expected_shapes = (
        {n: tuple(a.shape) for n, a in mapping.items()} for mapping in (arrays, variables)
    )
    if actual_shapes != expected_shapes:
        differing_names = sorted(
            n for n in actual_shapes.keys() | expected_shapes.keys() if actual_shapes.get(n) != expected_shapes.get(n)
        )
        raise JournalError(
            f"the arrays are from another model: {differing_names[0]} is "
            f"{actual_shapes.get(differing_names[0], 'absent')}, "
            f"the model has {expected_shapes.get(differing_names[0], 'no such variable')}"
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])
