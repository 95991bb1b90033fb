"""Checks MLflow's store and port, for `expfw doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import socket

from expfw_mlflow.store.database import get_sqlite_file, list_old_addresses, parse_file_address
from expfw_mlflow.store.uri import disable_retries, remove_credentials, translate_store_errors

Finding = tuple[str, bool, str]
_TIMEOUT_SECONDS, _DEFAULT_PORT = "5", 5000


def check_mlflow(uri: str) -> list[Finding]:
    """Checks version, store and the default port of `expfw ui`, in about 10 s, even if a server does not respond."""
    is_remote = uri.startswith(("http://", "https://", "databricks"))
    findings = [(f"MLflow {importlib.metadata.version('mlflow')}", True, ""), _check_store(uri, is_remote)]
    if is_remote:
        return findings
    with socket.socket() as probe:
        probe.settimeout(1)
        is_in_use = probe.connect_ex(("127.0.0.1", _DEFAULT_PORT)) == 0
    remedy = f"if not by expfw ui, use: expfw ui --port {_DEFAULT_PORT + 1}" if is_in_use else ""
    return [*findings, (f"port {_DEFAULT_PORT} is {'in use' if is_in_use else 'free for expfw ui'}", True, remedy)]


def _check_store(uri: str, is_remote: bool) -> Finding:
    path = get_sqlite_file(uri)
    address = remove_credentials(uri) if path is None else str(path)
    if path is not None and not path.exists():
        return f"the first run creates its store {path}", True, ""
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = _TIMEOUT_SECONDS
    disable_retries()
    try:
        from mlflow import MlflowClient

        with translate_store_errors(uri):
            MlflowClient(uri).search_experiments(max_results=1)
    except Exception as error:  # MLflow or the database may raise any error
        message = str(error).removeprefix(f"{uri} is not available: ").replace(uri, address)
        message = message.partition("\n")[0].partition(". ")[0]
        error_prefix = "" if isinstance(error, ConnectionError) else f"{type(error).__name__}: "
        other_store = "set another MLFLOW_TRACKING_URI or tracker.mlflow.uri"
        remedy = f"start the server, or {other_store}; no data is lost until then"
        if "out-of-date database schema" in str(error):
            store = "ADDRESS" if path is None else f"sqlite:///{path.absolute()}"
            remedy = f"back it up, then: mlflow db upgrade {shlex.quote(store)}"
        elif path is not None:
            sync = "expfw runs sync --all; it creates a new one from all runs in the runs folder"
            remedy = f"rename {path.name}, then: {sync}"
        return f"cannot use its store {address} ({error_prefix}{message})", False, remedy
    if path is not None and not os.access(path, os.W_OK):
        return f"cannot write its store {path}", False, "add write permission to the file"
    if path is not None and path.name == "mlflow.db" and (old_addresses := list_old_addresses(path)):
        text = f"its store {path} has artifacts at {parse_file_address(old_addresses[0])}"
        return text, True, "the next run, or expfw ui, corrects the addresses"
    return f"its store {address} {'responds' if is_remote else 'is readable, its tables are up to date'}", True, ""
