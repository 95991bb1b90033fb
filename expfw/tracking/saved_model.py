"""Saved models: a folder of JSON and safetensors files, sufficient to predict from raw input."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from expfw.api.contracts import Plugin
from expfw.api.data import DataSpec, Splits, map_parts
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
from expfw.system import atomic_files, redirection
from expfw.system.garbage_collection import import_modules
from expfw.tracking import journal

_WEIGHTS, _PREPROCESSING, _DESCRIPTION = "weights.safetensors", "preprocessing.safetensors", "model.json"
MODEL_RECORD_KINDS = ("dataset", "model", "backend")
"""Kinds of plugins that a saved model requires."""
_MAX_RANGE_VALUES = 2**20
"""Number of values from which the range of the training data is computed."""


def save_model(
    folder: Path, run: Run, data: Splits, model: Any, files: Sequence[str], entries: Sequence[PluginEntry]
) -> None:
    """Writes `model.json`, weights, preprocessing, a raw sample and copies of the plugin files, atomically."""
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    state: ModelState = run.hook.expfw_save(model=model, training=False)
    write_arrays(unfinished / _WEIGHTS, state.arrays)
    copies = [Path("plugins", str(number), Path(file).name) for number, file in enumerate(files)]
    for file, copy in zip(files, copies, strict=True):
        (unfinished / copy).parent.mkdir(parents=True)
        shutil.copy(file, unfinished / copy)
    shape, preprocessing, raw_range = data.spec.input_shape, data.spec.preprocessing, None
    if not isinstance(shape, Mapping):
        sample_count = max(1, min(1024, _MAX_RANGE_VALUES // max(1, math.prod(shape))))
        raw = preprocessing.inverse(data.train.take(slice(sample_count)).x)
        raw_range = _round([raw.min(), raw.max()]).tolist()
    content = {
        "format": 1,
        "run": run.id,
        "config": redact_config(run.config),
        "data": serialize_spec(data.spec, unfinished / _PREPROCESSING),
        "raw_range": raw_range,
        "plugins": {f"{entry.kind}={entry.name}": entry.source for entry in entries},
        "arrays": dict(state.names),
        "files": [str(copy) for copy in copies],
    }
    atomic_files.write_json(unfinished / _DESCRIPTION, content, is_atomic=False, indent=2)
    raw_example = map_parts(
        lambda x, scaling: _round(scaling.inverse(x)).tolist(), data.train.take(slice(1)).x, preprocessing
    )
    (unfinished / "input_example.json").write_text(json.dumps(raw_example))
    shutil.rmtree(folder, ignore_errors=True)  # if the run was trained longer
    atomic_files.move_folder(unfinished, folder)


def _round(values: Any) -> Any:
    """Rounds an array to six significant digits."""
    import numpy as np

    return np.vectorize(lambda value: float(f"{value:.6g}"))(values)


@dataclass(frozen=True)
class SavedModel:
    """A trained model, ready to predict. Its plugins and their framework are imported on first use.

    Attributes:
        folder: folder of the saved model.
        data: specification of the training data.
        config: configuration of the run.
        files: plugin files that the model requires.
        raw_range: smallest and largest raw value of the training samples; None if unknown.
        versions: distribution and version of each plugin, by `kind=name`.
        model: the model of the framework.
        hook: hooks of the plugins of the model.
    """

    folder: Path
    data: DataSpec
    config: RunConfig
    files: tuple[str, ...]
    raw_range: tuple[float, float] | None
    versions: Mapping[str, str]

    @cached_property
    def _plugins(self) -> list[Plugin]:
        try:
            return make_plugins(self.config, get_catalogue(self.files), kinds=MODEL_RECORD_KINDS)
        except PluginError as error:
            plugin_versions = ", ".join(f"{name} from {source}" for name, source in self.versions.items())
            raise PluginError(f"{error}. The model was saved with {plugin_versions}") from error

    @cached_property
    def hook(self) -> Any:
        return make_manager(self._plugins, report=lambda line: None).hook

    @cached_property
    def model(self) -> Any:
        record = journal.discard_record
        run = Run("saved", "saved", self.folder, self.config, self.config.objective, record, training=False)
        data_without_samples = SimpleNamespace(spec=self.data)  # the specification is enough to build a model
        state = ModelState(read_arrays(self.folder / _WEIGHTS))
        with redirection.redirect_noise(Path(os.devnull)):
            import_modules(list_preload_modules(self._plugins))
            model = self.hook.expfw_build_model(config=self.config, run=run, data=data_without_samples)
            self.hook.expfw_restore(model=model, state=state, training=False)
        return model

    def predict(self, raw: Any, batch_size: object = None, verbose: object = None) -> Any:
        """Returns the outputs `(n, ...)` for raw samples `(n, *input_shape)`, as in the files of the dataset.

        Samples or outputs with several parts are dictionaries of arrays.

        Args:
            raw: raw samples.
            batch_size: accepted as in `keras.Model.predict`, but ignored.
            verbose: accepted as in `keras.Model.predict`, but ignored; nothing is printed.
        """
        return self.hook.expfw_predict(model=self.model, x=self.data.preprocess(raw))


def read_model(folder: Path) -> SavedModel:
    """Reads the saved model in `folder`, but does not import its plugins."""
    from safetensors import SafetensorError

    try:
        content = json.loads((folder / _DESCRIPTION).read_text())
        raw_range = content.get("raw_range")  # missing in older models
        return SavedModel(
            folder=folder,
            data=deserialize_spec(content["data"], folder / _PREPROCESSING),
            config=build_config(content["config"]),
            files=tuple(str(folder / file) for file in content["files"]),
            raw_range=raw_range and (raw_range[0], raw_range[1]),
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
    saved_model = read_model(Path(folder))
    assert saved_model.model is not None  # reads it now
    return saved_model
