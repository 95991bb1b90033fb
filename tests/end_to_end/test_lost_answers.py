"""A tracking server that loses requests and answers: nothing is created twice, and nothing is missing."""

from __future__ import annotations

import mlflow
import pytest
from mlflow.entities import ViewType
from support.interruptions import resume_run
from support.outages import find_mlflow_differences
from support.processes import HOST
from support.tracking_server import FirstLosses

from expfw.config.compose import compose
from expfw.config.run_plugins import make_plugins
from expfw.plugins.catalogue import get_catalogue
from expfw.tracking import run_index
from expfw.tracking.shipper.delivery import TrackerWorker

pytestmark = pytest.mark.slow


def deliver(runs_dir, address, name):
    """Delivers all journals to the experiment and the registered model `name`, without pauses."""
    options = {"uri": address, "experiment": f'"{name}"', "register": f'"{name}"'}
    config = compose(["tracker=[mlflow]", *(f"tracker.mlflow.{key}={value}" for key, value in options.items())])
    (tracker,) = make_plugins(config, get_catalogue(), kinds=("tracker",))
    worker = TrackerWorker("mlflow", tracker, runs_dir)
    folders = {entry.id: entry.folder for entry in run_index.list_all(runs_dir)[::-1]}
    for _ in range(2000):
        worker.deliver(folders)
        for backoff in (worker.backoff, *(delivery.backoff for delivery in worker.deliveries.values())):
            backoff.next_try = 0.0
        if not worker.list_undelivered(folders):
            return
    raise AssertionError(worker.list_undelivered(folders))


@pytest.mark.parametrize("losses", [("answer", "answer"), ("request", "answer")], ids=" ".join)
def test_if_each_request_or_its_answer_is_lost_nothing_is_created_twice(
    train, expfw_here, workdir, proxy, monkeypatch, losses
):
    """The first two attempts of each request that writes are lost."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")  # must have no effect
    quick = ("dataset=digits", "model=perceptron", "train.epochs=2", "quiet=true")
    proxy.lose = FirstLosses(*losses)
    name, runs_dir = f"it's {' '.join(losses)}", workdir / "runs"
    result = train(*quick)
    deliver(runs_dir, proxy.address, name)
    resume_run(result.folder, "train.epochs=3")
    deliver(runs_dir, proxy.address, name)
    assert expfw_here("sweep", *quick, "seed=1,2", "tracker=[]").code == 0
    deliver(runs_dir, proxy.address, name)

    requests = {request for request, _ in proxy.lose.counts}
    creating = "experiments/create", "runs/create", "logged-models", "registered-models/create", "model-versions/create"
    assert {f"POST /api/2.0/mlflow/{path}" for path in creating} <= requests
    client = mlflow.MlflowClient(f"http://{HOST}:{proxy.server.port}")
    experiments = [client.get_experiment_by_name(name).experiment_id]
    runs = client.search_runs(experiments, run_view_type=ViewType.ALL)
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    (parent,) = [run for run in runs if run.data.tags.get("expfw.sweep") == "parent"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    (resumed,) = [run for run in runs if run not in (parent, *children)]
    assert [tag for tag in resumed.data.tags if "resumed" in tag] == ["expfw.resumed.1"]
    models = client.search_logged_models(experiments)
    assert len(models) == 4  # the resumed run has a model for each end
    assert {model.status for model in models} == {"READY"}
    assert {version.version for version in client.search_model_versions(f'name = "{name}"')} == {"1", "2", "3"}
    proxy.lose = lambda request, body: None
    for entry in run_index.list_runs(runs_dir):
        if entry.folder != result.folder:
            assert find_mlflow_differences(proxy.address, entry, name) == []
