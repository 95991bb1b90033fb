"""Checks MLflow's store and port, for `expfw doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import socket

from expfw_mlflow.store.relocation import list_old_addresses, parse_file_address
from expfw_mlflow.store.schema_setup import get_sqlite_file
from expfw_mlflow.store.uri import translate_store_errors
from expfw_mlflow.ui.urls import hide_url_credentials

Findings = list[tuple[str, bool, str]]
_TIMEOUT_SECONDS, _DEFAULT_PORT = "5", 5000


def check_mlflow(uri: str) -> Findings:
    """Checks version, store and port, in about 10 s at most, even if a server does not respond."""
    version = f"MLflow {importlib.metadata.version('mlflow')}"
    is_remote = uri.startswith(("http://", "https://", "databricks"))
    return [(version, True, ""), _check_store(uri, is_remote), *([] if is_remote else [_check_port()])]


def _check_store(uri: str, is_remote: bool) -> tuple[str, bool, str]:
    path = get_sqlite_file(uri)
    address = hide_url_credentials(uri) if path is None else str(path)
    if path is not None and not path.exists():
        return f"the first run creates its store {path}", True, ""
    os.environ.update(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT=_TIMEOUT_SECONDS)
    try:
        from mlflow import MlflowClient

        with translate_store_errors(uri):
            MlflowClient(uri).search_experiments(max_results=1)
    except Exception as error:  # MLflow or the database may raise any error
        message = str(error).replace(uri, address).partition("\n")[0].partition(". ")[0]
        message = message.removeprefix(f"{hide_url_credentials(uri)} is not available: ")
        error_prefix = "" if isinstance(error, ConnectionError) else f"{type(error).__name__}: "
        return f"cannot use its store {address} ({error_prefix}{message})", False, _suggest_remedy(error, uri)
    if path is not None and not os.access(path, os.W_OK):
        return f"cannot write its store {path}", False, "add write permission to the file"
    if path is not None and path.name == "mlflow.db" and (old_addresses := list_old_addresses(path)):
        return (
            f"its store {path} has artifacts at {parse_file_address(old_addresses[0])}",
            True,
            "the next run, or expfw ui, corrects the addresses",
        )
    return f"its store {address} {'responds' if is_remote else 'is readable, its tables are up to date'}", True, ""


def _suggest_remedy(error: Exception, uri: str) -> str:
    path = get_sqlite_file(uri)
    if "out-of-date database schema" in str(error):
        store = "ADDRESS" if path is None else f"sqlite:///{path.absolute()}"
        return f"back it up, then: mlflow db upgrade {shlex.quote(store)}"
    if path is not None:
        return f"rename {path.name}, then: expfw runs sync --all; it creates a new one from all runs in the runs folder"
    return "start the server, or set another MLFLOW_TRACKING_URI or tracker.mlflow.uri; no data is lost until then"


def _check_port(port: int = _DEFAULT_PORT) -> tuple[str, bool, str]:
    """Checks whether `expfw ui` can listen on its default port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return (
                f"port {port} is in use",
                True,
                f"if not by expfw ui, use: expfw ui --port {port + 1}",
            )
    return f"port {port} is free for expfw ui", True, ""
