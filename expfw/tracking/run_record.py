"""What a run writes down about itself: configuration, surroundings, data, its model and its end."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from expfw.api.data import Split, Splits, each
from expfw.api.plain_values import flat
from expfw.api.run import Result, Run
from expfw.api.settings import RunConfig
from expfw.config.freeze import chosen, shown
from expfw.plugins.catalogue import catalogue
from expfw.redaction import redact_words
from expfw.system import atomic_files
from expfw.tracking import environment

CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
_DIGEST_BYTES = 1 << 20


def write_surroundings(
    config: RunConfig, overrides: Sequence[str], files: tuple[str, ...], folder: Path, life: int = 1
) -> tuple[dict[str, str], list[Path]]:
    """Writes overrides and environment into the run's folder.

    Args:
        life: counts how often the run went on; what was written before stays beside.

    Returns:
        The few facts that trackers show, and the files.
    """
    suffix = "" if life == 1 else f"-{life}"
    written = [folder / f"overrides{suffix}.yaml", folder / f"environment{suffix}.json"]
    written[0].write_text(yaml.safe_dump(redact_words(overrides)))
    described = environment.describe(found for _, _, found in chosen(config, catalogue(files)))
    git = described["git"]
    facts = {f"plugin.{name}": version for name, version in described["plugins"].items()}
    facts |= {"user": described["user"], "command": " ".join(["expfw", *described["command"][1:]])}
    if git is not None:
        if diff := git.pop("diff"):
            written.append(folder / f"diff{suffix}.patch")
            written[-1].write_text(diff)
        facts |= {"git_commit": git["commit"], "git_dirty": str(git["dirty"])}
    written[1].write_text(json.dumps(described, indent=2))
    return facts, written


def write_config(config: RunConfig, folder: Path) -> Path:
    """Writes the configuration, as a whole; the journal has it too, and counts."""
    atomic_files.write_text(folder / CONFIG, yaml.safe_dump(shown(config), sort_keys=False))
    return folder / CONFIG


def recorded_config(config: RunConfig) -> dict[str, Any]:
    """The configuration as it is recorded, as it is and flattened, secrets hidden."""
    values = shown(config)
    return {"config": values, "params": flat(values)}


def hashes(files: Sequence[str]) -> dict[str, str]:
    """What is in the plugin files, by path."""
    return {file: hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] for file in files}


def dataset(config: RunConfig, data: Splits, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Which data there are: how many, of what shape, from where, and a digest of each split.

    Args:
        identity: what the dataset plugin says they are made of.
    """
    counts = {name: len(split) for name, split in data.present().items()}
    return {
        "name": config.dataset["plugin"],
        "options": {key: value for key, value in shown(config)["dataset"].items() if key != "plugin"},
        "identity": identity,
        "samples": counts,
        "input_shape": data.spec.input_shape,
        "classes": data.spec.classes,
        "splits": {name: _split(split) for name, split in data.present().items()},
    }


def _split(split: Split) -> dict[str, Any]:
    arrays = {name: {"dtype": str(one.dtype), "shape": list(one.shape)} for name, one in split.arrays().items()}
    return {"samples": len(split), "digest": digest(split), "arrays": arrays}


def digest(split: Split) -> str:
    """What tells the content of a split from another, 16 hexadecimal digits: of its size and of samples all over it.

    So many samples as make up some MiB, evenly spaced, the first and the last among them.
    """
    import numpy as np

    made = hashlib.sha256()
    for name, array in split.arrays().items():
        made.update(f"{name} {array.dtype} {array.shape}".encode())
        size = max(1, array.dtype.itemsize * math.prod(array.shape[1:]))
        rows = np.linspace(0, len(array) - 1, min(len(array), max(2, _DIGEST_BYTES // size)), dtype=np.int64)
        made.update(np.ascontiguousarray(array[rows]).tobytes())
    return made.hexdigest()[:16]


def model(run: Run, data: Splits, made: Any, files: tuple[str, ...]) -> dict[str, Any]:
    """What declares a saved model: shapes and types of its input and output, and the packages it needs, pinned."""
    output = run.hook.expfw_predict(model=made, x=data.train.take(slice(1)).x)
    plugins = [found for _, _, found in chosen(run.config, catalogue(files), ("dataset", "model", "backend"))]
    return {
        "requirements": environment.requirements(plugins),
        "input": each(_declared, data.train.x),
        "output": each(_declared, output),
    }


def _declared(array: Any) -> dict[str, Any]:
    return {"shape": [-1, *array.shape[1:]], "dtype": str(array.dtype)}


def end(result: Result) -> Mapping[str, Any]:
    """The result as the last record has it."""
    left_out = ("run_id", "name", "folder")
    return {f.name: getattr(result, f.name) for f in dataclasses.fields(result) if f.name not in left_out}
