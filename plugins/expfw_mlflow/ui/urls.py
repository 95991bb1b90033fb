"""Addresses of pages in MLflow's user interface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote, urlsplit, urlunsplit


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
        return self._make_url(
            f"compare-runs?runs={_quote_json(run_ids)}&experiments={_quote_json([self.experiment_id])}&{self.VIEW}"
        )

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
        server = f"{hide_url_credentials(self.server).rstrip('/')}/" if self.server else ""
        return f"{server}#/{location}"


def hide_url_credentials(url: str) -> str:
    """Returns the address without user name and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _quote_json(ids: Sequence[str]) -> str:
    return quote(json.dumps(list(ids), separators=(",", ":")), safe="")
