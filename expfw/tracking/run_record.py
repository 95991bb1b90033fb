"""Records and files of a run: configuration, environment, data, model and result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from expfw.api.data import Split, Splits, map_parts
from expfw.api.result import Result
from expfw.api.run import Run
from expfw.api.run_config import RunConfig, flatten
from expfw.config.freeze import redact_config
from expfw.plugins.entry import PluginEntry
from expfw.redaction import redact_overrides
from expfw.system import atomic_files
from expfw.tracking import environment

CONFIG_FILE, ENVIRONMENT_FILE = "config.yaml", "environment.json"
_DIGEST_BYTES = 1 << 20


def write_environment(
    overrides: Sequence[str], entries: Sequence[PluginEntry], folder: Path, start_number: int = 1
) -> tuple[dict[str, str], list[Path]]:
    """Writes overrides and environment to the run folder.

    Args:
        overrides: overrides typed by the user.
        entries: plugin entries of the run.
        folder: run folder.
        start_number: 1 for a new run, plus 1 for each resume; files of earlier starts are kept.

    Returns:
        Summary of the environment for trackers, and the written files.
    """
    suffix = "" if start_number == 1 else f"-{start_number}"
    paths = [folder / f"overrides{suffix}.yaml", folder / f"environment{suffix}.json"]
    paths[0].write_text(yaml.safe_dump(redact_overrides(overrides)))
    description = environment.describe(entries)
    git = description["git"]
    environment_summary = {f"plugin.{name}": version for name, version in description["plugins"].items()}
    environment_summary |= {"user": description["user"], "command": " ".join(["expfw", *description["command"][1:]])}
    if git is not None:
        if diff := git.pop("diff"):
            paths.append(folder / f"diff{suffix}.patch")
            paths[-1].write_text(diff)
        environment_summary |= {"git_commit": git["commit"], "git_dirty": str(git["dirty"])}
    paths[1].write_text(json.dumps(description, indent=2))
    return environment_summary, paths


def write_config(config: RunConfig, folder: Path) -> Path:
    """Writes the configuration atomically. The journal contains it too and is the source of truth."""
    atomic_files.write_text(folder / CONFIG_FILE, yaml.safe_dump(redact_config(config), sort_keys=False))
    return folder / CONFIG_FILE


def make_config_record(config: RunConfig) -> dict[str, Any]:
    """Returns the fields of the configuration record: nested and flat values, with secrets hidden."""
    values = redact_config(config)
    return {"config": values, "params": flatten(values)}


def hash_files(files: Sequence[str]) -> dict[str, str]:
    """Returns the digest of each plugin file, by path."""
    return {file: hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] for file in files}


def describe_dataset(config: RunConfig, data: Splits, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of the dataset record: samples, shapes, identity, and a digest of each split.

    Args:
        config: configuration of the run.
        data: the loaded data.
        identity: `identity()` of the dataset plugin.
    """
    counts = {name: len(split) for name, split in data.get_splits().items()}
    return {
        "name": config.dataset["plugin"],
        "options": {key: value for key, value in redact_config(config)["dataset"].items() if key != "plugin"},
        "identity": identity,
        "samples": counts,
        "input_shape": data.spec.input_shape,
        "classes": data.spec.classes,
        "splits": {name: _describe_split(split) for name, split in data.get_splits().items()},
    }


def _describe_split(split: Split) -> dict[str, Any]:
    arrays = {name: {"dtype": str(array.dtype), "shape": list(array.shape)} for name, array in split.arrays().items()}
    return {"samples": len(split), "digest": compute_digest(split), "arrays": arrays}


def compute_digest(split: Split) -> str:
    """Returns a digest of a split, 16 hexadecimal digits, computed from its size and some of its samples.

    The samples are evenly spaced, include the first and the last, and have about 1 MiB per array.
    """
    import numpy as np

    hasher = hashlib.sha256()
    for name, array in split.arrays().items():
        hasher.update(f"{name} {array.dtype} {array.shape}".encode())
        size = max(1, array.dtype.itemsize * math.prod(array.shape[1:]))
        rows = np.linspace(0, len(array) - 1, min(len(array), max(2, _DIGEST_BYTES // size)), dtype=np.int64)
        hasher.update(np.ascontiguousarray(array[rows]).tobytes())
    return hasher.hexdigest()[:16]


def describe_model(run: Run, data: Splits, model: Any, entries: Sequence[PluginEntry]) -> dict[str, Any]:
    """Returns shapes and types of the input and output of the model, and the pinned packages that it requires."""
    output = run.hook.expfw_predict(model=model, x=data.train.take(slice(1)).x)
    return {
        "requirements": environment.list_requirements(entries),
        "input": map_parts(_describe_array, data.train.x),
        "output": map_parts(_describe_array, output),
    }


def _describe_array(array: Any) -> dict[str, Any]:
    return {"shape": [-1, *array.shape[1:]], "dtype": str(array.dtype)}


def make_end_record(result: Result) -> Mapping[str, Any]:
    """Returns the fields of the last record of a run."""
    excluded = ("run_id", "name", "folder")
    return {f.name: getattr(result, f.name) for f in dataclasses.fields(result) if f.name not in excluded}
