"""Pages of MLflow's user interface: their addresses, and the best page for a run or sweep."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

import expfw
from expfw_mlflow.store.uri import remove_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_COMPARED_RUNS = 200  # MLflow's page requests each run separately: 16 s for 200 runs, 43 s for 400


@dataclass(frozen=True)
class PageUrls:
    """Addresses of an experiment's pages.

    MLflow's front end reads the part after `#`, which is not sent to the server, so its length does not matter. Special
    characters are quoted, so that a terminal detects the whole address as a link.

    Attributes:
        server: address of the server; empty for addresses relative to one of its pages.
        experiment_id: MLflow's ID of the experiment.
    """

    server: str
    experiment_id: str

    VIEW: ClassVar = "workflowType=machine_learning"  # otherwise MLflow 3.17 shows its view for language models

    def make_runs_url(self) -> str:
        """Returns the page of all runs of the experiment."""
        return self._make_url(f"experiments/{self.experiment_id}/runs?{self.VIEW}")

    def make_run_url(self, run_id: str) -> str:
        """Returns the page of a run."""
        return self._make_url(f"experiments/{self.experiment_id}/runs/{run_id}?{self.VIEW}")

    def make_compare_url(self, run_ids: Sequence[str]) -> str:
        """Returns the page that compares parameters and metrics of these runs, in this order."""
        runs = quote(json.dumps(list(run_ids), separators=(",", ":")), safe="")
        experiments = quote(json.dumps([self.experiment_id]), safe="")
        return self._make_url(f"compare-runs?runs={runs}&experiments={experiments}&{self.VIEW}")

    def make_curves_url(self, parent_run_id: str, metric: str, mode: str) -> str:
        """Returns the page of the children of `parent_run_id` with charts of their metrics, best first.

        If sorted by other columns than a metric, MLflow shows the parent instead of its children.
        """
        search_filter = quote(f"tags.mlflow.parentRunId = '{parent_run_id}'", safe="")
        order = f"orderByKey={quote(f'metrics.`{metric}`', safe='')}&orderByAsc={'true' if mode == 'min' else 'false'}"
        view_options = "startTime=ALL&lifecycleFilter=Active&compareRunsMode=CHART"
        return self._make_url(
            f"experiments/{self.experiment_id}/runs?searchFilter={search_filter}&{order}&{view_options}&{self.VIEW}"
        )

    def _make_url(self, location: str) -> str:
        server = f"{remove_credentials(self.server).rstrip('/')}/" if self.server else ""
        return f"{server}#/{location}"


def choose_page(
    client: MlflowClient, pages: PageUrls, find_run_id: Callable[[Path], str | None], target: expfw.UiTarget | None
) -> tuple[str, list[str]]:
    """Returns the best page for `target`, and notes for the user.

    Args:
        client: connected to the store.
        pages: pages of the configured experiment.
        find_run_id: returns MLflow's ID of the run or sweep in a folder; None before its first delivery.
        target: run or sweep; None for the experiment.

    Raises:
        NotFoundError: if the target does not exist in the store.
    """
    from mlflow.exceptions import MlflowException

    if target is None:
        return pages.make_runs_url(), []
    own_run_id = find_run_id(target.folder)
    if own_run_id is None:
        note = f"{target.folder.name} is not in MLflow: not delivered yet, or recorded without this tracker"
        return pages.make_runs_url(), [f"{note}; this page shows the experiment"]
    try:  # the experiment may differ from the experiment in the current configuration
        pages = replace(pages, experiment_id=str(client.get_run(own_run_id).info.experiment_id))
    except MlflowException as error:
        raise expfw.NotFoundError(
            f"{target.folder.name} is not in the store of {remove_credentials(pages.server)}: it was deleted there, "
            "or delivered to another store; to open another store, set MLFLOW_TRACKING_URI or tracker.mlflow.uri"
        ) from error
    if target.metric is None:
        return pages.make_run_url(own_run_id), []
    trial_run_ids = [run_id for folder in target.trials if (run_id := find_run_id(folder)) is not None]
    return choose_sweep_page(pages, own_run_id, trial_run_ids, target)


def choose_sweep_page(
    pages: PageUrls, parent_run_id: str, trial_run_ids: Sequence[str], target: expfw.UiTarget
) -> tuple[str, list[str]]:
    """Returns the page for a sweep with these runs in MLflow, and notes for the user."""
    assert target.metric is not None
    curves = pages.make_curves_url(parent_run_id, target.metric, target.mode)
    sweep_page, run_count, notes = pages.make_run_url(parent_run_id), len(trial_run_ids), []
    if run_count < len(target.trials):
        notes.append(f"trials in MLflow so far: {run_count} of {len(target.trials)}")
    if run_count > MAX_COMPARED_RUNS:
        limit_note = f"MLflow's compare page is slow with more than {MAX_COMPARED_RUNS} runs"
        return curves, [*notes, f"{limit_note}; this page shows all {run_count}, best first"]
    if run_count < 2:
        return sweep_page, [*notes, "this page shows the sweep; a comparison needs two trials"]
    return pages.make_compare_url(trial_run_ids), [*notes, f"curves: {curves}", f"sweep: {sweep_page}"]
