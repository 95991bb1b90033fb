"""What MLflow refuses for good: it would be refused for ever, and hold up all that follows, so it is left out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger("expfw.mlflow")


def call_and_record_refusal(state: dict[str, Any], subject: str, call: Callable[[], object]) -> None:
    """Calls it; a refusal is kept in `state["refused"]`, the first one of a run, for the user to see."""
    refusal = get_refusal(call)
    if refusal is not None:
        state.setdefault("refused", f"{subject}: {refusal}")


def get_refusal(call: Callable[[], object]) -> str | None:
    """Why MLflow does not take what `call` sends; None where it does. What may go well later is raised."""
    from mlflow.exceptions import MlflowException

    try:
        call()
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        log.warning("refused by MLflow: %s", error.message)
        return str(error.message).rstrip(".")
    return None
