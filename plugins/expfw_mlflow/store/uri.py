"""Addresses of stores that MLflow writes to, and what to say of one that does not answer."""

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
    """Whoever asks tries again by himself; MLflow's own patience with a server that is down is some minutes.

    To be called before MLflow is imported.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def check_address(uri: str | None) -> None:
    """Whether something can be written there at all; None is for our own store.

    Raises:
        ConfigError: it is the address of nothing that MLflow can write to.
    """
    if uri is None or uri == "databricks":
        return
    match = re.match(r"(\w+)(\+\w+)?://", uri)
    if match is None or match[1] not in (*_DATABASES, *_SERVERS):
        raise expfw.ConfigError(
            f"nothing can be written to the tracking URI {hide_url_credentials(uri)!r} (tracker.mlflow.uri, or "
            "MLFLOW_TRACKING_URI); expected http://..., https://..., or a database such as "
            "sqlite:///absolute/path/mlflow.db. MLflow's store of plain files is closed for new use"
        )


@contextmanager
def translate_store_errors(uri: str) -> Iterator[None]:
    """Turns what MLflow raises where the store does not answer, or not well, into ConnectionError."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code in _UNAVAILABLE_CODES:
            raise _make_connection_error(uri, error) from error
        raise


def _make_connection_error(uri: str, error: Exception) -> ConnectionError:
    address = hide_url_credentials(uri)
    if "failed with exception" in str(error):  # the request itself; what follows is Python's story of it
        return ConnectionError(f"{address} does not answer")
    return ConnectionError(f"{address} cannot do it now: {error}")
