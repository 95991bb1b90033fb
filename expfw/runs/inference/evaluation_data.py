"""Data for the evaluation of a saved model: the data of its run or other data, preprocessed for the model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.api.contracts import Dataset
from expfw.api.data import DataSpec, Splits, check_loaded_data, get_named_parts, map_parts
from expfw.api.preprocessing import AffineScaling, Preprocessed
from expfw.api.run import Run
from expfw.api.run_config import RunConfig, flatten, to_plain
from expfw.config.freeze import freeze
from expfw.config.run_plugins import make_plugins
from expfw.errors import ConfigError, DataError
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.manager import make_manager
from expfw.runs.resume import apply_overrides
from expfw.runs.saved_model import ModelDescription


def make_evaluation_config(description: ModelDescription, overrides: Sequence[str], runs_dir: Path) -> RunConfig:
    """Returns the configuration of the run of the model, with these overrides of the dataset.

    Args:
        description: description of the model.
        overrides: `dataset=NAME` or `dataset.OPTION=VALUE`.
        runs_dir: the runs folder.

    Raises:
        ConfigError: if an override is not about the dataset, or is invalid for it.
    """
    for override in overrides:
        if not override.lstrip("+").startswith(("dataset=", "dataset.")):
            raise ConfigError(f"{override} cannot change here; expected dataset=NAME or dataset.OPTION=VALUE")
    config = dataclasses.replace(description.config, runs_dir=str(runs_dir.absolute()))
    if not overrides:
        return config
    if any(override.lstrip("+").startswith("dataset=") for override in overrides):
        from expfw.config.compose import compose

        return dataclasses.replace(config, dataset=compose(overrides, get_catalogue(description.files)).dataset)
    values = to_plain(config)
    environment_values = values.pop("from_environment")
    changed_values, from_environment = apply_overrides(values, overrides)
    return freeze(changed_values, get_catalogue(description.files), {**environment_values, **from_environment})


def load_data(description: ModelDescription, config: RunConfig, is_own_data: bool) -> Splits:
    """Loads the data with the preprocessing of the model.

    Args:
        description: description of the model.
        config: configuration with the dataset.
        is_own_data: whether this is the data of the run, with the same `train.limit_batches`.

    Raises:
        DataError: if the data is missing or does not fit the model.
    """
    plugins = make_plugins(config, get_catalogue(description.files), kinds=("dataset",))
    run = Run("data", "data", Path(), config, config.objective, record=lambda kind, **fields: None, training=False)
    hook = make_manager(plugins, report=lambda line: None).hook
    train = config.train if is_own_data else dataclasses.replace(config.train, limit_batches=None)
    splits = check_loaded_data(hook.expfw_load_data(config=config, run=run), dataclasses.replace(config, train=train))
    _check_spec(description.data, splits.spec)
    return _apply_model_preprocessing(splits, description.data)


def get_data_identity(description: ModelDescription) -> dict[str, Any]:
    """Returns the current `identity()` of the dataset of the run, as flat JSON values."""
    (dataset,) = make_plugins(description.config, get_catalogue(description.files), kinds=("dataset",))
    assert isinstance(dataset, Dataset)
    return flatten(json.loads(json.dumps(to_plain(dataset.identity()), default=str)))


def format_data_name(config: RunConfig) -> str:
    """Returns a readable name of the data."""
    path = config.dataset.get("path")
    return f"{config.dataset['plugin']} in {path}" if path else str(config.dataset["plugin"])


def _check_spec(model_spec: DataSpec, data_spec: DataSpec) -> None:
    """Rejects data that does not fit the model; a subset of its classes is allowed if they have no names."""
    shapes = [map_parts(tuple, spec.input_shape) for spec in (model_spec, data_spec)]
    if shapes[0] != shapes[1]:
        raise DataError(f"the samples have shape {shapes[1]}; the model takes {shapes[0]}")
    model_targets, data_targets = model_spec.targets(), data_spec.targets()
    for part in model_targets.keys() | data_targets.keys():
        expected, actual = (_describe_target(spec.get(part)) for spec in (model_targets, data_targets))
        if expected != actual and not _is_class_subset(
            model_targets.get(part), data_targets.get(part), data_spec.class_names
        ):
            raise DataError(f"the targets {part}{' ' if part else ''}are {actual}; the model predicts {expected}")
    if (
        model_spec.class_names
        and data_spec.class_names
        and tuple(model_spec.class_names) != tuple(data_spec.class_names)
    ):
        first, second = next(
            (a, b) for a, b in zip(model_spec.class_names, data_spec.class_names, strict=True) if a != b
        )
        raise DataError(f"the data has class {second!r}, but the model has {first!r}; expected the same classes")


def _describe_target(target: Any) -> str:
    if target is None:
        return "absent"
    classes, shape = target
    return f"{classes} classes" if classes is not None else f"values of shape {shape}" if shape else "values"


def _is_class_subset(model_target: Any, data_target: Any, names: Sequence[str]) -> bool:
    return bool(
        model_target
        and data_target
        and model_target[0]
        and data_target[0]
        and data_target[0] <= model_target[0]
        and not names
    )


def _apply_model_preprocessing(data: Splits, model_spec: DataSpec) -> Splits:
    """Returns the same samples with the preprocessing of the model."""
    if _is_same_preprocessing(data.spec.preprocessing, model_spec.preprocessing):
        return data
    data_preprocessing, model_preprocessing = (
        _expand_parts(spec.preprocessing, model_spec.input_shape) for spec in (data.spec, model_spec)
    )

    def reprocess(x: Any, old_preprocessing: AffineScaling, new_preprocessing: AffineScaling) -> Any:
        return Preprocessed(_RawSamples(x, old_preprocessing), new_preprocessing)

    splits = {
        name: dataclasses.replace(split, x=map_parts(reprocess, split.x, data_preprocessing, model_preprocessing))
        for name, split in data.get_splits().items()
    }
    return Splits(dataclasses.replace(data.spec, preprocessing=model_spec.preprocessing), **splits)


def _expand_parts(preprocessing: Any, shape: Any) -> Any:
    if isinstance(shape, Mapping) and not isinstance(preprocessing, Mapping):
        return dict.fromkeys(shape, preprocessing)
    return preprocessing


def _is_same_preprocessing(left: Any, right: Any) -> bool:
    import numpy as np

    first, second = get_named_parts(left), get_named_parts(right)
    return first.keys() == second.keys() and all(
        np.array_equal(np.float32(getattr(first[name], attribute)), np.float32(getattr(second[name], attribute)))
        for name in first
        for attribute in ("scale", "offset")
    )


class _RawSamples:
    """Raw samples, computed from preprocessed samples on access."""

    def __init__(self, x: Any, preprocessing: AffineScaling) -> None:
        self.x, self.preprocessing, self.shape = x, preprocessing, tuple(x.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> Any:
        return self.preprocessing.inverse(self.x[rows])
