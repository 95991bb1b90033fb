"""Saved models: a folder of JSON and safetensors files, sufficient to predict from raw input."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

from expfw.api.contracts import Plugin
from expfw.api.data import DataSpec, Splits, map_parts
from expfw.api.data_files import deserialize_spec, serialize_spec
from expfw.api.model_state import ModelState, read_arrays, write_arrays
from expfw.api.plugin_code import hash_file
from expfw.api.preprocessing import AffineScaling
from expfw.api.run import Run
from expfw.api.run_config import RunConfig
from expfw.config.freeze import build_config, redact_config
from expfw.config.run_plugins import make_plugins
from expfw.errors import ConfigError, DataError, JournalError, PluginError
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.entry import PluginEntry
from expfw.plugins.manager import list_preload_modules, make_manager
from expfw.plugins.trust import Trust, make_trust
from expfw.system import atomic_files, redirection
from expfw.system.contained_paths import resolve_inside, resolve_tree
from expfw.system.garbage_collection import import_modules
from expfw.system.json_values import Count, build, read_json
from expfw.tracking import journal
from expfw.tracking.records import Config, Values

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
        "files": {str(copy): hash_file(unfinished / copy) for copy in copies},
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


_Shape = list[Count]


@dataclass
class _RecordedData:
    """The specification of the training data, without its preprocessing."""

    input_shape: _Shape | dict[str, _Shape]
    classes: Count | dict[str, Count | None] | None = None
    output_shape: _Shape | dict[str, _Shape] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)


@dataclass
class _Description:
    """Content of `model.json`; `files` has the digest of each plugin file, by path in the folder."""

    config: Config
    data: _RecordedData
    files: dict[str, str]
    plugins: dict[str, str]
    raw_range: list[float] | None


def read_model(folder: Path, trust: Trust, originals: Mapping[str, str] = MappingProxyType({})) -> SavedModel:
    """Reads the saved model in `folder`, but does not import its plugins.

    `originals` are digests of the files that the run used, by path, for the command in an error.

    Raises:
        JournalError: if the folder contains no readable saved model.
        TrustError: if the model needs a plugin file that may not run.
    """
    from safetensors import SafetensorError

    try:
        resolve_tree(folder)
        content = build(_Description, read_json(folder / _DESCRIPTION))
        values: Values = vars(content)
        data = deserialize_spec(values["data"], folder / _PREPROCESSING)
        map_parts(_check_scaling, data.input_shape, data.preprocessing)
        config = build_config(values["config"])
        low, high = content.raw_range or (0.0, 0.0)
        digests = {str(resolve_inside(folder, file)): digest for file, digest in content.files.items()}
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError, DataError, JournalError),
        SafetensorError,
    ) as error:
        message = f"cannot read a saved model from {folder}: {error}"
        raise JournalError(f"{message}; expected a folder like runs/.../model") from error
    plugins = [(kind, getattr(config, kind).get("plugin", "")) for kind in MODEL_RECORD_KINDS]
    catalogue = trust.make_catalogue(f"the model in {folder}", digests, plugins, originals, is_exact=True)
    raw_range = None if content.raw_range is None else (low, high)
    return SavedModel(folder, data, config, catalogue.files, raw_range, content.plugins)


def _check_scaling(shape: Any, scaling: AffineScaling) -> None:
    """Raises `ValueError` if the scaling does not fit the shape of a sample."""
    import numpy as np

    for values in (scaling.scale, scaling.offset):
        np.broadcast_to(values, shape)


def load_model(folder: str | Path, *, files: Sequence[str | Path] = (), trust: bool = False) -> SavedModel:
    """Loads a saved model. Runs the code of installed plugins, and other code only with `files` or `trust`.

    Args:
        folder: folder of the model.
        files: plugin files of the model, as for `expfw.run`.
        trust: whether to run the copies of plugin files in the folder.

    Raises:
        JournalError: if the folder contains no readable saved model.
        PluginError: if a plugin of the model is not installed.
        TrustError: if it needs a plugin file, but is not allowed to run it.
    """
    saved_model = read_model(Path(folder), make_trust(files, trust))
    assert saved_model.model is not None  # reads it now
    return saved_model
