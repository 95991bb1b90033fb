"""Saved models: what a trained model needs to predict from raw input, in a folder of JSON and safetensors."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expfw.api.data import Affine, DataSpec, Splits, each
from expfw.api.data_files import describe_spec, read_spec
from expfw.api.model_state import ModelState, read_arrays, write_arrays
from expfw.api.run import Run
from expfw.api.settings import RunConfig
from expfw.config.freeze import chosen, from_plain, make_plugins, shown
from expfw.errors import ConfigError, JournalError, PluginError
from expfw.plugins.catalogue import catalogue
from expfw.plugins.manager import manager, preloads
from expfw.system import atomic_files
from expfw.system.garbage_collection import import_modules

_WEIGHTS, _PREPROCESSING, _DESCRIPTION = "weights.safetensors", "preprocessing.safetensors", "model.json"
_EXAMPLE, _PLUGINS = "input_example.json", "plugins"
_NEEDED = ("dataset", "model", "backend")
_LOOKED_AT = 2**20
"""Numbers of the training data from which their range is taken."""


def save_model(folder: Path, run: Run, data: Splits, model: Any, files: tuple[str, ...]) -> None:
    """Writes `model.json`, the weights, the preprocessing, a raw sample and copies of plugin files to `folder`.

    It is there as a whole or not at all.
    """
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    _write(unfinished, run, data, model, files)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was extended
    atomic_files.move_folder(unfinished, folder)


def _write(folder: Path, run: Run, data: Splits, model: Any, files: tuple[str, ...]) -> None:
    state: ModelState = run.hook.expfw_save(model=model, training=False)
    write_arrays(folder / _WEIGHTS, state.arrays)
    copies = [_copy(Path(file), folder / _PLUGINS / f"{number}") for number, file in enumerate(files)]
    content = {
        "format": 1,
        "run": run.id,
        "config": shown(run.config),
        "data": describe_spec(data.spec, folder / _PREPROCESSING),
        "raw_range": _raw_range(data),
        "plugins": _versions(run.config, files),
        "arrays": dict(state.names),
        "files": [str(copy.relative_to(folder)) for copy in copies],
    }
    (folder / _DESCRIPTION).write_text(json.dumps(content, indent=2))
    (folder / _EXAMPLE).write_text(json.dumps(_raw_sample(data)))


def _raw_sample(data: Splits) -> Any:
    """The first training sample as it was before preprocessing, `(1, *input_shape)`, or parts by name, as lists."""
    import numpy as np

    def raw(preprocessing: Affine, x: Any) -> Any:
        return np.vectorize(_rounded)(preprocessing.inverse(x)).tolist()

    x, preprocessing = data.train.take(slice(1)).x, data.spec.preprocessing
    if isinstance(x, Mapping) and not isinstance(preprocessing, Mapping):
        preprocessing = dict.fromkeys(x, preprocessing)
    return each(raw, preprocessing, x)


def _raw_range(data: Splits) -> list[float] | None:
    """The least and the largest raw value of some training samples; None where samples have several parts."""
    shape, preprocessing = data.spec.input_shape, data.spec.preprocessing
    if isinstance(shape, Mapping) or isinstance(preprocessing, Mapping):
        return None
    few = max(1, min(1024, _LOOKED_AT // max(1, math.prod(shape))))
    raw = preprocessing.inverse(data.train.take(slice(few)).x)
    return [_rounded(raw.min()), _rounded(raw.max())]


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _versions(config: RunConfig, files: tuple[str, ...]) -> dict[str, str]:
    """Which distribution each plugin came from, for whoever misses it."""
    return {f"{p.kind}={p.name}": p.source for _, _, p in chosen(config, catalogue(files), _NEEDED)}


def _copy(file: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    return Path(shutil.copy(file, folder))


@dataclass(frozen=True)
class Description:
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


def read_description(folder: Path) -> Description:
    """What the saved model in `folder` says of itself.

    Raises:
        JournalError: the folder does not hold a saved model.
    """
    from safetensors import SafetensorError

    try:
        content = json.loads((folder / _DESCRIPTION).read_text())
        least_and_largest = content.get("raw_range")  # older ones do not have it
        return Description(
            data=read_spec(content["data"], folder / _PREPROCESSING),
            config=from_plain(content["config"]),
            files=tuple(str(folder / file) for file in content["files"]),
            raw_range=None if least_and_largest is None else (least_and_largest[0], least_and_largest[1]),
            versions=dict(content["plugins"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError, SafetensorError) as error:
        what = f"{folder} does not hold a saved model that can be read ({error})"
        raise JournalError(f"{what}; expected a folder like runs/.../model") from error


def load_model(folder: str | Path) -> SavedModel:
    """Rebuilds a saved model by its plugins.

    Raises:
        JournalError: the folder does not hold a saved model.
        PluginError: a plugin that made it is not installed.
    """
    folder = Path(folder)
    found = read_description(folder)
    config, data = found.config, found.data
    try:
        plugins = make_plugins(config, catalogue(found.files), kinds=_NEEDED)
    except PluginError as error:
        made_with = ", ".join(f"{name} of {source}" for name, source in found.versions.items())
        raise PluginError(f"{error}. The model was made with {made_with}") from error
    run = Run("saved", "saved", folder, config, config.objective, record=lambda kind, **fields: None, training=False)
    hooks = manager(plugins, report=lambda line: None).hook
    import_modules(preloads(plugins))
    model = hooks.expfw_build_model(config=config, run=run, data=_Specified(data))
    hooks.expfw_restore(model=model, state=ModelState(read_arrays(folder / _WEIGHTS)), training=False)
    return SavedModel(data, config, model, hooks)


@dataclass(frozen=True)
class _Specified:
    """Stands for a dataset of which only the specification is known; enough to build a model."""

    spec: DataSpec
