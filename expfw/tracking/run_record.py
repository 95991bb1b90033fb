"""Records and files of a run: configuration, environment, data, model and result."""

from __future__ import annotations

import getpass
import hashlib
import importlib.metadata
import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from expfw.api.data import Split, Splits, map_parts
from expfw.api.plugin_code import hash_file
from expfw.api.run import Run
from expfw.api.run_config import RunConfig, flatten
from expfw.config.freeze import redact_config
from expfw.plugins.entry import PluginEntry
from expfw.redaction import redact_overrides
from expfw.system import atomic_files, cpu, hardware
from expfw.tracking.environment import CpuInfo, Environment, find_relevant_packages, list_packages
from expfw.tracking.source_changes import read_source_changes
from expfw.version import __version__

_DIGEST_BYTES = 1 << 20


def describe_environment(entries: Sequence[PluginEntry]) -> Environment:
    """Returns versions, machine and command line, to explain differences between runs.

    Imports none of the packages that it lists.
    """
    user, packages = "unknown", list_packages()
    with suppress(OSError, KeyError):  # a container without a user database
        user = getpass.getuser()
    return Environment(
        expfw=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        packages=packages,
        relevant_packages=find_relevant_packages(entries, packages),
        plugins={f"{entry.kind}.{entry.name}": entry.source for entry in entries},
        cpu=CpuInfo(len(cpu.get_cores()), cpu.get_cpu_features(), cpu.get_cpu_model()),
        memory_gib=hardware.get_memory_gib(),
        gpus=hardware.list_gpu_names(),
        user=user,
        command=redact_overrides(sys.argv),
        working_directory=os.getcwd(),
    )


def _find_version(package: str) -> str | None:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def write_environment(
    overrides: Sequence[str], entries: Sequence[PluginEntry], folder: Path, config: RunConfig
) -> tuple[dict[str, str], list[str]]:
    """Writes overrides and environment to the run folder; keeps the files of earlier starts of a resumed run.

    Returns a summary of the environment for trackers, and the names of the written files.
    """
    start_number = 1 + len(list(folder.glob("overrides*.yaml")))
    suffix = "" if start_number == 1 else f"-{start_number}"
    git, patch = read_source_changes(Path(config.runs_dir))
    environment = replace(describe_environment(entries), git=git)
    summary = {f"plugin.{name}": version for name, version in environment.plugins.items()}
    summary |= {"user": str(environment.user), "command": " ".join(["expfw", *environment.command[1:]])}
    texts = {f"overrides{suffix}.yaml": yaml.safe_dump(redact_overrides(overrides))}
    if git is not None:
        summary |= {"git_commit": git.commit, "git_dirty": str(git.dirty)}
    if patch:
        texts[f"diff{suffix}.patch"] = patch
    for name, text in texts.items():
        atomic_files.write_text(folder / name, text, is_atomic=False)
    environment_file = f"environment{suffix}.json"
    atomic_files.write_json(folder / environment_file, asdict(environment), is_atomic=False, indent=2)
    return summary, [*texts, environment_file]


def make_config_record(config: RunConfig) -> dict[str, Any]:
    """Returns the fields of the configuration record: nested and flat values, with secrets hidden."""
    values = redact_config(config)
    return {"config": values, "params": flatten(values)}


def hash_files(files: Sequence[str]) -> dict[str, str]:
    """Returns the digest of each plugin file, by path."""
    return {file: hash_file(file) or "unreadable" for file in files}


def describe_dataset(config: RunConfig, data: Splits, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of the dataset record: samples, shapes, identity, and a digest of each split."""
    splits = data.get_splits()
    return {
        "name": config.dataset["plugin"],
        "options": {key: value for key, value in redact_config(config)["dataset"].items() if key != "plugin"},
        "identity": identity,
        "samples": {name: len(split) for name, split in splits.items()},
        "input_shape": data.spec.input_shape,
        "classes": data.spec.classes,
        "splits": {
            name: {
                "samples": len(split),
                "digest": compute_digest(split),
                "arrays": {n: {"dtype": str(a.dtype), "shape": list(a.shape)} for n, a in split.arrays().items()},
            }
            for name, split in splits.items()
        },
    }


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

    def describe_array(array: Any) -> dict[str, Any]:
        return {"shape": [-1, *array.shape[1:]], "dtype": str(array.dtype)}

    output = run.hook.expfw_predict(model=model, x=data.train.take(slice(1)).x)
    packages = dict.fromkeys(["expfw", "tensorflow", "keras", "numpy", *(entry.distribution for entry in entries)])
    return {
        "requirements": [f"{name}=={version}" for name in packages if (version := _find_version(name))],
        "input": map_parts(describe_array, data.train.x),
        "output": map_parts(describe_array, output),
    }
