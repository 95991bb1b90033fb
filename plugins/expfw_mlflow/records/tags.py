"""The tags of runs and sweeps in MLflow."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expfw_mlflow.records.metrics import make_allowed_name

_MLFLOW_TAGS = {"user": "mlflow.user", "command": "mlflow.source.name", "git_commit": "mlflow.source.git.commit"}


def make_run_tags(folder: Path, record: Mapping[str, Any]) -> dict[str, str]:
    """Returns the tags of a run, from its record `run_started`."""
    return {
        "expfw.run_id": record["id"],
        "expfw.folder": str(folder),
        "expfw.fingerprint": record["fingerprint"],
        **{_MLFLOW_TAGS.get(name, f"expfw.{name}"): value for name, value in record["environment"].items()},
        **{make_allowed_name(name): value for name, value in record["tags"].items()},
    }


def make_sweep_tags(folder: Path, record: Mapping[str, Any]) -> dict[str, str]:
    """Returns the tags of a sweep's parent run, from its record `sweep_started`."""
    command = shlex.join(["expfw", "sweep", *record["overrides"]])
    return {
        "expfw.sweep_id": record["id"],
        "expfw.sweep": "parent",
        "expfw.folder": str(folder),
        _MLFLOW_TAGS["command"]: command,
    }


def make_parent_filter(sweep_id: str) -> str:
    """Returns MLflow's search filter for the parent run of a sweep."""
    return f"tags.`expfw.sweep_id` = '{sweep_id}' and tags.`expfw.sweep` = 'parent'"
