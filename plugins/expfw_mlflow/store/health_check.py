"""Whether MLflow's store can be written, for `expfw doctor`."""

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
    """Version, store and port; in less than some ten seconds, whatever a server does."""
    version = f"MLflow {importlib.metadata.version('mlflow')}"
    is_remote = uri.startswith(("http://", "https://", "databricks"))
    return [(version, True, ""), _check_store(uri, is_remote), *([] if is_remote else [_check_port()])]


def _check_store(uri: str, is_remote: bool) -> tuple[str, bool, str]:
    path = get_sqlite_file(uri)
    address = hide_url_credentials(uri) if path is None else str(path)
    if path is not None and not path.exists():
        return f"its store {path} is made by the first run", True, ""
    os.environ.update(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT=_TIMEOUT_SECONDS)
    try:
        from mlflow import MlflowClient

        with translate_store_errors(uri):
            MlflowClient(uri).search_experiments(max_results=1)
    except Exception as error:  # whatever MLflow or a database raises
        message = str(error).replace(uri, address).partition("\n")[0].partition(". ")[0]
        message = message.removeprefix(f"{hide_url_credentials(uri)} cannot do it now: ")
        error_prefix = "" if isinstance(error, ConnectionError) else f"{type(error).__name__}: "
        return f"its store {address} cannot be used ({error_prefix}{message})", False, _suggest_remedy(error, uri)
    if path is not None and not os.access(path, os.W_OK):
        return f"its store {path} cannot be written", False, "give the file write permission"
    if path is not None and path.name == "mlflow.db" and (old_addresses := list_old_addresses(path)):
        return (
            f"its store {path} has artifacts at {parse_file_address(old_addresses[0])}",
            True,
            "the next run, or expfw ui, corrects that",
        )
    return f"its store {address} {'answers' if is_remote else 'can be read, its tables are up to date'}", True, ""


def _suggest_remedy(error: Exception, uri: str) -> str:
    path = get_sqlite_file(uri)
    if "out-of-date database schema" in str(error):
        store = "its address" if path is None else f"sqlite:///{path.absolute()}"
        return f"make a copy of it, then: mlflow db upgrade {shlex.quote(store)}"
    if path is not None:
        return (
            f"put {path.name} aside, then: expfw runs sync --all; it makes a new one of all runs that are still there"
        )
    return "start the server, or set MLFLOW_TRACKING_URI, or tracker.mlflow.uri, to another; until then nothing is lost"


def _check_port(port: int = _DEFAULT_PORT) -> tuple[str, bool, str]:
    """Whether `expfw ui` can listen where it usually does."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return (
                f"something listens on port {port}",
                True,
                f"expfw ui --port {port + 1}, where it is not expfw ui itself",
            )
    return f"port {port} is free for expfw ui", True, ""
