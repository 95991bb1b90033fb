"""Saved models: what a trained model needs to predict from raw input, in a folder of JSON and safetensors."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expfw.api.data import AffineScaling, DataSpec, Splits, map_parts
from expfw.api.data_files import deserialize_spec, serialize_spec
from expfw.api.model_state import ModelState, read_arrays, write_arrays
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
KINDS_OF_A_MODEL = ("dataset", "model", "backend")
"""The kinds of plugins without which a saved model cannot be used."""
_MAX_RANGE_VALUES = 2**20
"""Numbers of the training data from which their range is taken."""


def save_model(
    folder: Path, run: Run, data: Splits, model: Any, files: Sequence[str], entries: Sequence[PluginEntry]
) -> None:
    """Writes `model.json`, the weights, the preprocessing, a raw sample and copies of plugin files to `folder`.

    It is there as a whole or not at all.
    """
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    _write_model(unfinished, run, data, model, files, entries)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was extended
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
    """The first training sample as it was before preprocessing, `(1, *input_shape)`, or parts by name, as lists."""
    import numpy as np

    def invert_preprocessing(preprocessing: AffineScaling, x: Any) -> Any:
        return np.vectorize(_round_value)(preprocessing.inverse(x)).tolist()

    x, preprocessing = data.train.take(slice(1)).x, data.spec.preprocessing
    if isinstance(x, Mapping) and not isinstance(preprocessing, Mapping):
        preprocessing = dict.fromkeys(x, preprocessing)
    return map_parts(invert_preprocessing, preprocessing, x)


def _compute_raw_range(data: Splits) -> list[float] | None:
    """The least and the largest raw value of some training samples; None where samples have several parts."""
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
    """What a saved model says of itself; read without any framework.

    Attributes:
        data: what it was trained on; config: of its run; files: the plugin files that it needs.
        raw_range: the least and the largest raw value of training samples, where they are known.
        versions: of which distribution its plugins were.
    """

    data: DataSpec
    config: RunConfig
    files: tuple[str, ...]
    raw_range: tuple[float, float] | None
    versions: Mapping[str, str]


@dataclass(frozen=True)
class SavedModel:
    """A trained model, ready to predict."""

    data: DataSpec
    config: RunConfig
    model: Any
    hook: Any

    def predict(self, raw: Any, batch_size: object = None, verbose: object = None) -> Any:
        """Raw samples `(n, *input_shape)`, as the dataset's files hold them, to outputs `(n, ...)`.

        Samples or outputs with several parts are dictionaries of arrays.

        Args:
            batch_size, verbose: as `keras.Model.predict` has them; they change nothing here, where nothing is printed.
        """
        return self.hook.expfw_predict(model=self.model, x=self.data.preprocess(raw))


def read_description(folder: Path) -> ModelDescription:
    """What the saved model in `folder` says of itself.

    Raises:
        JournalError: the folder does not hold a saved model.
    """
    from safetensors import SafetensorError

    try:
        content = json.loads((folder / _DESCRIPTION).read_text())
        least_and_largest = content.get("raw_range")  # older ones do not have it
        return ModelDescription(
            data=deserialize_spec(content["data"], folder / _PREPROCESSING),
            config=build_config(content["config"]),
            files=tuple(str(folder / file) for file in content["files"]),
            raw_range=None if least_and_largest is None else (least_and_largest[0], least_and_largest[1]),
            versions=dict(content["plugins"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError, SafetensorError) as error:
        message = f"{folder} does not hold a saved model that can be read ({error})"
        raise JournalError(f"{message}; expected a folder like runs/.../model") from error


def load_model(folder: str | Path) -> SavedModel:
    """Rebuilds a saved model by its plugins.

    Raises:
        JournalError: the folder does not hold a saved model.
        PluginError: a plugin that made it is not installed.
    """
    folder = Path(folder)
    description = read_description(folder)
    config, data = description.config, description.data
    try:
        plugins = make_plugins(config, get_catalogue(description.files), kinds=KINDS_OF_A_MODEL)
    except PluginError as error:
        plugin_versions = ", ".join(f"{name} of {source}" for name, source in description.versions.items())
        raise PluginError(f"{error}. The model was made with {plugin_versions}") from error
    run = Run("saved", "saved", folder, config, config.objective, record=lambda kind, **fields: None, training=False)
    hooks = make_manager(plugins, report=lambda line: None).hook
    import_modules(list_preload_modules(plugins))
    model = hooks.expfw_build_model(config=config, run=run, data=_SpecOnlyData(data))
    hooks.expfw_restore(model=model, state=ModelState(read_arrays(folder / _WEIGHTS)), training=False)
    return SavedModel(data, config, model, hooks)


@dataclass(frozen=True)
class _SpecOnlyData:
    """Stands for a dataset of which only the specification is known; enough to build a model."""

    spec: DataSpec
