"""What `expfw ui` shows of MLflow: which server, which page."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import expfw
from expfw_mlflow.records.delivery_state import remembered
from expfw_mlflow.ui.urls import Pages, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

COMPARABLE = 200  # runs; MLflow's page asks for each by itself: 16 s for 200 of them, 43 s for 400


@dataclass(frozen=True)
class OpenStore:
    """A tracking store that answers.

    Attributes:
        uri: its tracking URI.
        client: connected to it.
        experiment_id: MLflow's ID of the configured experiment.
        tracker: name of the tracker that writes to it.
    """

    uri: str
    client: MlflowClient
    experiment_id: str
    tracker: str

    @property
    def remote(self) -> bool:
        """Whether a server of its own serves it."""
        return _is_remote(self.uri)


def _is_remote(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


@contextmanager
def answering_server(uri: str) -> Iterator[None]:
    """Turns the errors of a tracking server into one line.

    Raises:
        ConfigError: the server does not answer.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, ConnectionError) as error:
        if not _is_remote(uri):
            raise
        raise expfw.ConfigError(
            f"the tracking server at {without_password(uri)} does not answer as one ({type(error).__name__}); "
            "start it, or set MLFLOW_TRACKING_URI, or tracker.mlflow.uri, to another"
        ) from error


def user_interface(
    store: OpenStore, runs_dir: Path, host: str, port: int, show: expfw.Shown | None
) -> expfw.UserInterface:
    """The interface of the store: a server's own, or one that is served from the runs folder.

    Raises:
        NotFoundError: the store does not know what is to be shown.
    """
    server = store.uri if store.remote else f"http://{host}:{port}"
    url, notes = _page(store, server, show)
    if store.remote:
        return expfw.UserInterface([], url, notes)
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # seven processes that only language models need
    artifacts = (runs_dir / "mlartifacts").absolute().as_uri()
    storage = ["--backend-store-uri", store.uri, "--default-artifact-root", artifacts]
    serve = [sys.executable, "-m", "mlflow", "server", "--app-name", "expfw", *storage, "--workers", "1"]
    serve.append("--uvicorn-opts=--log-level warning")  # each request in the terminal would hide the address
    return expfw.UserInterface([*serve, "--host", host, "--port", str(port)], url, notes)


def _page(store: OpenStore, server: str, show: expfw.Shown | None) -> tuple[str, list[str]]:
    """The best page there is for `show`, and what the user should know of it."""
    if show is None:
        return Pages(server, store.experiment_id).runs(), []
    own = run_id(show.folder, store.tracker)
    if own is None:
        note = f"{show.folder.name} is not in MLflow: not delivered yet, or made without this tracker"
        return Pages(server, store.experiment_id).runs(), [f"{note}; this is the experiment"]
    pages = Pages(server, _experiment(store, server, own, show.folder))
    if show.metric is None:
        return pages.run(own), []
    found = [one for folder in show.trials if (one := run_id(folder, store.tracker)) is not None]
    return sweep_page(pages, own, found, show)


def sweep_page(pages: Pages, parent: str, found: Sequence[str], show: expfw.Shown) -> tuple[str, list[str]]:
    """The page for a sweep of which MLflow knows these runs, and notes."""
    assert show.metric is not None
    curves, notes = pages.curves(parent, show.metric, show.mode), []
    if len(found) < len(show.trials):
        absent = len(show.trials) - len(found)
        trials = "trial is" if len(show.trials) == 1 else "trials is" if absent == 1 else "trials are"
        notes.append(f"{absent} of {len(show.trials)} {trials} not in MLflow yet")
    if len(found) > COMPARABLE:
        most = f"MLflow's compare page is slow with more than {COMPARABLE} runs"
        return curves, [*notes, f"{most}; this is the page of all {len(found)}, best first"]
    if len(found) < 2:
        return pages.run(parent), [*notes, "this is the page of the sweep; there are not two trials to compare"]
    return pages.compare(found), [*notes, f"curves: {curves}", f"the sweep: {pages.run(parent)}"]


def run_id(folder: Path, name: str) -> str | None:
    """MLflow's id of the run or sweep in `folder`, as the shipper kept it; None before it was delivered."""
    found: str | None = remembered(folder, name).get("run_id")
    return found


def _experiment(store: OpenStore, server: str, run_id: str, folder: Path) -> str:
    """The experiment of a run; a sweep may have been made with another than the configuration has now."""
    from mlflow.exceptions import MlflowException

    try:
        return str(store.client.get_run(run_id).info.experiment_id)
    except MlflowException as error:
        raise expfw.NotFoundError(
            f"the store behind {without_password(server)} does not know {folder.name}; it was delivered to another: "
            "set MLFLOW_TRACKING_URI, or tracker.mlflow.uri, as it was for that, or the run was deleted there"
        ) from error
