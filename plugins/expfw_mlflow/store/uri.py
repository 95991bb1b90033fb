"""Tracking URIs of MLflow stores, and errors for a store that does not respond."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import expfw
from expfw_mlflow.ui.urls import hide_url_credentials

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SERVERS = ("http", "https", "databricks")
_UNAVAILABLE_CODES = (
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "REQUEST_LIMIT_EXCEEDED",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
)


def limit_retries() -> None:
    """Limits MLflow's HTTP retries, because expfw retries itself; MLflow would wait minutes for a server that is down.

    Call it before MLflow is imported.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def check_address(uri: str | None) -> None:
    """Checks that MLflow can write to a tracking URI; None is the store in the runs folder.

    Raises:
        ConfigError: if MLflow cannot write to it.
    """
    if uri is None or uri == "databricks":
        return
    match = re.match(r"(\w+)(\+\w+)?://", uri)
    if match is None or match[1] not in (*_DATABASES, *_SERVERS):
        raise expfw.ConfigError(
            f"cannot write to the tracking URI {hide_url_credentials(uri)!r} (tracker.mlflow.uri, or "
            "MLFLOW_TRACKING_URI); expected http://..., https://..., or a database such as "
            "sqlite:///absolute/path/mlflow.db. MLflow's file store is not supported"
        )


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
        raise ConnectionError(f"{hide_url_credentials(uri)} {problem}") from error
