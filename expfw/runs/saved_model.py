"""Saved models: a folder of JSON and safetensors files, sufficient to predict from raw input."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expfw.api.data import DataSpec, Splits, map_parts
from expfw.api.data_files import deserialize_spec, serialize_spec
from expfw.api.model_state import ModelState, read_arrays, write_arrays
from expfw.api.preprocessing import AffineScaling
from expfw.api.run import Run
from expfw.api.run_config import RunConfig
from expfw.config.freeze import build_config, redact_config
from expfw.config.run_plugins import make_plugins
from expfw.errors import ConfigError, JournalError, PluginError
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.entry import PluginEntry
from expfw.plugins.manager import list_preload_modules, make_manager
from expfw.system import atomic_files
from expfw.system.garbage_collection import import_modules

_WEIGHTS, _PREPROCESSING, _DESCRIPTION = "weights.safetensors", "preprocessing.safetensors", "model.json"
_EXAMPLE, _PLUGINS = "input_example.json", "plugins"
MODEL_RECORD_KINDS = ("dataset", "model", "backend")
"""Kinds of plugins that a saved model requires."""
_MAX_RANGE_VALUES = 2**20
"""Number of values from which the range of the training data is computed."""


def save_model(
    folder: Path, run: Run, data: Splits, model: Any, files: Sequence[str], entries: Sequence[PluginEntry]
) -> None:
    """Writes `model.json`, weights, preprocessing, a raw sample and copies of the plugin files to `folder`.

    The folder is written atomically.
    """
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    _write_model(unfinished, run, data, model, files, entries)
    shutil.rmtree(folder, ignore_errors=True)  # if the run was trained longer
    atomic_files.move_folder(unfinished, folder)


def _write_model(
    folder: Path, run: Run, data: Splits, model: Any, files: Sequence[str], entries: Sequence[PluginEntry]
) -> None:
    state: ModelState = run.hook.expfw_save(model=model, training=False)
    write_arrays(folder / _WEIGHTS, state.arrays)
    copies = [_copy_file(Path(file), folder / _PLUGINS / f"{number}") for number, file in enumerate(files)]
    content = {
        "format": 1,
        "run": run.id,
        "config": redact_config(run.config),
        "data": serialize_spec(data.spec, folder / _PREPROCESSING),
        "raw_range": _compute_raw_range(data),
        "plugins": {f"{entry.kind}={entry.name}": entry.source for entry in entries},
        "arrays": dict(state.names),
        "files": [str(copy.relative_to(folder)) for copy in copies],
    }
    (folder / _DESCRIPTION).write_text(json.dumps(content, indent=2))
    (folder / _EXAMPLE).write_text(json.dumps(_make_raw_example(data)))


def _make_raw_example(data: Splits) -> Any:
    """Returns the first training sample before preprocessing, `(1, *input_shape)` or parts by name, as lists."""
    import numpy as np

    def invert_preprocessing(preprocessing: AffineScaling, x: Any) -> Any:
        return np.vectorize(_round_value)(preprocessing.inverse(x)).tolist()

    x, preprocessing = data.train.take(slice(1)).x, data.spec.preprocessing
    if isinstance(x, Mapping) and not isinstance(preprocessing, Mapping):
        preprocessing = dict.fromkeys(x, preprocessing)
    return map_parts(invert_preprocessing, preprocessing, x)


def _compute_raw_range(data: Splits) -> list[float] | None:
    """Returns the smallest and largest raw value of some training samples; None if samples have several parts."""
    shape, preprocessing = data.spec.input_shape, data.spec.preprocessing
    if isinstance(shape, Mapping) or isinstance(preprocessing, Mapping):
        return None
    sample_count = max(1, min(1024, _MAX_RANGE_VALUES // max(1, math.prod(shape))))
    raw = preprocessing.inverse(data.train.take(slice(sample_count)).x)
    return [_round_value(raw.min()), _round_value(raw.max())]


def _round_value(value: float) -> float:
    return float(f"{value:.6g}")


def _copy_file(file: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    return Path(shutil.copy(file, folder))


@dataclass(frozen=True)
class ModelDescription:
    """Description of a saved model; read without any framework.

    Attributes:
        data: specification of the training data.
        config: configuration of the run.
        files: plugin files that the model requires.
        raw_range: smallest and largest raw value of the training samples; None if unknown.
        versions: distribution and version of each plugin, by `kind=name`.
    """

    data: DataSpec
    config: RunConfig
    files: tuple[str, ...]
    raw_range: tuple[float, float] | None
    versions: Mapping[str, str]


@dataclass(frozen=True)
class SavedModel:
    """A trained model, ready to predict.

    Attributes:
        data: specification of the training data.
        config: configuration of the run.
        model: the model of the framework.
        hook: hooks of the plugins of the model.
    """

    data: DataSpec
    config: RunConfig
    model: Any
    hook: Any

    def predict(self, raw: Any, batch_size: object = None, verbose: object = None) -> Any:
        """Returns the outputs `(n, ...)` for raw samples `(n, *input_shape)`, as in the files of the dataset.

        Samples or outputs with several parts are dictionaries of arrays.

        Args:
            raw: raw samples.
            batch_size: accepted as in `keras.Model.predict`, but ignored.
            verbose: accepted as in `keras.Model.predict`, but ignored; nothing is printed.
        """
        return self.hook.expfw_predict(model=self.model, x=self.data.preprocess(raw))


def read_description(folder: Path) -> ModelDescription:
    """Reads the description of the saved model in `folder`.

    Raises:
        JournalError: if the folder contains no readable saved model.
    """
    from safetensors import SafetensorError

    try:
        content = json.loads((folder / _DESCRIPTION).read_text())
        least_and_largest = content.get("raw_range")  # missing in older models
        return ModelDescription(
            data=deserialize_spec(content["data"], folder / _PREPROCESSING),
            config=build_config(content["config"]),
            files=tuple(str(folder / file) for file in content["files"]),
            raw_range=None if least_and_largest is None else (least_and_largest[0], least_and_largest[1]),
            versions=dict(content["plugins"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError, SafetensorError) as error:
        message = f"cannot read a saved model from {folder}: {error}"
        raise JournalError(f"{message}; expected a folder like runs/.../model") from error


def load_model(folder: str | Path) -> SavedModel:
    """Loads a saved model with its plugins.

    Raises:
        JournalError: if the folder contains no readable saved model.
        PluginError: if a plugin of the model is not installed.
    """
    folder = Path(folder)
    description = read_description(folder)
    config, data = description.config, description.data
    try:
        plugins = make_plugins(config, get_catalogue(description.files), kinds=MODEL_RECORD_KINDS)
    except PluginError as error:
        plugin_versions = ", ".join(f"{name} from {source}" for name, source in description.versions.items())
        raise PluginError(f"{error}. The model was saved with {plugin_versions}") from error
    run = Run("saved", "saved", folder, config, config.objective, record=lambda kind, **fields: None, training=False)
    hooks = make_manager(plugins, report=lambda line: None).hook
    import_modules(list_preload_modules(plugins))
    model = hooks.expfw_build_model(config=config, run=run, data=_SpecOnlyData(data))
    hooks.expfw_restore(model=model, state=ModelState(read_arrays(folder / _WEIGHTS)), training=False)
    return SavedModel(data, config, model, hooks)


@dataclass(frozen=True)
class _SpecOnlyData:
    """Replaces a dataset if only its specification is known, which is enough to build a model."""

    spec: DataSpec
