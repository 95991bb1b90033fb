"""Addresses of pages in MLflow's user interface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote, urlsplit, urlunsplit


@dataclass(frozen=True)
class PageUrls:
    """The pages of one experiment.

    MLflow's front end reads what stands behind `#`; its server never sees it, so that its length does not matter. All
    is quoted, so that a terminal makes a link of the whole.

    Attributes:
        server: where the interface is; empty for addresses relative to a page of it.
        experiment_id: MLflow's id of the experiment.
    """

    server: str
    experiment_id: str

    VIEW: ClassVar = "workflowType=machine_learning"  # without it, MLflow 3.17 shows its view for language models

    def make_runs_url(self) -> str:
        """All runs of the experiment."""
        return self._make_url(f"experiments/{self.experiment_id}/runs?{self.VIEW}")

    def make_run_url(self, run_id: str) -> str:
        """One run."""
        return self._make_url(f"experiments/{self.experiment_id}/runs/{run_id}?{self.VIEW}")

    def make_compare_url(self, run_ids: Sequence[str]) -> str:
        """Parameters and metrics of these runs side by side, in this order."""
        return self._make_url(
            f"compare-runs?runs={_quote_json(run_ids)}&experiments={_quote_json([self.experiment_id])}&{self.VIEW}"
        )

    def make_curves_url(self, parent_run_id: str, metric: str, mode: str) -> str:
        """The children of `parent_run_id` and charts of their metrics, best first.

        Sorted by anything but a metric, MLflow shows the parent in place of its children.
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
    """The same address without the name and password that may stand in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _quote_json(ids: Sequence[str]) -> str:
    return quote(json.dumps(list(ids), separators=(",", ":")), safe="")
