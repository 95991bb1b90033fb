"""The logged model, served by MLflow: raw samples over HTTP, the same predictions as the saved model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pytest
from support.processes import HOST, find_free_port, wait_for

import expfw
from expfw.tracking import run_index

pytestmark = pytest.mark.slow


def post(port, body):
    request = urllib.request.Request(
        f"http://{HOST}:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return np.array(json.load(response)["predictions"])


def test_mlflow_serves_the_model(expfw_here, workdir, monkeypatch):
    assert expfw_here("run", "dataset=digits", "train.epochs=5").code == 0
    (entry,) = run_index.list_runs(workdir / "runs")
    uri = f"sqlite:///{workdir}/runs/mlflow.db"
    (run,) = mlflow.MlflowClient(uri).search_runs(["1"])
    model = f"models:/{run.outputs.model_outputs[0].model_id}"
    saved = expfw.load_model(entry.folder / "model")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # MLflow also sets it; monkeypatch restores it after the test
    mlflow.set_tracking_uri(uri)
    loaded = mlflow.pyfunc.load_model(model)
    example = loaded.input_example
    assert example.shape == (1, 8, 8, 1)
    assert 0 <= example.min() <= example.max() <= 16  # raw pixels of these data
    np.testing.assert_array_equal(loaded.predict(example), saved.predict(example))
    pinned = Path(mlflow.pyfunc.get_model_dependencies(model)).read_text().split()
    assert all("==" in line for line in pinned)
    assert {line.partition("==")[0] for line in pinned} >= {"expfw", "tensorflow", "keras", "numpy"}

    port = find_free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    # MLflow looks in PATH for uvicorn
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    with open(workdir / "serve.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=workdir, start_new_session=True)
    try:
        serving = json.loads((entry.folder / "model" / "input_example.json").read_text())

        def has_response():
            try:
                return post(port, {"inputs": serving}) is not None
            except OSError:
                assert process.poll() is None, (workdir / "serve.log").read_text()
                return False

        wait_for(has_response, seconds=120)
        raw = np.random.default_rng(0).integers(0, 17, (5, 8, 8, 1)).astype(np.float32)
        np.testing.assert_allclose(post(port, {"inputs": raw.tolist()}), saved.predict(raw), rtol=1e-5, atol=1e-6)
        with pytest.raises(urllib.error.HTTPError) as error:
            post(port, {"inputs": [[1, 2, 3]]})
        assert error.value.code == 400
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
