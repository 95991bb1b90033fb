"""`expfw runs export`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from expfw.api.data import get_named_parts, map_parts
from expfw.cli.output import Output
from expfw.cli.runs import saved_models
from expfw.config.run_plugins import make_plugins
from expfw.errors import ConfigError, RunsFolderError, TrainingError, did_you_mean, to_one_line
from expfw.plugins.catalogue import get_catalogue
from expfw.runs.saved_model import ModelDescription, SavedModel
from expfw.system import formatting
from expfw.system.json_output import print_json
from expfw.tracking.workspace import Workspace

_ENDINGS = {"keras": ".keras", "savedmodel": "-savedmodel", "tflite": ".tflite"}
_SAMPLE_COUNT = 8
_TOLERANCE = 1e-4
"""Largest allowed difference, relative to the largest output: some accumulated float32 rounding errors."""


def export(run_id: str, format: str, workspace: Workspace, target: Path | None, force: bool, output: Output) -> None:
    """Writes the run's model for programs without expfw, and compares its outputs with the original.

    Args:
        run_id: ID of the run.
        format: name of the export format.
        workspace: the runs folder.
        target: file or folder to write; None for a name from the run ID.
        force: whether to replace an existing file or folder.
        output: output format.

    Raises:
        ConfigError: if the format is unknown or does not fit the model, or the target exists.
        TrainingError: if the outputs differ; the export is deleted.
        RunsFolderError: if the target cannot be written.
    """
    entry = saved_models.find_run_with_model(run_id, workspace)
    description = saved_models.get_description(entry)
    _check_format(format, description)
    path = Path(f"{entry.id}{_ENDINGS.get(format, f'.{format}')}") if target is None else target
    _check_path(path, format, force)
    unfinished = path.absolute().with_name(f".unfinished-{path.name}")
    _remove(unfinished)
    try:
        with saved_models.silenced_frameworks():
            model = saved_models.load_saved_model(entry)
            predict_exported = _write_model(model, unfinished, format)
            difference = None if predict_exported is True else _measure_difference(model, description, predict_exported)
        _remove(path)
        unfinished.replace(path)
    except OSError as error:
        raise RunsFolderError(f"cannot write {path}: {error.strerror}; choose another with --output") from error
    finally:
        _remove(unfinished)
    if output.is_json:
        summary = {"run": entry.id, "format": format, "path": path, "bytes": _measure_bytes(path)}
        print_json({**summary, "input": _format_shapes(description), "largest_difference": difference})
        return
    print(path)
    print(
        f"input: any number n of raw samples {_format_shapes(description)}; size: "
        f"{formatting.format_size(_measure_bytes(path))}"
    )
    if difference is not None:
        print(f"compared with the run's model on {_SAMPLE_COUNT} raw samples: largest difference {difference:.1e}")


def _check_format(format: str, description: ModelDescription) -> None:
    plugins = make_plugins(description.config, get_catalogue(description.files), kinds=("backend", "model"))
    known_formats = [name for plugin in plugins for name in plugin.export_formats]
    if format not in known_formats:
        suggestion = did_you_mean(format, known_formats)
        raise ConfigError(f"unknown format {format!r}.{suggestion} Available: {', '.join(known_formats) or 'none'}")


def _check_path(path: Path, format: str, force: bool) -> None:
    ending = _ENDINGS.get(format, "")
    if ending.startswith(".") and path.suffix != ending:
        raise ConfigError(f"--output is {path}; expected a file name that ends with {ending} for --format {format}")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"cannot write --output {path}: no folder {path.absolute().parent}")
    if not path.exists():
        return
    if not force:
        raise ConfigError(f"{path} already exists; replace it with --force or choose another with --output")
    if path.is_dir() and any(path.iterdir()) and not (path / "saved_model.pb").exists():
        raise ConfigError(f"the folder {path} contains files that are not a saved model; choose another with --output")


def _write_model(model: SavedModel, path: Path, format: str) -> Any:
    """Writes the model and returns a function that predicts with it, or True if it cannot be compared."""
    try:
        predict_exported = model.hook.expfw_export(model=model.model, data=model.data, path=path, format=format)
    except (ConfigError, OSError):
        raise
    except Exception as error:
        cause = to_one_line(f"{type(error).__name__}: {error}")[:300]
        raise TrainingError(f"cannot export the model with --format {format}: {cause}") from error
    if predict_exported is None:
        raise ConfigError(f"no plugin of this run exports --format {format}")
    return predict_exported


def _measure_difference(
    model: SavedModel, description: ModelDescription, predict_exported: Callable[[Any], Any]
) -> float:
    """Returns the largest difference between outputs of the model and of the export.

    Raises:
        TrainingError: if the shapes differ, or the difference is larger than rounding errors.
    """
    import numpy as np

    raw = _draw_raw_samples(description)
    first_sample = map_parts(lambda array: array[:1], raw)
    largest = 0.0
    for samples in (raw, first_sample):
        expected, actual = get_named_parts(model.predict(samples)), get_named_parts(predict_exported(samples))
        pairs = zip(expected.values(), (actual[name] for name in expected), strict=True)
        for expected_output, actual_output in pairs:
            if np.shape(actual_output) != np.shape(expected_output):
                raise TrainingError(
                    f"outputs of the exported model have shape {np.shape(actual_output)}; expected "
                    f"{np.shape(expected_output)}, as in the run's model; the export was deleted"
                )
            difference = float(np.abs(np.float64(actual_output) - np.float64(expected_output)).max(initial=0))
            if not difference <= _TOLERANCE * max(1.0, float(np.abs(expected_output).max(initial=0))):
                raise TrainingError(
                    f"outputs of the exported model and the run's model differ by {difference:.3g} on "
                    f"{len(expected_output)} raw samples; the export was deleted"
                )
            largest = max(largest, difference)
    return largest


def _draw_raw_samples(description: ModelDescription) -> Any:
    """Returns random samples in the range of the training data, always the same ones."""
    import numpy as np

    generator = np.random.default_rng(0)
    low, high = description.raw_range or (0.0, 1.0)
    return map_parts(
        lambda shape: generator.uniform(low, high, (_SAMPLE_COUNT, *shape)).astype(np.float32),
        description.data.input_shape,
    )


def _format_shapes(description: ModelDescription) -> str:
    shapes = get_named_parts(description.data.input_shape)
    return ", ".join(f"{name}{' ' if name else ''}(n, {', '.join(map(str, s))})" for name, s in shapes.items())


def _measure_bytes(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
