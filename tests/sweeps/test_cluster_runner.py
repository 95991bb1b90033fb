"""Sweeps with third-party launchers: unsupported settings, job requests, and lost trials."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import stat
import subprocess
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from expfw.api.run_config import Sweep
from expfw.config import third_party_launchers
from expfw.config.compose import compose
from expfw.errors import ConfigError, TrainingError
from expfw.runs.request import Request, prepare_run
from expfw.runs.restore import ResumePoint
from expfw.sweeps.cluster import cluster_runner, job
from expfw.sweeps.cluster.cluster_runner import ClusterRunner
from expfw.sweeps.cluster.job import FOLDER_NAME, JobEnd, JobTask
from expfw.sweeps.runner import TrialQueue
from expfw.system import process_lock
from expfw.system.subprocess_call import CallError
from expfw.tracking.ledger import Ledger, Trial

SLURM = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", "nodes": 1}
NESTED_INTERVAL = {"model": {"cnn": {"model.dropout": "interval(0, 0.5)"}}}


@pytest.mark.parametrize(
    ("options", "settings", "overrides", "message"),
    [
        (SLURM, {"sampler": "tpe"}, [], "sweep.sampler=tpe needs the results of earlier trials"),
        (SLURM, {"pruner": "median"}, [], "sweep.pruner=median needs the results"),
        (SLURM, {}, ["model.dropout=interval(0,0.5)"], "an interval needs the results"),
        (SLURM, {"space": NESTED_INTERVAL}, [], "an interval needs the results"),
        (SLURM, {"on_failure": "stop"}, [], "sweep.on_failure=stop"),
        (SLURM, {"slots": 2}, [], "not supported by hydra/launcher=slurm; use hydra.launcher.array_parallelism=N"),
        (SLURM, {"gpus": 1}, [], "hydra.launcher.gpus_per_node=N"),
        (SLURM, {"timeout": 60.0}, [], "hydra.launcher.timeout_min=MINUTES"),
        (SLURM, {"memory": 2.0}, [], "hydra.launcher.mem_gb=N"),
        ({**SLURM, "nodes": 2}, {}, [], "hydra.launcher.nodes is 2; expected 1"),
        ({"_target_": "x.RayAWSLauncher"}, {}, [], "hydra/launcher=slurm cannot be used"),
    ],
)
def test_unsupported_options_of_a_launcher_are_rejected_with_a_reason(options, settings, overrides, message):
    with pytest.raises(ConfigError) as error:
        third_party_launchers.check_launcher("slurm", options, Sweep(**settings), overrides)
    assert message in str(error.value)


def test_supported_settings_of_a_launcher_are_accepted():
    settings = Sweep(sampler="grid", seeds=3, on_failure="retry(2)")
    third_party_launchers.check_launcher("submitit_slurm", SLURM, settings, ["model.units=1,2", "seed=range(3)"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra/launcher=basic", "sweep.slots=2"], "sweep.slots is not supported by hydra/launcher=basic"),
        (["hydra/launcher=basic", "sweep.sampler=random"], "but hydra/launcher=basic gets all trials at once"),
        (["hydra/launcher=basic", "sweep.on_failure=stop"], "sweep.on_failure=stop is not supported by hydra/launcher"),
        (["hydra/launcher=basic", "hydra.launcher.mem=1"], "unknown option 'hydra.launcher.mem'"),
        (["hydra/launcher=nonsense"], "unknown hydra/launcher 'nonsense'"),
    ],
)
def test_unsupported_settings_are_rejected_before_anything_is_written(expfw_here, workdir, overrides, message):
    done, plan = (expfw_here("sweep", *flags, *overrides, "seed=1,2") for flags in ([], ["--plan"]))
    assert (done.code, message in done.err) == (2, True)
    assert (plan.code, plan.out, plan.err) == (2, "", done.err)
    assert list(workdir.iterdir()) == []


def test_a_launcher_that_is_not_installed_is_one_line(expfw_here, monkeypatch):
    from hydra.core.config_store import ConfigStore

    known = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.setitem(ConfigStore.instance().repo["hydra"], "launcher", {"basic.yaml": known["basic.yaml"]})
    done = expfw_here("sweep", "hydra/launcher=submitit_slurm", "seed=1,2")
    message = "expfw: hydra/launcher=submitit_slurm is not installed; install it with: pip install 'expfw[slurm]'"
    assert (done.code, done.err.splitlines()[-1]) == (2, message)


@pytest.fixture
def trial_request(workdir, monkeypatch) -> Request:
    """Request of the first trial of a sweep that has only a ledger."""
    monkeypatch.setenv("SECRET", "s3cret")
    config = compose(["dataset=line", "model=ols", "+tags.key=${oc.env:SECRET}", "tracker=[]"])
    folder = workdir / "sweep"
    folder.mkdir()
    Ledger(folder).write(Trial(0, "f" * 16, ["seed=1"], ["seed=1"]))
    request = prepare_run(config, overrides=("seed=1",), sweep_folder=folder, trial=0, swept={"seed": 1}).request
    return dataclasses.replace(request, files=("mine.py",))


@pytest.fixture
def files(trial_request):
    """Files of the first job."""
    return JobTask(trial_request.sweep_folder / FOLDER_NAME, "batch").get_files(0)


def test_a_job_request_is_restored_from_its_file_which_only_the_owner_can_read(trial_request, files):
    resume_point = ResumePoint(Path("/x"), accept_differences=True, differences=[], end_steps=[])
    for request in (trial_request, dataclasses.replace(trial_request, resume_point=resume_point)):
        files.write_request(request)
        restored_request, working_directory, _ = files.read_request()
        assert restored_request == request
        assert restored_request.config.tags == {"key": "s3cret"}
        assert working_directory == Path.cwd()
        assert stat.S_IMODE(files.path.stat().st_mode) == 0o600


@pytest.fixture
def run_job(files, monkeypatch):
    """Calls our task function as a launcher does."""
    from hydra.core.hydra_config import HydraConfig

    monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create({"job": {"num": 0}}))
    return lambda: JobTask(files.path.parent, "batch")({})


def test_a_job_without_request_does_nothing_and_without_folder_returns_an_error(run_job, files, trial_request):
    assert "all machines share" in run_job()
    files.write_request(trial_request)
    files.path.unlink()
    assert run_job() is None
    assert list(files.path.parent.iterdir()) == []


def test_a_job_records_why_its_process_could_not_be_started(run_job, files, trial_request):
    files.write_request(trial_request)
    values = json.loads(files.path.read_text())
    files.path.write_text(json.dumps({**values, "directory": "/nowhere"}))
    assert run_job() is None
    assert "/nowhere" in files.read_end().exit_description
    assert Ledger(trial_request.sweep_folder).read_trial(0).status == "RUNNING"


def test_a_job_does_not_delete_the_folder_of_a_process_that_has_just_started(trial_request, monkeypatch):
    monkeypatch.setattr(job, "_SHUTDOWN_SECONDS", 0.0)
    request = dataclasses.replace(trial_request, files=())
    request.trial_folder.mkdir(parents=True)
    with process_lock.lock_folder(request.trial_folder):
        assert job._prepare_run(request).request == request
        assert request.trial_folder.exists()
    job._prepare_run(request)
    assert not request.trial_folder.exists()


@pytest.mark.parametrize(
    ("raised", "job_end"),
    [
        (SystemExit(144), None),
        (subprocess.CalledProcessError(-signal.SIGTERM, "scontrol requeue"), None),
        (RuntimeError("timed out"), JobEnd(reason="its job was stopped (RuntimeError: timed out)")),
    ],
)
def test_a_stopped_job_records_the_reason_and_a_requeued_job_writes_no_end_mark(
    run_job, files, trial_request, monkeypatch, raised, job_end
):
    def stop(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        raise raised

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(job, "_wait_for_end", stop)
    files.write_request(trial_request)
    with nullcontext() if job_end else pytest.raises(SystemExit):
        run_job()
    assert files.begun_mark.exists()
    assert (files.read_end() if files.ended_mark.exists() else None) == job_end
    assert signal.getsignal(signal.SIGTERM) == before


@dataclass
class FakeLauncher:
    """Fake call of the launcher, and its process: performs one action at each poll, then ends."""

    actions: list
    code: int
    error: str | None
    task: JobTask
    process = property(lambda self: self)

    def poll(self):
        if self.actions:
            self.actions.pop(0)(self.task)
            return None
        return self.code

    def wait(self, timeout=None):
        return self.code

    def send_signal(self, number):
        pass

    def wait_for_result(self):
        raise CallError(self.error)


class RecordingQueue(TrialQueue):
    """Trial queue that records the started and ended trials."""

    def __init__(self, requests, retries):
        super().__init__(requests)
        self.retries, self.started, self.ends = retries, [], []

    def mark_trial_started(self, request):
        self.started.append(request.trial)

    def mark_trial_ended(self, request, reason):
        self.ends.append((request.trial, reason))
        if self.retries:
            self.requests.append(self.retries.pop(0))


EARLY_END = JobEnd("its process ended early with exit code 0")


def begin(*jobs):
    """Returns an action that marks these jobs as begun."""
    return lambda task: [task.get_files(number).begun_mark.touch() for number in jobs]


def end(*jobs, how=EARLY_END):
    """Returns an action that marks these jobs as ended."""
    return lambda task: [task.get_files(number).write_end(how) for number in jobs]


@pytest.fixture
def run_batch(trial_request, monkeypatch):
    """Runs the trials of a queue with a launcher that performs these actions; returns the queue."""
    monkeypatch.setattr(cluster_runner, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(cluster_runner, "_MAX_SILENCE_SECONDS", 0.0)

    def run(count, *actions, code=0, error=None, retries=0, raises=None):
        @contextmanager
        def start(function, config, folder, batch, job_count, **options):
            yield FakeLauncher(list(actions), code, error, JobTask(folder, batch))

        monkeypatch.setattr(cluster_runner, "start_call", start)
        requests = [dataclasses.replace(trial_request, trial=number, id=f"run{number}") for number in range(count)]
        queue = RecordingQueue(requests, requests[:retries])
        with pytest.raises(raises) if raises else nullcontext() as queue.error:
            ClusterRunner("slow", OmegaConf.create(), trial_request.sweep_folder).run(queue)
        return queue

    return run


def test_the_queue_is_notified_of_starts_and_ends_in_any_order(run_batch, files):
    queue = run_batch(3, begin(2), end(2), begin(0, 1), end(0, 1))
    assert queue.started == [2, 0, 1]
    assert [trial for trial, _ in queue.ends] == [2, 0, 1]
    assert not files.path.parent.exists()


def test_a_lost_job_without_an_end_mark_ends_with_the_launchers_reason(run_batch):
    queue = run_batch(2, begin(0, 1), end(1), code=1, error="NodeFailure: node7 is down")
    assert dict(queue.ends)[0] == "its job ended before the run did (NodeFailure: node7 is down)"
    assert dict(queue.ends)[1] == "its process ended early with exit code 0"


def test_trials_that_did_not_start_are_an_error(run_batch, files):
    queue = run_batch(2, begin(0), end(0), code=1, error="CalledProcessError: sbatch", raises=TrainingError)
    message = "1 trial did not start: hydra/launcher=slow failed (CalledProcessError: sbatch)"
    assert message in str(queue.error.value)
    assert [trial for trial, _ in queue.ends] == [0]
    assert not list(files.path.parent.glob("*.json"))  # jobs that begin later do nothing


def test_an_interrupt_stops_running_trials_and_withdraws_waiting_ones(run_batch, files, monkeypatch):
    withdraw = cluster_runner._Batch._withdraw_requests

    def withdraw_and_end(batch):
        withdraw(batch)
        end(0, how=JobEnd())(batch.task)

    def interrupt(task):
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster_runner._Batch, "_withdraw_requests", withdraw_and_end)
    queue = run_batch(2, begin(0), lambda task: None, interrupt, raises=KeyboardInterrupt)
    assert queue.ends == [(0, None)]
    assert not list(files.path.parent.glob("*.json"))


def test_retries_are_submitted_as_another_batch(run_batch):
    queue = run_batch(1, begin(0), end(0), retries=1)
    assert [trial for trial, _ in queue.ends] == [0, 0]
