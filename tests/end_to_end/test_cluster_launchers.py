"""Sweeps through launchers of Hydra: Submitit on this machine, a local Ray, and the one that Hydra has by itself."""

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
    '''Its process dies in the middle of the training, for one seed.'''

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        if run.config.seed == 4:
            os.kill(os.getpid(), signal.SIGSEGV)
"""


def needs(launcher):
    package = {"ray": "hydra_plugins.hydra_ray_launcher", "submitit_local": "hydra_plugins.hydra_submitit_launcher"}
    if launcher in package and (find_spec("hydra_plugins") is None or find_spec(package[launcher]) is None):
        pytest.skip(f"{package[launcher]} is not installed: pip install 'expfw[ray,slurm]'")


def started(workdir, *arguments):
    """A command in a process group of its own, which a terminal would have."""
    command = [sys.executable, "-m", "expfw", *arguments]
    return subprocess.Popen(command, cwd=workdir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def the_sweep(workdir):
    (entry,) = run_index.list_sweeps(workdir / "runs")
    return entry


def rows(entry):
    """The final table, without what no two sweeps share."""
    kept = ("number", "name", "fingerprint", "status", "objective", "metrics", "error", "configuration", "attempt")
    return [{name: getattr(trial, name) for name in kept} for trial in Ledger(entry.folder).read_trials()]


def children(workdir):
    """The runs in MLflow that have a parent, and how many parents they have."""
    client = mlflow.MlflowClient(f"sqlite:///{workdir}/runs/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("expfw").experiment_id])
    found = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    return found, len({run.data.tags["mlflow.parentRunId"] for run in found}), len(runs)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The sweep with a trial that dies, by expfw's own launcher."""
    workdir = tmp_path_factory.mktemp("local")
    (workdir / "mortal.py").write_text(MORTAL)
    command = ("-p", "mortal.py", "sweep", *SHORT, "tracker=[]", "sweep.slots=1")
    started(workdir, *command).communicate(timeout=300)
    return the_sweep(workdir)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The long sweep, by expfw's own launcher."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    started(workdir, "sweep", *LONG, "tracker=[]", "sweep.slots=1").communicate(timeout=300)
    return the_sweep(workdir)


@pytest.mark.parametrize("launcher", ["basic", "submitit_local", "ray"])
def test_the_same_table_as_on_one_machine_and_a_trial_that_dies_costs_itself_only(workdir, local, launcher):
    needs(launcher)
    (workdir / "mortal.py").write_text(MORTAL)
    own = ["hydra.launcher.ray.init.address=local"] if launcher == "ray" else []  # whatever else runs on this machine
    command = ("-p", "mortal.py", "sweep", *SHORT, f"hydra/launcher={launcher}", *own)
    process = started(workdir, *command)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 1, err
    assert rows(the_sweep(workdir)) == rows(local)
    assert [row["status"] for row in rows(local)] == ["FINISHED"] * 3 + ["FAILED"]
    assert "its process ended with signal 11 (SIGSEGV) before the run did" in err
    assert err.count("FINISHED ") == 3
    assert "best: " in out
    found, parents, everything = children(workdir)
    assert (len(found), parents, everything) == (4, 1, 5)
    assert sorted(run.info.status for run in found) == ["FAILED"] + ["FINISHED"] * 3
    assert {path.name for path in workdir.iterdir()} <= {"runs", "mortal.py", "__pycache__"}
    assert not (the_sweep(workdir).folder / "orders").exists()


def test_interrupted_and_gone_on_with_it_is_the_sweep_that_was_left_alone(workdir, undisturbed, expfw_process):
    needs("submitit_local")
    process = started(workdir, "sweep", *LONG, "hydra/launcher=submitit_local")
    wait_for(lambda: len(list(workdir.glob("runs/*/*/trials/*/checkpoints/0*"))) >= 2, seconds=120)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    entry = the_sweep(workdir)
    assert "to go on with it: expfw sweeps resume" in err
    assert entry.status == "KILLED"
    assert {trial.status for trial in Ledger(entry.folder).read_trials()} == {"KILLED"}
    before = [trial.run_id for trial in Ledger(entry.folder).read_trials()]

    done = expfw_process("sweeps", "resume", entry.id)
    assert done.code == 0, done.err
    entry = the_sweep(workdir)
    assert rows(entry) == rows(undisturbed)
    trials = Ledger(entry.folder).read_trials()
    assert [trial.run_id for trial in trials] == before
    for trial, whole in zip(trials, Ledger(undisturbed.folder).read_trials(), strict=True):
        assert exact_comparison.compare_runs(Path(whole.folder), Path(trial.folder)).differences == ()
        kinds = [record["kind"] for record in journal.read_records(Path(trial.folder) / journal.NAME)[0]]
        assert kinds.count("run_resumed") == 1
    found, parents, everything = children(workdir)
    assert (len(found), parents, everything) == (2, 1, 3)
    assert {run.info.status for run in found} == {"FINISHED"}


def test_trials_outlive_a_command_that_was_killed_outright_and_are_taken_over(workdir, undisturbed, expfw_process):
    needs("submitit_local")
    process = started(workdir, "sweep", *LONG, "hydra/launcher=submitit_local")
    wait_for(lambda: len(list(workdir.glob("runs/*/*/trials/*/checkpoints/0*"))) >= 2, seconds=120)
    process.kill()
    process.communicate()
    entry = the_sweep(workdir)
    trials = list(entry.folder.glob("trials/*"))
    wait_for(lambda: {run_index.read_entry(folder).status for folder in trials} == {"FINISHED"}, seconds=200)
    assert entry.status == "INTERRUPTED"
    status = json.loads(expfw_process("sweeps", "status", entry.id, "--json").out)
    assert [trial["status"] for trial in status["trials"]] == ["FINISHED"] * 2

    done = expfw_process("sweeps", "resume", entry.id)
    assert done.code == 0, done.err
    assert rows(the_sweep(workdir)) == rows(undisturbed)
    assert len(list(entry.folder.glob("trials/*"))) == 2
    found, parents, everything = children(workdir)
    assert (len(found), parents, everything) == (2, 1, 3)
    assert {run.info.status for run in found} == {"FINISHED"}


def test_a_job_that_is_started_again_goes_on_and_one_that_is_ended_leaves(workdir, undisturbed):
    """What Slurm does to jobs: SIGUSR2 before it takes them off a machine, SIGTERM when they are to end."""
    needs("submitit_local")
    process = started(workdir, "sweep", *LONG, "hydra/launcher=submitit_local", "tracker=[]", "+tags.api_key=h1dden")
    folder = wait_for(lambda: next(iter(workdir.glob("runs/*/*/trials/")), None), seconds=120)
    trials = wait_for(lambda: len(found := sorted(folder.glob("0*"))) == 2 and found, seconds=120)
    wait_for(lambda: all(list(trial.glob("checkpoints/0*")) for trial in trials), seconds=120)
    for trial, number in zip(trials, (signal.SIGUSR2, signal.SIGTERM), strict=True):
        own = psutil.Process(json.loads((trial / "process.json").read_text())["pid"])
        os.kill(own.ppid(), number)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1, err
    first, second = Ledger(the_sweep(workdir).folder).read_trials()
    assert (first.status, second.status) == ("FINISHED", "KILLED")
    assert "expfw: trial 1 (seed=2): its job was ended by SIGTERM" in err
    kinds = [record["kind"] for record in journal.read_records(trials[0] / journal.NAME)[0]]
    assert kinds.count("run_resumed") == 1
    whole = Ledger(undisturbed.folder).read_trials()[0]
    assert exact_comparison.compare_runs(Path(whole.folder), trials[0]).differences == ()
    written = [path for path in workdir.rglob("*") if path.is_file()]
    assert any(".submitit" in path.parts and path.suffix == ".pkl" for path in written)
    assert [path for path in written if b"h1dden" in path.read_bytes()] == []


def test_a_trial_that_fails_is_tried_again_in_another_batch(workdir):
    (workdir / "clumsy.py").write_text(
        "from pathlib import Path\nfrom expfw_models.ols import Ols\nclass Clumsy(Ols):\n"
        "    def build(self, data):\n        if self.config.degree == 2 and not Path('once').exists():\n"
        "            Path('once').touch()\n            raise RuntimeError('the first time')\n"
        "        return super().build(data)\n"
    )
    command = ["dataset=line", "model=clumsy", "model.degree=1,2", "tracker=[]", "train.epochs=2"]
    process = started(
        workdir, "-p", "clumsy.py", "sweep", *command, "hydra/launcher=basic", "sweep.on_failure=retry(1)"
    )
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "the first time; it is tried again" in err
    assert [(row["status"], row["attempt"]) for row in rows(the_sweep(workdir))] == [("FINISHED", 1), ("FINISHED", 2)]


def test_a_ray_that_runs_already_is_used(workdir, request):
    """Hydra's launcher alone would give it an option that Ray refuses then."""
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
    assert "Connecting to existing Ray cluster" in (the_sweep(workdir).folder / "log.txt").read_text()


def test_a_scheduler_that_is_not_there_is_one_line_and_the_sweep_can_go_on(workdir, expfw_process, monkeypatch):
    needs("submitit_local")
    monkeypatch.setenv("PATH", str(workdir))
    began = time.monotonic()
    done = expfw_process("sweep", *TRAINING, "seed=1,2", "hydra/launcher=submitit_slurm", "tracker=[]")
    assert done.code == 1
    assert "2 of the trials did not begin, since hydra/launcher=submitit_slurm gave up (RuntimeError" in done.err
    assert time.monotonic() - began < 60
    entry = the_sweep(workdir)
    assert {trial.status for trial in Ledger(entry.folder).read_trials()} == {"WAITING"}
    assert entry.first["hydra"] == ["hydra/launcher=submitit_slurm"]
