"""Addresses of pages in MLflow's user interface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote, urlsplit, urlunsplit


@dataclass(frozen=True)
class Pages:
    """The pages of one experiment.

    MLflow's front end reads what stands behind `#`; its server never sees it, so that its length does not matter. All
    is quoted, so that a terminal makes a link of the whole.

    Attributes:
        server: where the interface is; empty for addresses relative to a page of it.
        experiment: MLflow's id of the experiment.
    """

    server: str
    experiment: str

    VIEW: ClassVar = "workflowType=machine_learning"  # without it, MLflow 3.17 shows its view for language models

    def runs(self) -> str:
        """All runs of the experiment."""
        return self._page(f"experiments/{self.experiment}/runs?{self.VIEW}")

    def run(self, run_id: str) -> str:
        """One run."""
        return self._page(f"experiments/{self.experiment}/runs/{run_id}?{self.VIEW}")

    def compare(self, run_ids: Sequence[str]) -> str:
        """Parameters and metrics of these runs side by side, in this order."""
        return self._page(f"compare-runs?runs={_json(run_ids)}&experiments={_json([self.experiment])}&{self.VIEW}")

    def curves(self, parent: str, metric: str, mode: str) -> str:
        """The children of `parent` and charts of their metrics, best first.

        Sorted by anything but a metric, MLflow shows the parent in place of its children.
        """
        wanted = quote(f"tags.mlflow.parentRunId = '{parent}'", safe="")
        order = f"orderByKey={quote(f'metrics.`{metric}`', safe='')}&orderByAsc={'true' if mode == 'min' else 'false'}"
        shown = "startTime=ALL&lifecycleFilter=Active&compareRunsMode=CHART"
        return self._page(f"experiments/{self.experiment}/runs?searchFilter={wanted}&{order}&{shown}&{self.VIEW}")

    def _page(self, rest: str) -> str:
        server = f"{without_password(self.server).rstrip('/')}/" if self.server else ""
        return f"{server}#/{rest}"


def without_password(url: str) -> str:
    """The same address without the name and password that may stand in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _json(ids: Sequence[str]) -> str:
    return quote(json.dumps(list(ids), separators=(",", ":")), safe="")
