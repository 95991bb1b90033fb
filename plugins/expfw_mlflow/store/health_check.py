"""Whether MLflow's store can be written, for `expfw doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import socket

from expfw_mlflow.store.relocation import before, folder_of
from expfw_mlflow.store.schema_setup import file_of
from expfw_mlflow.store.uri import answering
from expfw_mlflow.ui.urls import without_password

Found = list[tuple[str, bool, str]]
_SECONDS, _PORT = "5", 5000


def fitness(uri: str) -> Found:
    """Version, store and port; in less than some ten seconds, whatever a server does."""
    version = f"MLflow {importlib.metadata.version('mlflow')}"
    remote = uri.startswith(("http://", "https://", "databricks"))
    return [(version, True, ""), _store(uri, remote), *([] if remote else [_port()])]


def _store(uri: str, remote: bool) -> tuple[str, bool, str]:
    path = file_of(uri)
    where = without_password(uri) if path is None else str(path)
    if path is not None and not path.exists():
        return f"its store {path} is made by the first run", True, ""
    os.environ.update(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT=_SECONDS)
    try:
        from mlflow import MlflowClient

        with answering(uri):
            MlflowClient(uri).search_experiments(max_results=1)
    except Exception as error:  # whatever MLflow or a database raises
        said = str(error).replace(uri, where).partition("\n")[0].partition(". ")[0]
        said = said.removeprefix(f"{without_password(uri)} cannot do it now: ")
        kind = "" if isinstance(error, ConnectionError) else f"{type(error).__name__}: "
        return f"its store {where} cannot be used ({kind}{said})", False, _remedy(error, uri)
    if path is not None and not os.access(path, os.W_OK):
        return f"its store {path} cannot be written", False, "give the file write permission"
    if path is not None and path.name == "mlflow.db" and (old := before(path)):
        return (
            f"its store {path} has artifacts at {folder_of(old[0])}",
            True,
            "the next run, or expfw ui, corrects that",
        )
    return f"its store {where} {'answers' if remote else 'can be read, its tables are up to date'}", True, ""


def _remedy(error: Exception, uri: str) -> str:
    path = file_of(uri)
    if "out-of-date database schema" in str(error):
        store = "its address" if path is None else f"sqlite:///{path.absolute()}"
        return f"make a copy of it, then: mlflow db upgrade {shlex.quote(store)}"
    if path is not None:
        return (
            f"put {path.name} aside, then: expfw runs sync --all; it makes a new one of all runs that are still there"
        )
    return "start the server, or set MLFLOW_TRACKING_URI, or tracker.mlflow.uri, to another; until then nothing is lost"


def _port(port: int = _PORT) -> tuple[str, bool, str]:
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
