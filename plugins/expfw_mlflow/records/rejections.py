"""Skips records that MLflow rejects permanently, so that they do not block the records after them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger("expfw.mlflow")


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
