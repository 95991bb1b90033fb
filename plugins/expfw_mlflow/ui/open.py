"""Selects MLflow's server and page for `expfw ui`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import expfw
from expfw_mlflow.records.delivery import read_delivery_state
from expfw_mlflow.ui.urls import PageUrls, hide_url_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SERVERS = ("http://", "https://")
MAX_COMPARED_RUNS = 200  # MLflow's page requests each run separately: 16 s for 200 runs, 43 s for 400


@dataclass(frozen=True)
class OpenStore:
    """An open tracking store.

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
    def is_remote(self) -> bool:
        """Whether the store is a tracking server."""
        return self.uri.startswith(_SERVERS)


@contextmanager
def translate_server_errors(uri: str) -> Iterator[None]:
    """Converts errors of a tracking server to a one-line error.

    Raises:
        ConfigError: if the server does not respond.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, ConnectionError) as error:
        if not uri.startswith(_SERVERS):
            raise
        raise expfw.ConfigError(
            f"no valid response from the tracking server at {hide_url_credentials(uri)} ({type(error).__name__}); "
            "start it, or set another MLFLOW_TRACKING_URI or tracker.mlflow.uri"
        ) from error


def make_user_interface(
    store: OpenStore, runs_dir: Path, host: str, port: int, target: expfw.UiTarget | None
) -> expfw.UserInterface:
    """Returns the interface of the store: that of the tracking server, or a new server for the runs folder.

    Raises:
        NotFoundError: if the target does not exist in the store.
    """
    server = store.uri if store.is_remote else f"http://{host}:{port}"
    url, notes = _choose_page(store, server, target)
    if store.is_remote:
        return expfw.UserInterface([], url, notes)
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # avoids seven processes that only language models need
    artifact_uri = (runs_dir / "mlartifacts").absolute().as_uri()
    storage_options = ["--backend-store-uri", store.uri, "--default-artifact-root", artifact_uri]
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "expfw", *storage_options, "--workers", "1"]
    command.append("--uvicorn-opts=--log-level warning")  # a log line for each request would hide the address
    return expfw.UserInterface([*command, "--host", host, "--port", str(port)], url, notes)


def _choose_page(store: OpenStore, server: str, target: expfw.UiTarget | None) -> tuple[str, list[str]]:
    """Returns the best page for `target`, and notes for the user."""
    from mlflow.exceptions import MlflowException

    if target is None:
        return PageUrls(server, store.experiment_id).make_runs_url(), []
    own_run_id = read_run_id(target.folder, store.tracker)
    if own_run_id is None:
        note = f"{target.folder.name} is not in MLflow: not delivered yet, or recorded without this tracker"
        return PageUrls(server, store.experiment_id).make_runs_url(), [f"{note}; this page shows the experiment"]
    try:  # the experiment may differ from the experiment in the current configuration
        experiment_id = str(store.client.get_run(own_run_id).info.experiment_id)
    except MlflowException as error:
        raise expfw.NotFoundError(
            f"{target.folder.name} is not in the store of {hide_url_credentials(server)}: it was deleted there, or "
            "delivered to another store; to open another store, set MLFLOW_TRACKING_URI or tracker.mlflow.uri"
        ) from error
    pages = PageUrls(server, experiment_id)
    if target.metric is None:
        return pages.make_run_url(own_run_id), []
    trial_run_ids = [
        trial_run_id for folder in target.trials if (trial_run_id := read_run_id(folder, store.tracker)) is not None
    ]
    return choose_sweep_page(pages, own_run_id, trial_run_ids, target)


def choose_sweep_page(
    pages: PageUrls, parent_run_id: str, trial_run_ids: Sequence[str], target: expfw.UiTarget
) -> tuple[str, list[str]]:
    """Returns the page for a sweep with these runs in MLflow, and notes for the user."""
    assert target.metric is not None
    curves, notes = pages.make_curves_url(parent_run_id, target.metric, target.mode), []
    if len(trial_run_ids) < len(target.trials):
        missing_count = len(target.trials) - len(trial_run_ids)
        trials = "trial is" if len(target.trials) == 1 else "trials is" if missing_count == 1 else "trials are"
        notes.append(f"{missing_count} of {len(target.trials)} {trials} not in MLflow yet")
    if len(trial_run_ids) > MAX_COMPARED_RUNS:
        limit_note = f"MLflow's compare page is slow with more than {MAX_COMPARED_RUNS} runs"
        return curves, [*notes, f"{limit_note}; this page shows all {len(trial_run_ids)}, best first"]
    if len(trial_run_ids) < 2:
        return pages.make_run_url(parent_run_id), [
            *notes,
            "this page shows the sweep; a comparison needs two trials",
        ]
    return pages.make_compare_url(trial_run_ids), [
        *notes,
        f"curves: {curves}",
        f"sweep: {pages.make_run_url(parent_run_id)}",
    ]


def read_run_id(folder: Path, tracker: str) -> str | None:
    """Returns MLflow's ID of the run or sweep in `folder`; None before the first delivery."""
    mlflow_id: str | None = read_delivery_state(folder, tracker).get("run_id")
    return mlflow_id
