"""Sweeps with Hydra launchers: Submitit on this machine, local Ray, and Hydra's basic launcher."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from support.kill_sweeps import get_only_sweep, read_mlflow_trials, resume_sweep
from support.processes import HOST, find_free_port, run_expfw, start_expfw, wait_for

from expfw.runs import exact_comparison
from expfw.tracking.ledger import Ledger
from expfw.tracking.recorded_run import read_run

pytestmark = pytest.mark.slow
TRAINING = ("dataset=digits", "model=mlp_keras", "backend.threads=1")
SHORT = (*TRAINING, "train.epochs=3", "callback=[checkpoint,mortal]", "seed=1,2,3")
LONG = (*TRAINING, "train.epochs=400", "callback=[checkpoint]", "callback.checkpoint.every.steps=100", "seed=1,2")
MORTAL = """
import os, signal
import expfw

class Mortal(expfw.Callback):
    '''Kills its process during training, for one seed.'''

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        if run.config.seed == 3:
            os.kill(os.getpid(), signal.SIGSEGV)
"""


def needs(launcher):
    package = {"ray": "hydra_plugins.hydra_ray_launcher", "submitit_local": "hydra_plugins.hydra_submitit_launcher"}
    if launcher in package and (find_spec("hydra_plugins") is None or find_spec(package[launcher]) is None):
        pytest.skip(f"{package[launcher]} is not installed: pip install 'expfw[ray,slurm]'")


def rows(entry):
    """Returns the final table without the columns that differ between sweeps."""
    columns = ("number", "name", "fingerprint", "status", "objective", "metrics", "error", "configuration", "attempt")
    return [{name: getattr(trial, name) for name in columns} for trial in Ledger(entry.folder).read_trials()]


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The sweep with a killed trial, with expfw's own launcher."""
    workdir = tmp_path_factory.mktemp("local")
    (workdir / "mortal.py").write_text(MORTAL)
    run_expfw(workdir, "-p", "mortal.py", "sweep", *SHORT, "tracker=[]", "sweep.slots=1")
    return get_only_sweep(workdir)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The long sweep, with expfw's own launcher."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    run_expfw(workdir, "sweep", *LONG, "tracker=[]", "sweep.slots=1", check=True)
    return get_only_sweep(workdir)


def start_long_sweep(workdir, *overrides):
    """Starts the long sweep with Submitit; returns when its two trials have checkpoints."""
    needs("submitit_local")
    process = start_expfw(workdir, "sweep", *LONG, "hydra/launcher=submitit_local", *overrides)
    wait_for(lambda: len({path.parents[1] for path in workdir.glob("runs/*/*/trials/*/checkpoints/0*")}) == 2, 120)
    return process


def assert_undisturbed(workdir, undisturbed):
    """Checks the table of the sweep and its runs in MLflow."""
    assert rows(get_only_sweep(workdir)) == rows(undisturbed)
    names_and_statuses, parents = read_mlflow_trials(workdir)
    assert ([status for _, status in names_and_statuses], len(parents)) == (["FINISHED"] * 2, 1)


@pytest.mark.parametrize("launcher", ["basic", "submitit_local", "ray"])
def test_a_launcher_has_the_same_table_and_a_killed_trial_affects_no_other(workdir, local, launcher):
    needs(launcher)
    (workdir / "mortal.py").write_text(MORTAL)
    # not a Ray cluster that already runs here
    own = ["hydra.launcher.ray.init.address=local"] if launcher == "ray" else []
    done = run_expfw(workdir, "-p", "mortal.py", "sweep", *SHORT, f"hydra/launcher={launcher}", *own)
    assert done.returncode == 1, done.stderr
    assert rows(get_only_sweep(workdir)) == rows(local)
    assert [row["status"] for row in rows(local)] == ["FINISHED"] * 2 + ["FAILED"]
    assert "its process ended early with signal 11 (SIGSEGV)" in done.stderr
    assert done.stderr.count("FINISHED ") == 2
    assert "best: " in done.stdout
    names_and_statuses, parents = read_mlflow_trials(workdir)
    assert sorted(status for _, status in names_and_statuses) == ["FAILED"] + ["FINISHED"] * 2
    assert len(parents) == 1
    assert {path.name for path in workdir.iterdir()} <= {"runs", "mortal.py", "__pycache__"}
    assert not (get_only_sweep(workdir).folder / "requests").exists()


def test_an_interrupted_and_resumed_sweep_equals_an_uninterrupted_one(workdir, undisturbed):
    process = start_long_sweep(workdir)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 130, output
    entry = get_only_sweep(workdir)
    assert "to resume: expfw sweeps resume" in output
    assert entry.status == "KILLED"
    trials = Ledger(entry.folder).read_trials()
    assert {trial.status for trial in trials} == {"KILLED"}
    before = [trial.run_id for trial in trials]

    trials = Ledger(resume_sweep(workdir, "--trust").folder).read_trials()
    assert_undisturbed(workdir, undisturbed)
    assert [trial.run_id for trial in trials] == before
    for trial, whole in zip(trials, Ledger(undisturbed.folder).read_trials(), strict=True):
        assert exact_comparison.compare_runs(Path(whole.folder), Path(trial.folder)).differences == ()
        assert len(read_run(Path(trial.folder)).select("run_resumed")) == 1


def test_trials_survive_a_killed_command_and_resume_keeps_them(workdir, undisturbed, expfw_process):
    process = start_long_sweep(workdir)
    process.kill()
    process.communicate()
    entry = get_only_sweep(workdir)
    trials = list(entry.folder.glob("trials/*"))
    wait_for(lambda: {read_run(folder).status for folder in trials} == {"FINISHED"}, seconds=200)
    assert entry.status == "INTERRUPTED"
    status = json.loads(expfw_process("sweeps", "status", entry.id, "--json").out)
    assert [trial["status"] for trial in status["trials"]] == ["FINISHED"] * 2

    resume_sweep(workdir, "--trust")
    assert_undisturbed(workdir, undisturbed)
    assert len(list(entry.folder.glob("trials/*"))) == 2


def test_a_preempted_job_is_resumed_and_a_terminated_job_is_killed(workdir, undisturbed):
    """Slurm sends SIGUSR2 before it preempts a job, and SIGTERM to terminate it."""
    process = start_long_sweep(workdir, "tracker=[]", "+tags.api_key=h1dden")
    trials = sorted(workdir.glob("runs/*/*/trials/0*"))
    for trial, number in zip(trials, (signal.SIGUSR2, signal.SIGTERM), strict=True):
        own = psutil.Process(json.loads((trial / "process.json").read_text())["pid"])
        os.kill(own.ppid(), number)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 1, output
    first, second = Ledger(get_only_sweep(workdir).folder).read_trials()
    assert (first.status, second.status) == ("FINISHED", "KILLED")
    assert "expfw: trial 1 (seed=2): its job was stopped by SIGTERM" in output
    assert len(read_run(trials[0]).select("run_resumed")) == 1
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
    overrides = ["dataset=line", "model=clumsy", "model.degree=1,2", "tracker=[]", "train.epochs=2"]
    overrides += ["hydra/launcher=basic", "sweep.on_failure=retry(1)"]
    done = run_expfw(workdir, "-p", "clumsy.py", "sweep", *overrides, check=True)
    assert "the first time; the trial is retried" in done.stderr
    states = [(row["status"], row["attempt"]) for row in rows(get_only_sweep(workdir))]
    assert states == [("FINISHED", 1), ("FINISHED", 2)]


def test_a_running_ray_cluster_is_used(workdir, request, monkeypatch):
    """Without expfw, Hydra's launcher passes an option that a running Ray cluster rejects."""
    needs("ray")
    port = find_free_port()
    sockets = tempfile.mkdtemp(prefix="ray-")  # their paths must be short
    request.addfinalizer(lambda: shutil.rmtree(sockets, ignore_errors=True))
    head = ["start", "--head", f"--temp-dir={sockets}", f"--port={port}", "--num-cpus=1", "--include-dashboard=false"]
    command = [Path(sys.executable).with_name("ray"), *head, "--disable-usage-stats", "--block"]
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with open(workdir / "ray.txt", "wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as ray:
        try:
            wait_for(lambda: "Ray runtime started" in (workdir / "ray.txt").read_text(), seconds=120)
            sweep = ["dataset=line", "model=ols", "train.epochs=2", "seed=1,2", "tracker=[]", "hydra/launcher=ray"]
            run_expfw(workdir, "sweep", *sweep, f"hydra.launcher.ray.init.address={HOST}:{port}", check=True)
        finally:
            ray.terminate()
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
