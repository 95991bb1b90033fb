"""Saved models: what a trained model needs to predict from raw input, in a folder of JSON and safetensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expfw import durable
from expfw.config import chosen, from_plain, make_plugins, shown
from expfw.data import Affine, DataSpec, Splits, each
from expfw.data_files import describe_spec, read_spec
from expfw.errors import ConfigError, JournalError, PluginError
from expfw.model_state import ModelState, read_arrays, write_arrays
from expfw.plugin_manager import manager
from expfw.plugins import catalogue
from expfw.run_state import Run
from expfw.settings import RunConfig

_WEIGHTS, _PREPROCESSING, _DESCRIPTION = "weights.safetensors", "preprocessing.safetensors", "model.json"
_EXAMPLE, _PLUGINS = "input_example.json", "plugins"
_NEEDED = ("dataset", "model", "backend")


def save_model(folder: Path, run: Run, data: Splits, model: Any, files: tuple[str, ...]) -> None:
    """Writes `model.json`, the weights, the preprocessing, a raw sample and copies of plugin files to `folder`.

    It is there as a whole or not at all.
    """
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    _write(unfinished, run, data, model, files)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was extended
    durable.move_folder(unfinished, folder)


def _write(folder: Path, run: Run, data: Splits, model: Any, files: tuple[str, ...]) -> None:
    state: ModelState = run.hook.expfw_save(model=model, training=False)
    write_arrays(folder / _WEIGHTS, state.arrays)
    copies = [_copy(Path(file), folder / _PLUGINS / f"{number}") for number, file in enumerate(files)]
    content = {
        "format": 1,
        "run": run.id,
        "config": shown(run.config),
        "data": describe_spec(data.spec, folder / _PREPROCESSING),
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
        return np.vectorize(lambda value: float(f"{value:.6g}"))(preprocessing.inverse(x)).tolist()

    x, preprocessing = data.train.take(slice(1)).x, data.spec.preprocessing
    if isinstance(x, Mapping) and not isinstance(preprocessing, Mapping):
        preprocessing = dict.fromkeys(x, preprocessing)
    return each(raw, preprocessing, x)


def _versions(config: RunConfig, files: tuple[str, ...]) -> dict[str, str]:
    """Which distribution each plugin came from, for whoever misses it."""
    return {f"{p.kind}={p.name}": p.source for _, _, p in chosen(config, catalogue(files), _NEEDED)}


def _copy(file: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    return Path(shutil.copy(file, folder))


@dataclass(frozen=True)
class SavedModel:
    """A trained model, ready to predict."""

    data: DataSpec
    config: RunConfig
    model: Any
    hook: Any

    def predict(self, raw: Any) -> Any:
        """Raw samples `(n, *input_shape)`, as the dataset's files hold them, to outputs `(n, ...)`.

        Samples or outputs with several parts are dictionaries of arrays.
        """
        return self.hook.expfw_predict(model=self.model, x=self.data.preprocess(raw))


def load_model(folder: str | Path) -> SavedModel:
    """Rebuilds a saved model by its plugins.

    Raises:
        JournalError: the folder does not hold a saved model.
        PluginError: a plugin that made it is not installed.
    """
    from safetensors import SafetensorError

    folder = Path(folder)
    try:
        content = json.loads((folder / _DESCRIPTION).read_text())
        data = read_spec(content["data"], folder / _PREPROCESSING)
        config = from_plain(content["config"])
        files = tuple(str(folder / file) for file in content["files"])
    except (OSError, ValueError, KeyError, TypeError, ConfigError, SafetensorError) as error:
        what = f"{folder} does not hold a saved model that can be read ({error})"
        raise JournalError(f"{what}; expected a folder like runs/.../model") from error
    try:
        plugins = make_plugins(config, catalogue(files), kinds=_NEEDED)
    except PluginError as error:
        made_with = ", ".join(f"{name} of {source}" for name, source in content["plugins"].items())
        raise PluginError(f"{error}. The model was made with {made_with}") from error
    run = Run("saved", "saved", folder, config, config.objective, record=lambda kind, **fields: None, training=False)
    hooks = manager(plugins, report=lambda line: None).hook
    model = hooks.expfw_build_model(config=config, run=run, data=_Specified(data))
    hooks.expfw_restore(model=model, state=ModelState(read_arrays(folder / _WEIGHTS)), training=False)
    return SavedModel(data, config, model, hooks)


@dataclass(frozen=True)
class _Specified:
    """Stands for a dataset of which only the specification is known; enough to build a model."""

    spec: DataSpec
