"""Data for the evaluation of a saved model: the data of its run or other data, preprocessed for the model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expfw.api.contracts import Dataset
from expfw.api.data import DataSpec, Splits, check_loaded_data, map_parts
from expfw.api.preprocessing import AffineScaling, Preprocessed
from expfw.api.run import Run
from expfw.api.run_config import RunConfig, to_plain
from expfw.config.freeze import freeze
from expfw.config.run_plugins import make_plugins
from expfw.errors import ConfigError, DataError
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.manager import make_manager
from expfw.runs.resume import apply_overrides
from expfw.tracking import journal
from expfw.tracking.saved_model import SavedModel


def make_evaluation_config(model: SavedModel, overrides: Sequence[str], runs_dir: Path) -> RunConfig:
    """Returns the configuration of the run of the model, with overrides of the dataset."""
    for override in overrides:
        if not override.lstrip("+").startswith(("dataset=", "dataset.")):
            raise ConfigError(f"{override} cannot change here; expected dataset=NAME or dataset.OPTION=VALUE")
    config = dataclasses.replace(model.config, runs_dir=str(runs_dir.absolute()))
    if not overrides:
        return config
    if any(override.lstrip("+").startswith("dataset=") for override in overrides):
        from expfw.config.compose import compose

        return dataclasses.replace(config, dataset=compose(overrides, get_catalogue(model.files)).dataset)
    values = to_plain(config)
    environment_values = values.pop("from_environment")
    changed_values, from_environment = apply_overrides(values, overrides)
    return freeze(changed_values, get_catalogue(model.files), {**environment_values, **from_environment})


def load_data(model: SavedModel, config: RunConfig, is_own_data: bool) -> tuple[Splits, Any]:
    """Loads the data of `config` with the preprocessing of the model; the run's own data with the same limit.

    Also returns the `identity()` of the data, as plain values.
    """
    (dataset,) = plugins = make_plugins(config, get_catalogue(model.files), kinds=("dataset",))
    assert isinstance(dataset, Dataset)
    run = Run("data", "data", Path(), config, config.objective, journal.discard_record, training=False)
    hook = make_manager(plugins, report=lambda line: None).hook
    train = config.train if is_own_data else dataclasses.replace(config.train, limit_batches=None)
    splits = check_loaded_data(hook.expfw_load_data(config=config, run=run), dataclasses.replace(config, train=train))
    _check_spec(model.data, splits.spec)
    preprocessing = model.data.preprocessing
    splits_by_name = {
        name: dataclasses.replace(split, x=map_parts(_reprocess, split.x, splits.spec.preprocessing, preprocessing))
        for name, split in splits.get_splits().items()
    }
    spec = dataclasses.replace(splits.spec, preprocessing=preprocessing)
    return Splits(spec, **splits_by_name), to_plain(dataset.identity())


def _check_spec(model_spec: DataSpec, data_spec: DataSpec) -> None:
    """Rejects data that does not fit the model; a subset of its classes is allowed if they have no names."""
    shapes = [map_parts(tuple, spec.input_shape) for spec in (model_spec, data_spec)]
    if shapes[0] != shapes[1]:
        raise DataError(f"the samples have shape {shapes[1]}; the model takes {shapes[0]}")
    model_targets, data_targets = model_spec.targets(), data_spec.targets()
    for part in model_targets.keys() | data_targets.keys():
        expected, actual = model_targets.get(part), data_targets.get(part)
        is_subset = expected and actual and (actual[0] or math.inf) <= (expected[0] or 0) and not data_spec.class_names
        if expected != actual and not is_subset:
            expected_text, actual_text = map(_describe_target, (expected, actual))
            name = f"{part} " if part else ""
            raise DataError(f"the targets {name}are {actual_text}; the model predicts {expected_text}")
    for model_class, data_class in zip(model_spec.class_names, data_spec.class_names, strict=False):
        if model_class != data_class:
            raise DataError(f"the data has class {data_class!r}, but the model has {model_class!r}; expected the same")


def _describe_target(target: tuple[int | None, tuple[int, ...]] | None) -> str:
    if target is None:
        return "absent"
    classes, shape = target
    return f"{classes} classes" if classes is not None else f"values of shape {shape}" if shape else "values"


def _reprocess(x: Any, old: AffineScaling, new: AffineScaling) -> Any:
    """Replaces the preprocessing of samples."""
    import numpy as np

    attributes = ((old.scale, new.scale), (old.offset, new.offset))
    if all(np.array_equal(np.float32(first), np.float32(second)) for first, second in attributes):
        return x
    return Preprocessed(Preprocessed(x, old.inverse), new)
