"""`expfw runs export`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from expfw.api.data import get_named_parts, map_parts
from expfw.config.run_plugins import make_plugins
from expfw.errors import ConfigError, RunsFolderError, TrainingError, list_choices, to_one_line
from expfw.plugins.catalogue import get_catalogue
from expfw.system.formatting import format_size
from expfw.system.json_output import print_json
from expfw.system.redirection import redirect_noise
from expfw.tracking.run_index import Workspace
from expfw.tracking.saved_model import SavedModel

_ENDINGS = {"keras": ".keras", "savedmodel": "-savedmodel", "tflite": ".tflite"}
_SAMPLE_COUNT = 8
_TOLERANCE = 1e-4
"""Largest allowed difference, relative to the largest output: some accumulated float32 rounding errors."""


def export(run_id: str, format: str, output: Path | None, force: bool, workspace: Workspace, as_json: bool) -> None:
    """Writes the run's model for programs without expfw, and compares its outputs with the original.

    Deletes the export if the outputs differ.
    """
    run = workspace.find_run(run_id)
    model = run.model
    plugins = make_plugins(model.config, get_catalogue(model.files), kinds=("backend", "model"))
    known_formats = [name for plugin in plugins for name in plugin.export_formats]
    if format not in known_formats:
        raise ConfigError(f"unknown format {format!r}.{list_choices(format, known_formats)}")
    path = output or Path(f"{run.id}{_ENDINGS.get(format, f'.{format}')}")
    ending = _ENDINGS.get(format, "")
    if ending.startswith(".") and path.suffix != ending:
        raise ConfigError(f"--output is {path}; expected a file name that ends with {ending} for --format {format}")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"cannot write --output {path}: no folder {path.absolute().parent}")
    if path.exists() and not force:
        raise ConfigError(f"{path} already exists; replace it with --force or choose another with --output")
    if path.is_dir() and any(path.iterdir()) and not (path / "saved_model.pb").exists():
        raise ConfigError(f"the folder {path} contains files that are not a saved model; choose another with --output")
    unfinished = path.absolute().with_name(f".unfinished-{path.name}")
    _remove(unfinished)
    try:
        with redirect_noise():
            predict_exported = _write_model(model, unfinished, format)
            difference = None if predict_exported is True else _measure_difference(model, predict_exported)
        size_bytes = sum(file.stat().st_size for file in (unfinished, *unfinished.rglob("*")) if file.is_file())
        _remove(path)
        unfinished.replace(path)
    except OSError as error:
        raise RunsFolderError(f"cannot write {path}: {error.strerror}; choose another with --output") from error
    finally:
        _remove(unfinished)
    parts = get_named_parts(model.data.input_shape)
    shapes = ", ".join(f"{name}{' ' if name else ''}(n, {', '.join(map(str, s))})" for name, s in parts.items())
    if as_json:
        summary = {"run": run.id, "format": format, "path": path, "bytes": size_bytes}
        print_json({**summary, "input": shapes, "largest_difference": difference})
        return
    print(path)
    print(f"input: any number n of raw samples {shapes}; size: {format_size(size_bytes)}")
    if difference is not None:
        print(f"compared with the run's model on {_SAMPLE_COUNT} raw samples: largest difference {difference:.1e}")


def _write_model(model: SavedModel, path: Path, format: str) -> Any:
    """Writes the model and returns a function that predicts with it, or True if it cannot be compared."""
    hook, framework_model = model.hook, model.model  # a missing plugin or damaged weights have their own errors
    try:
        predict_exported = hook.expfw_export(model=framework_model, data=model.data, path=path, format=format)
    except (ConfigError, OSError):
        raise
    except Exception as error:
        cause = to_one_line(f"{type(error).__name__}: {error}")[:300]
        raise TrainingError(f"cannot export the model with --format {format}: {cause}") from error
    if predict_exported is None:
        raise ConfigError(f"no plugin of this run exports --format {format}")
    return predict_exported


def _measure_difference(model: SavedModel, predict_exported: Callable[[Any], Any]) -> float:
    """Returns the largest difference between outputs of the model and of the export.

    The samples are random, in the range of the training data, and always the same.

    Raises:
        TrainingError: if the shapes differ, or the difference is larger than rounding errors.
    """
    import numpy as np

    generator = np.random.default_rng(0)
    low, high = model.raw_range or (0.0, 1.0)
    raw = map_parts(
        lambda shape: generator.uniform(low, high, (_SAMPLE_COUNT, *shape)).astype(np.float32),
        model.data.input_shape,
    )
    largest = 0.0
    for samples in (raw, map_parts(lambda array: array[:1], raw)):
        outputs, exported_outputs = get_named_parts(model.predict(samples)), get_named_parts(predict_exported(samples))
        for name, expected in outputs.items():
            actual = exported_outputs[name]
            if np.shape(actual) != np.shape(expected):
                raise TrainingError(
                    f"outputs of the exported model have shape {np.shape(actual)}; expected {np.shape(expected)}, as "
                    "in the run's model; the export was deleted"
                )
            difference = float(np.abs(np.float64(actual) - np.float64(expected)).max(initial=0))
            if not difference <= _TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0))):
                raise TrainingError(
                    f"outputs of the exported model and the run's model differ by {difference:.3g} on "
                    f"{len(expected)} raw samples; the export was deleted"
                )
            largest = max(largest, difference)
    return largest


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
