"""Outages of a tracking server during a run, and a check of its data afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
from support.processes import run_expfw, wait_for
from support.tracking_server import FirstLosses, ServerProxy

from expfw.tracking import run_index
from expfw.tracking.recorded_run import RecordedRun


@contextmanager
def _change_proxy(proxy: ServerProxy, **attributes: Any) -> Iterator[None]:
    """Changes attributes of the proxy until the command has ended."""
    previous = {name: getattr(proxy, name) for name in attributes}
    vars(proxy).update(attributes)
    yield
    vars(proxy).update(previous)


@contextmanager
def _run_in_thread(function: Callable[[ServerProxy, threading.Event], None], proxy: ServerProxy) -> Iterator[None]:
    """Runs a function until the command has ended, which it knows from the event."""
    has_ended = threading.Event()
    thread = threading.Thread(target=function, args=(proxy, has_ended))
    thread.start()
    yield
    has_ended.set()
    thread.join()


def _restart_server(proxy: ServerProxy, has_ended: threading.Event) -> None:
    """Kills the server after the first deliveries and restarts it 15 seconds later."""
    wait_for(lambda: proxy.call_count > 12, seconds=120)
    proxy.server.kill()
    time.sleep(15)
    proxy.server.start()


def _toggle_errors(proxy: ServerProxy, has_ended: threading.Event) -> None:
    """The server responds with status 500 to every request, in every second interval of 3 seconds."""
    while not has_ended.wait(3):
        proxy.is_broken = not proxy.is_broken
    proxy.is_broken = False


CONDITIONS: dict[str, Callable[[ServerProxy], AbstractContextManager[None]]] = {
    "no outage": _change_proxy,
    "down at the start": partial(_change_proxy, is_down=True),
    "killed for 15 s": partial(_run_in_thread, _restart_server),
    "status 500": partial(_run_in_thread, _toggle_errors),
    "2 s per request": partial(_change_proxy, delay_seconds=2.0),
    "lost answers": lambda proxy: _change_proxy(proxy, lose=FirstLosses("answer", of_each_kind=True)),
}


def run_training(workdir: Path, *overrides: str) -> tuple[RecordedRun, float, str]:
    """Runs in a new process; returns the run, the seconds from the built model to the saved model, and stderr."""
    done = run_expfw(workdir, "run", *overrides, check=True)
    entry = run_index.list_runs(workdir / "runs")[0]
    (built, saved) = (entry.select(kind)[-1]["time"] for kind in ("info", "model"))
    return entry, saved - built, done.stderr


def find_mlflow_differences(uri: str, entry: RecordedRun, experiment: str = "expfw") -> list[str]:
    """Returns a line for each difference between the run in MLflow and the journal; empty if it is complete."""
    client = mlflow.MlflowClient(uri)
    experiment_id = client.get_experiment_by_name(experiment).experiment_id
    runs = client.search_runs([experiment_id], f"tags.`expfw.run_id` = '{entry.id}'")
    if len(runs) != 1:
        return [f"{len(runs)} runs"]
    (run,) = runs
    stored_points = sorted(
        (name, point.step, point.value)
        for name in run.data.metrics
        if not name.startswith("system/")
        for point in client.get_metric_history(run.info.run_id, name)
    )
    journal_points = sorted((name, point.step, value) for point in entry.points for name, value in point.values.items())
    params = {name: str(value) for name, value in entry.first["params"].items() if name != "name"}
    models = client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'")
    ready_models = [(output.model_id, "READY") for output in run.outputs.model_outputs]
    checks = {
        f"{len(stored_points)} points, but {len(journal_points)} in the journal": stored_points == journal_points,
        f"status {run.info.status}": run.info.status == entry.status,
        "different params": run.data.params == params,
        f"{len(run.inputs.dataset_inputs)} datasets": len(run.inputs.dataset_inputs) == 3,
        f"models {[model.status for model in models]}": [(m.model_id, m.status) for m in models] == ready_models,
        f"{len(models)} models": len(models) == 1,
        "no log": "log.txt" in {artifact.path for artifact in client.list_artifacts(run.info.run_id)},
    }
    return [text for text, is_equal in checks.items() if not is_equal]
