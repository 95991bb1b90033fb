"""Sweeps with Hydra launchers: Submitit on this machine, local Ray, and Hydra's basic launcher."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import mlflow
import psutil
import pytest
from support.waiting import wait_for

from expfw.runs import exact_comparison
from expfw.tracking import journal, run_index
from expfw.tracking.ledger import Ledger

pytestmark = pytest.mark.slow
TRAINING = ("dataset=digits", "model=mlp_keras", "backend.threads=1")
SHORT = (*TRAINING, "train.epochs=3", "callback=[checkpoint,mortal]", "seed=1,2,3,4")
LONG = (*TRAINING, "train.epochs=400", "callback=[checkpoint]", "callback.checkpoint.every.steps=100", "seed=1,2")
MORTAL = """
import os, signal
import expfw

class Mortal(expfw.Callback):
    '''Kills its process during training, for one seed.'''

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        if run.config.seed == 4:
            os.kill(os.getpid(), signal.SIGSEGV)
"""


def needs(launcher):
    package = {"ray": "hydra_plugins.hydra_ray_launcher", "submitit_local": "hydra_plugins.hydra_submitit_launcher"}
    if launcher in package and (find_spec("hydra_plugins") is None or find_spec(package[launcher]) is None):
        pytest.skip(f"{package[launcher]} is not installed: pip install 'expfw[ray,slurm]'")


def start_command(workdir, *arguments):
    """Starts a command in a new process."""
    command = [sys.executable, "-m", "expfw", *arguments]
    return subprocess.Popen(command, cwd=workdir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def get_only_sweep(workdir):
    (entry,) = run_index.list_sweeps(workdir / "runs")
    return entry


def rows(entry):
    """Returns the final table without the columns that differ between sweeps."""
    columns = ("number", "name", "fingerprint", "status", "objective", "metrics", "error", "configuration", "attempt")
    return [{name: getattr(trial, name) for name in columns} for trial in Ledger(entry.folder).read_trials()]


def children(workdir):
    """Returns the child runs in MLflow, the number of their parents and the number of all runs."""
    client = mlflow.MlflowClient(f"sqlite:///{workdir}/runs/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("expfw").experiment_id])
    child_runs = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    return child_runs, len({run.data.tags["mlflow.parentRunId"] for run in child_runs}), len(runs)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The sweep with a killed trial, with expfw's own launcher."""
    workdir = tmp_path_factory.mktemp("local")
    (workdir / "mortal.py").write_text(MORTAL)
    command = ("-p", "mortal.py", "sweep", *SHORT, "tracker=[]", "sweep.slots=1")
    start_command(workdir, *command).communicate(timeout=300)
    return get_only_sweep(workdir)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The long sweep, with expfw's own launcher."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    start_command(workdir, "sweep", *LONG, "tracker=[]", "sweep.slots=1").communicate(timeout=300)
    return get_only_sweep(workdir)


@pytest.mark.parametrize("launcher", ["basic", "submitit_local", "ray"])
def test_a_launcher_has_the_same_table_and_a_killed_trial_affects_no_other(workdir, local, launcher):
    needs(launcher)
    (workdir / "mortal.py").write_text(MORTAL)
    own = (
        ["hydra.launcher.ray.init.address=local"] if launcher == "ray" else []
    )  # not a Ray cluster that already runs here
    command = ("-p", "mortal.py", "sweep", *SHORT, f"hydra/launcher={launcher}", *own)
    process = start_command(workdir, *command)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 1, err
    assert rows(get_only_sweep(workdir)) == rows(local)
    assert [row["status"] for row in rows(local)] == ["FINISHED"] * 3 + ["FAILED"]
    assert "its process ended with signal 11 (SIGSEGV) before the run did" in err
    assert err.count("FINISHED ") == 3
    assert "best: " in out
    child_runs, parent_count, run_count = children(workdir)
    assert (len(child_runs), parent_count, run_count) == (4, 1, 5)
    assert sorted(run.info.status for run in child_runs) == ["FAILED"] + ["FINISHED"] * 3
    assert {path.name for path in workdir.iterdir()} <= {"runs", "mortal.py", "__pycache__"}
    assert not (get_only_sweep(workdir).folder / "requests").exists()


def test_an_interrupted_and_resumed_sweep_equals_an_uninterrupted_one(workdir, undisturbed, expfw_process):
    needs("submitit_local")
    process = start_command(workdir, "sweep", *LONG, "hydra/launcher=submitit_local")
    wait_for(lambda: len(list(workdir.glob("runs/*/*/trials/*/checkpoints/0*"))) >= 2, seconds=120)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    entry = get_only_sweep(workdir)
    assert "to resume: expfw sweeps resume" in err
    assert entry.status == "KILLED"
    assert {trial.status for trial in Ledger(entry.folder).read_trials()} == {"KILLED"}
    before = [trial.run_id for trial in Ledger(entry.folder).read_trials()]

    done = expfw_process("sweeps", "resume", entry.id)
    assert done.code == 0, done.err
    entry = get_only_sweep(workdir)
    assert rows(entry) == rows(undisturbed)
    trials = Ledger(entry.folder).read_trials()
    assert [trial.run_id for trial in trials] == before
    for trial, whole in zip(trials, Ledger(undisturbed.folder).read_trials(), strict=True):
        assert exact_comparison.compare_runs(Path(whole.folder), Path(trial.folder)).differences == ()
        kinds = [record["kind"] for record in journal.read_records(Path(trial.folder) / journal.NAME)[0]]
        assert kinds.count("run_resumed") == 1
    child_runs, parent_count, run_count = children(workdir)
    assert (len(child_runs), parent_count, run_count) == (2, 1, 3)
    assert {run.info.status for run in child_runs} == {"FINISHED"}


def test_trials_survive_a_killed_command_and_resume_keeps_them(workdir, undisturbed, expfw_process):
    needs("submitit_local")
    process = start_command(workdir, "sweep", *LONG, "hydra/launcher=submitit_local")
    wait_for(lambda: len(list(workdir.glob("runs/*/*/trials/*/checkpoints/0*"))) >= 2, seconds=120)
    process.kill()
    process.communicate()
    entry = get_only_sweep(workdir)
    trials = list(entry.folder.glob("trials/*"))
    wait_for(lambda: {run_index.read_entry(folder).status for folder in trials} == {"FINISHED"}, seconds=200)
    assert entry.status == "INTERRUPTED"
    status = json.loads(expfw_process("sweeps", "status", entry.id, "--json").out)
    assert [trial["status"] for trial in status["trials"]] == ["FINISHED"] * 2

    done = expfw_process("sweeps", "resume", entry.id)
    assert done.code == 0, done.err
    assert rows(get_only_sweep(workdir)) == rows(undisturbed)
    assert len(list(entry.folder.glob("trials/*"))) == 2
    child_runs, parent_count, run_count = children(workdir)
    assert (len(child_runs), parent_count, run_count) == (2, 1, 3)
    assert {run.info.status for run in child_runs} == {"FINISHED"}


def test_a_preempted_job_is_resumed_and_a_terminated_job_is_killed(workdir, undisturbed):
    """Slurm sends SIGUSR2 before it preempts a job, and SIGTERM to terminate it."""
    needs("submitit_local")
    process = start_command(
        workdir, "sweep", *LONG, "hydra/launcher=submitit_local", "tracker=[]", "+tags.api_key=h1dden"
    )
    folder = wait_for(lambda: next(iter(workdir.glob("runs/*/*/trials/")), None), seconds=120)
    trials = wait_for(lambda: len(folders := sorted(folder.glob("0*"))) == 2 and folders, seconds=120)
    wait_for(lambda: all(list(trial.glob("checkpoints/0*")) for trial in trials), seconds=120)
    for trial, number in zip(trials, (signal.SIGUSR2, signal.SIGTERM), strict=True):
        own = psutil.Process(json.loads((trial / "process.json").read_text())["pid"])
        os.kill(own.ppid(), number)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1, err
    first, second = Ledger(get_only_sweep(workdir).folder).read_trials()
    assert (first.status, second.status) == ("FINISHED", "KILLED")
    assert "expfw: trial 1 (seed=2): its job was stopped by SIGTERM" in err
    kinds = [record["kind"] for record in journal.read_records(trials[0] / journal.NAME)[0]]
    assert kinds.count("run_resumed") == 1
    whole = Ledger(undisturbed.folder).read_trials()[0]
    assert exact_comparison.compare_runs(Path(whole.folder), trials[0]).differences == ()
    written = [path for path in workdir.rglob("*") if path.is_file()]
    assert any(".submitit" in path.parts and path.suffix == ".pkl" for path in written)
    assert [path for path in written if b"h1dden" in path.read_bytes()] == []


def test_a_failed_trial_is_retried_in_another_batch(workdir):
    (workdir / "clumsy.py").write_text(
        "from pathlib import Path\nfrom expfw_models.ols import Ols\nclass Clumsy(Ols):\n"
        "    def build(self, data):\n        if self.config.degree == 2 and not Path('once').exists():\n"
        "            Path('once').touch()\n            raise RuntimeError('the first time')\n"
        "        return super().build(data)\n"
    )
    command = ["dataset=line", "model=clumsy", "model.degree=1,2", "tracker=[]", "train.epochs=2"]
    process = start_command(
        workdir, "-p", "clumsy.py", "sweep", *command, "hydra/launcher=basic", "sweep.on_failure=retry(1)"
    )
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "the first time; the trial is retried" in err
    assert [(row["status"], row["attempt"]) for row in rows(get_only_sweep(workdir))] == [
        ("FINISHED", 1),
        ("FINISHED", 2),
    ]


def test_a_running_ray_cluster_is_used(workdir, request):
    """Without expfw, Hydra's launcher passes an option that a running Ray cluster rejects."""
    needs("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    sockets = tempfile.mkdtemp(prefix="ray-")  # their paths must be short
    request.addfinalizer(lambda: shutil.rmtree(sockets, ignore_errors=True))
    head = [
        "start",
        "--head",
        f"--temp-dir={sockets}",
        f"--port={address.partition(':')[2]}",
        "--num-cpus=1",
        "--include-dashboard=false",
    ]
    command = [Path(sys.executable).with_name("ray"), *head, "--disable-usage-stats", "--block"]
    with (
        open(workdir / "ray.txt", "wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment) as ray,
    ):
        try:
            wait_for(lambda: "Ray runtime started" in (workdir / "ray.txt").read_text(), seconds=120)
            sweep = ["dataset=line", "model=ols", "train.epochs=2", "seed=1,2", "tracker=[]", "hydra/launcher=ray"]
            command = [sys.executable, "-m", "expfw", "sweep", *sweep, f"hydra.launcher.ray.init.address={address}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment, check=False)
        finally:
            ray.terminate()
    assert done.returncode == 0, done.stderr
    assert "Connecting to existing Ray cluster" in (get_only_sweep(workdir).folder / "log.txt").read_text()


def test_a_missing_scheduler_is_one_line_and_the_sweep_can_be_resumed(workdir, expfw_process, monkeypatch):
    needs("submitit_local")
    monkeypatch.setenv("PATH", str(workdir))
    began = time.monotonic()
    done = expfw_process("sweep", *TRAINING, "seed=1,2", "hydra/launcher=submitit_slurm", "tracker=[]")
    assert done.code == 1
    assert "2 trials did not start: hydra/launcher=submitit_slurm failed (RuntimeError" in done.err
    assert time.monotonic() - began < 60
    entry = get_only_sweep(workdir)
    assert {trial.status for trial in Ledger(entry.folder).read_trials()} == {"WAITING"}
    assert entry.first["hydra"] == ["hydra/launcher=submitit_slurm"]
