"""The tracker's state for a journal, and records that MLflow rejects permanently."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

log = logging.getLogger("expfw.mlflow")


def read_delivery_state(folder: Path, tracker: str) -> dict[str, Any]:
    """Returns the state of the run or sweep in `folder`, such as MLflow's `run_id`; empty before a delivery."""
    try:
        content = json.loads((folder / "tracking" / f"{tracker}.json").read_text())
    except FileNotFoundError:
        return {}
    state: dict[str, Any] = content["state"]
    return state


def call_and_record_rejection(state: dict[str, Any], subject: str, call: Callable[[], object]) -> None:
    """Calls `call` and records the first rejection of a run in `state["rejected"]`, for the user."""
    rejection = get_rejection(call)
    if rejection is not None:
        state.setdefault("rejected", f"{subject}: {rejection}")


def get_rejection(call: Callable[[], object]) -> str | None:
    """Returns why MLflow rejects a call, or None if it succeeds; raises errors that a retry may fix."""
    from mlflow.exceptions import MlflowException

    try:
        call()
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        log.warning("rejected by MLflow: %s", error.message)
        return str(error.message).rstrip(".")
    return None
