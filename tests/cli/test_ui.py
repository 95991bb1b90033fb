"""`expfw ui`: pages of runs and sweeps, the server, and errors."""

from __future__ import annotations

import http.server
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
from support.processes import find_free_port, run_expfw, wait_for

import expfw
from expfw.api.delivery_progress import read_progress
from expfw.cli import ui
from expfw.tracking import run_index
from expfw.tracking.run_index import Workspace
from expfw_mlflow.ui.pages import MAX_COMPARED_RUNS as MOST
from expfw_mlflow.ui.pages import PageUrls, choose_sweep_page

SWEEP = ["sweep", "model=ols", "dataset=line", "train.epochs=2", "quiet=true"]


def query(url):
    """Returns the query parameters after `?` in the fragment after `#`."""
    return {key: value for key, (value,) in parse_qs(urlsplit(url).fragment.partition("?")[2]).items()}


def test_urls_have_the_form_that_mlflows_front_end_reads():
    pages = PageUrls("http://127.0.0.1:5000", "7")
    view = {"workflowType": "machine_learning"}
    assert pages.make_runs_url() == "http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning"
    assert pages.make_run_url("abc") == "http://127.0.0.1:5000/#/experiments/7/runs/abc?workflowType=machine_learning"
    compare = pages.make_compare_url(["abc", "def"])
    assert query(compare) == {"runs": '["abc","def"]', "experiments": '["7"]', **view}
    curves = query(pages.make_curves_url("abc", "val/loss", "min"))
    assert curves["searchFilter"] == "tags.mlflow.parentRunId = 'abc'"
    assert (curves["orderByKey"], curves["orderByAsc"]) == ("metrics.`val/loss`", "true")
    assert query(pages.make_curves_url("abc", "val/accuracy", "max"))["orderByAsc"] == "false"
    assert not set(compare) & set(' "[]`')  # a terminal would end the link there


def test_urls_of_another_server_contain_no_password():
    pages = PageUrls("https://me:secret@host:8080/mlflow/", "7")
    assert pages.make_run_url("abc").startswith("https://host:8080/mlflow/#/exp")
    assert PageUrls("", "7").make_run_url("abc").startswith("#/experiments/7/runs/abc")  # for links inside a page


@pytest.mark.parametrize(
    ("trials", "delivered", "page", "note"),
    [
        (6, 6, "/compare-runs", ""),
        (6, 2, "/compare-runs", "trials in MLflow so far: 2 of 6"),
        (6, 1, "/experiments/7/runs/p", "a comparison needs two trials"),
        (MOST, MOST, "/compare-runs", ""),
        (MOST + 1, MOST + 1, "/experiments/7/runs", f"this page shows all {MOST + 1}, best first"),
    ],
)
def test_a_sweep_opens_the_compare_page_with_notes(trials, delivered, page, note):
    show = expfw.UiTarget(Path("sweep"), [Path(str(n)) for n in range(trials)], "val/loss", "min")
    url, notes = choose_sweep_page(PageUrls("http://h", "7"), "p", [f"r{n}" for n in range(delivered)], show)
    assert urlsplit(url).fragment.partition("?")[0] == page
    assert note in "\n".join(notes)


def test_an_impossible_port_is_an_error(call):
    done = call("ui", "--port", "65536")
    assert (done.code, "Invalid value for '--port'" in done.err) == (2, True)


@pytest.mark.parametrize("name", ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER"])
def test_a_page_is_opened_only_with_a_display_or_a_browser(expfw_here, remote, monkeypatch, name):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", remote)
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    expfw_here("ui")
    assert opened == []
    monkeypatch.setenv(name, "something")
    assert opened == [expfw_here("ui").out.strip()]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Folder of a sweep of three trials, delivered to SQLite."""
    folder = tmp_path_factory.mktemp("swept")
    run_expfw(folder, *SWEEP, "seed=1,2,3", check=True)
    return folder


def test_the_target_of_a_sweep_is_its_trials_best_first_and_of_a_run_its_folder(swept):
    (sweep,) = run_index.list_sweeps(swept / "runs")
    show = ui.find_ui_target(Workspace(swept / "runs"), sweep.id[:4])
    assert (show.folder, show.metric, show.mode) == (sweep.folder, "train/epoch_loss", "min")
    runs = {entry.folder: entry.last["objective"] for entry in run_index.list_runs(swept / "runs")}
    assert list(show.trials) == sorted(runs, key=lambda folder: (runs[folder], folder.name))
    run = run_index.list_runs(swept / "runs")[0]
    assert ui.find_ui_target(Workspace(swept / "runs"), run.id) == expfw.UiTarget(run.folder)


class Answers(http.server.BaseHTTPRequestHandler):
    """A minimal tracking server."""

    def do_GET(self):
        experiment = {"experiment_id": "3", "name": "expfw", "lifecycle_stage": "active"}
        run = {"info": {"run_id": urlsplit(self.path).query.partition("=")[2], "experiment_id": "12"}, "data": {}}
        data = json.dumps({"run": run} if "runs/get" in self.path else {"experiment": experiment}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        """Prints nothing."""


@pytest.fixture
def remote():
    """Address of a tracking server that contains every run."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_with_a_tracking_server_only_its_page_is_shown(expfw_here, swept, remote, monkeypatch):
    monkeypatch.chdir(swept)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", remote)
    (sweep,) = run_index.list_sweeps(swept / "runs")
    whole = expfw_here("ui", "--no-browser")
    assert (whole.code, whole.out) == (0, f"{remote}/#/experiments/3/runs?workflowType=machine_learning\n")
    done = expfw_here("ui", sweep.id, "--no-browser")
    compare, curves, parent = done.out.splitlines()
    assert compare.startswith(f"{remote}/#/compare-runs?")
    expected_ids = [
        read_progress(folder, "mlflow").state["run_id"]
        for folder in ui.find_ui_target(Workspace(swept / "runs"), sweep.id).trials
    ]
    assert (json.loads(query(compare)["runs"]), query(compare)["experiments"]) == (expected_ids, '["12"]')
    assert curves.startswith("curves: http")
    assert parent.startswith("sweep: http")
    run = run_index.list_runs(swept / "runs")[0]
    run_id = read_progress(run.folder, "mlflow").state["run_id"]
    assert f"/#/experiments/12/runs/{run_id}?" in expfw_here("ui", run.id).out


@pytest.mark.parametrize("content", ["", '{"offset": 1, "state": {"run_id": 7}}'])
def test_the_damaged_progress_of_one_trial_does_not_hide_the_others(
    expfw_here, swept, remote, monkeypatch, caplog, content
):
    monkeypatch.chdir(swept)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", remote)
    (sweep,) = run_index.list_sweeps(swept / "runs")
    trial = run_index.list_runs(swept / "runs")[0]
    path = trial.folder / "tracking" / "mlflow.json"
    text = path.read_text()
    path.write_text(content)
    try:
        done = expfw_here("ui", sweep.id, "--no-browser")
        assert (done.code, "trials in MLflow so far: 2 of 3" in done.out) == (0, True)
        done = expfw_here("ui", trial.id, "--no-browser")
        assert (done.code, f"{trial.folder.name} is not in MLflow" in done.out) == (0, True)
        assert content.startswith("{") or f"ignoring {path}, which is damaged" in caplog.text
    finally:
        path.write_text(text)


def test_the_browser_in_the_variable_browser_is_opened(expfw_here, workdir, remote, monkeypatch):
    script = workdir / "browser"
    script.write_text(f'#!/bin/sh\nprintf %s "$1" > {workdir}/opened.part\nmv {workdir}/opened.part {workdir}/opened\n')
    script.chmod(0o755)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", remote)
    monkeypatch.setenv("BROWSER", f"{script} %s")
    code = "from expfw.cli.main import main; main(['ui'])"  # another process: webbrowser reads BROWSER once
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: (workdir / "opened").exists())
    assert (workdir / "opened").read_text() == done.stdout.strip()


def test_an_undelivered_run_shows_the_experiment_and_a_note(expfw_here, workdir, remote, monkeypatch):
    expfw_here("run", "model=ols", "dataset=line", "tracker=[]", "quiet=true")
    (run,) = run_index.list_runs(workdir / "runs")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", remote)
    address, note = expfw_here("ui", run.id, "--no-browser").out.splitlines()
    assert address.startswith(f"{remote}/#/experiments/3/runs?")
    assert note.startswith(f"{run.folder.name} is not in MLflow: not delivered yet")


def test_a_store_without_the_sweep_is_a_one_line_error(expfw_here, swept, workdir, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workdir}/other.db")
    monkeypatch.chdir(swept)
    (sweep,) = run_index.list_sweeps(swept / "runs")
    done = expfw_here("ui", sweep.id, "--no-browser")
    assert (done.code, done.err.count("is not in the store of")) == (2, 1)
    assert "MLFLOW_TRACKING_URI" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ui_serves_the_store_and_ends_all_its_processes(swept, monkeypatch, number):
    """Uses the real server on the loopback; its first page selects the view for model training."""
    import urllib.request

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (swept / "victim.txt").write_text("unchanged")
    (swept / "runs" / ui.LOG).unlink(missing_ok=True)
    (swept / "runs" / ui.LOG).symlink_to(swept / "victim.txt")
    port = find_free_port()
    command = [sys.executable, "-m", "expfw", "ui", "--port", str(port), "--no-browser"]
    with subprocess.Popen(command, cwd=swept, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline().startswith(f"http://127.0.0.1:{port}/#/experiments/1/runs?")
            server = f"http://127.0.0.1:{port}"
            with urllib.request.urlopen(f"{server}/api/2.0/mlflow/experiments/get?experiment_id=1") as response:
                assert json.load(response)["experiment"]["name"] == "expfw"
            known = urllib.request.Request(server, headers={"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"})
            with urllib.request.urlopen(known) as response:
                page = response.read().decode()
            assert "mlflow.workflowType_v1" in page.partition("<head>")[2].partition("</script>")[0]
            assert page.endswith("</html>")
            started = psutil.Process(process.pid).children(recursive=True)
            assert started
        finally:
            process.send_signal(number)
            process.wait(30)
    assert process.returncode == (0 if number != signal.SIGKILL else -signal.SIGKILL)
    assert psutil.wait_procs(started, timeout=10)[1] == []
    assert (swept / "victim.txt").read_text() == "unchanged"
