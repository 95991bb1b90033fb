"""The state of a model as arrays: weights; to resume, also optimizer, metrics and random generators."""

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
    same plugin and options create the same variables in the same order. `training` includes the state that a resumed
    training needs.
    """
    keras_model = isinstance(model, keras.Model)
    groups = {"weights": model.weights if keras_model else model.variables, "averages": averages}
    if training:
        # A model with a custom step may have further optimizers in its attributes.
        own_optimizers = [value for value in vars(model).values() if isinstance(value, keras.optimizers.Optimizer)]
        optimizers = {id(value): value for value in (getattr(model, "optimizer", None), *own_optimizers)}
        groups["optimizer"] = [variable for o in optimizers.values() if o is not None for variable in o.variables]
        if keras_model:  # states of random generators, and the metrics of the current epoch
            metrics = [variable for metric in model.metrics for variable in metric.variables]
            weight_ids = {id(weight) for weight in model.weights}
            groups["state"] = [v for v in [*model.non_trainable_variables, *metrics] if id(v) not in weight_ids]
        else:  # `_flatten`: `tf.Module` has public functions for variables and modules only
            generators = (tf.random.Generator, keras.random.SeedGenerator)
            groups["random"] = [g.state for g in model._flatten(predicate=lambda value: isinstance(value, generators))]
    return {
        f"{group}/{number:03d}": variable
        for group, members in groups.items()
        for number, variable in enumerate(members)
    }


def get_tensorflow_variable(variable: Any) -> Any:
    """Returns the `tf.Variable` in a Keras variable; its `numpy()` copies once, that of Keras three times."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def name_variables(variables: Sequence[Any]) -> dict[str, Any]:
    """Returns the variables by their short, readable names; equal names are numbered: `kernel_0`, `kernel_1`."""
    own_names = [variable.name.partition(":")[0].rpartition("/")[2] for variable in variables]
    counts = Counter(own_names)
    variables_by_name: dict[str, Any] = {}
    for name, variable in zip(own_names, variables, strict=True):
        if counts[name] > 1:
            numbered_names = (f"{name}_{number}" for number in itertools.count())
            name = next(n for n in numbered_names if n not in variables_by_name and n not in counts)
        variables_by_name[name] = variable
    return variables_by_name


def make_model_state(variables: Mapping[str, Any]) -> ModelState:
    """Returns copies of the values, with the readable names of the variables."""
    arrays = {name: np.asarray(get_tensorflow_variable(variable).numpy()) for name, variable in variables.items()}
    return ModelState(arrays, names={name: getattr(v, "path", v.name) for name, v in variables.items()})


def assign_arrays(variables: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Assigns these values to the variables; rejects values of another model."""
    shapes, expected_shapes = ({n: tuple(a.shape) for n, a in mapping.items()} for mapping in (arrays, variables))
    for name in sorted(shapes.keys() | expected_shapes.keys()):
        if shapes.get(name) != expected_shapes.get(name):
            raise JournalError(
                f"the arrays are from another model: {name} is {shapes.get(name, 'absent')}, "
                f"the model has {expected_shapes.get(name, 'no such variable')}"
            )
    for name, variable in variables.items():
        variable.assign(arrays[name])
