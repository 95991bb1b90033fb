"""Tracking URIs of MLflow stores, and errors for a store that does not respond."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_UNAVAILABLE_CODES = (
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "REQUEST_LIMIT_EXCEEDED",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
)


def remove_credentials(uri: str) -> str:
    """Returns the address without user name and password."""
    return re.sub(r"://[^/?#]*@", "://", uri, count=1)


def disable_retries() -> None:
    """Disables MLflow's HTTP retries, also if the user has set their number.

    MLflow repeats a request whose answer is lost, also one that creates something. expfw retries itself, and searches
    before it creates.
    """
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


@contextmanager
def translate_store_errors(uri: str) -> Iterator[None]:
    """Converts MLflow's errors for a store that does not respond, or fails, to ConnectionError."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in _UNAVAILABLE_CODES:
            raise
        # after "failed with exception", the text is a Python traceback
        problem = "does not respond" if "failed with exception" in str(error) else f"is not available: {error}"
        raise ConnectionError(f"{uri} {problem}") from error
