"""Sweeps with third-party launchers: unsupported settings, job requests, and lost trials."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from expfw.api.run_config import Sweep
from expfw.config import third_party_launchers
from expfw.config.compose import compose
from expfw.errors import ConfigError, TrainingError
from expfw.runs.request import Request, prepare_run
from expfw.runs.restore import ResumePoint
from expfw.sweeps.cluster import cluster_runner, job, job_files
from expfw.sweeps.cluster.cluster_runner import ClusterRunner
from expfw.sweeps.cluster.job import JobTask
from expfw.sweeps.cluster.job_files import BEGUN_SUFFIX, ENDED_SUFFIX, JobEnd, JobFiles
from expfw.tracking.ledger import Ledger, Trial

SLURM = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", "nodes": 1}


@pytest.mark.parametrize(
    ("settings", "overrides", "message"),
    [
        ({"sampler": "tpe"}, [], "sweep.sampler=tpe needs the results of earlier trials"),
        ({"pruner": "median"}, [], "sweep.pruner=median needs the results"),
        ({}, ["model.dropout=interval(0,0.5)"], "an interval needs the results"),
        ({"space": {"model": {"cnn": {"model.dropout": "interval(0, 0.5)"}}}}, [], "an interval needs the results"),
        ({"on_failure": "stop"}, [], "sweep.on_failure=stop"),
        ({"slots": 2}, [], "not supported by hydra/launcher=submitit_slurm; use hydra.launcher.array_parallelism=N"),
        ({"gpus": 1}, [], "hydra.launcher.gpus_per_node=N"),
        ({"timeout": 60.0}, [], "hydra.launcher.timeout_min=MINUTES"),
        ({"memory": 2.0}, [], "hydra.launcher.mem_gb=N"),
    ],
)
def test_unsupported_settings_of_a_launcher_are_rejected_with_a_reason(settings, overrides, message):
    with pytest.raises(ConfigError) as error:
        third_party_launchers.check_launcher("submitit_slurm", SLURM, Sweep(**settings), overrides)
    assert message in str(error.value)


def test_supported_settings_of_a_launcher_are_accepted():
    settings = Sweep(sampler="grid", seeds=3, on_failure="retry(2)")
    third_party_launchers.check_launcher("submitit_slurm", SLURM, settings, ["model.units=1,2", "seed=range(3)"])


def test_several_nodes_and_machines_without_a_shared_folder_are_rejected():
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.nodes is 2; expected 1"):
        third_party_launchers.check_launcher("submitit_slurm", {**SLURM, "nodes": 2}, Sweep(), [])
    with pytest.raises(ConfigError, match="ray_aws cannot be used"):
        third_party_launchers.check_launcher("ray_aws", {"_target_": "x.RayAWSLauncher"}, Sweep(), [])


def test_unsupported_settings_are_rejected_before_anything_is_written(expfw_here, workdir):
    for override in ("sweep.slots=2", "sweep.sampler=random", "sweep.memory=1"):
        done = expfw_here("sweep", "hydra/launcher=basic", "seed=1,2", override)
        assert done.code == 2
        assert "hydra/launcher=basic" in done.err
    assert list(workdir.iterdir()) == []


def test_a_launcher_that_is_not_installed_is_one_line(expfw_here, monkeypatch):
    from hydra.core.config_store import ConfigStore

    known = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.setitem(ConfigStore.instance().repo["hydra"], "launcher", {"basic.yaml": known["basic.yaml"]})
    done = expfw_here("sweep", "hydra/launcher=submitit_slurm", "seed=1,2")
    assert (done.code, done.err.splitlines()[-1]) == (
        2,
        "expfw: hydra/launcher=submitit_slurm is not installed; install it with: pip install 'expfw[slurm]'",
    )
    assert "unknown hydra/launcher 'nonsense'" in expfw_here("sweep", "hydra/launcher=nonsense", "seed=1,2").err


def test_an_unknown_option_of_a_launcher_is_an_error(expfw_here):
    done = expfw_here("sweep", "hydra/launcher=basic", "hydra.launcher.mem=1", "seed=1,2")
    assert (done.code, "unknown option 'hydra.launcher.mem'" in done.err) == (2, True)


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


def test_a_job_request_is_restored_from_its_file_which_only_the_owner_can_read(trial_request):
    files = JobFiles(trial_request.sweep_folder)
    resume_point = ResumePoint(Path("/x"), accept_differences=True, differences=[], end_steps=[])
    for request in (trial_request, dataclasses.replace(trial_request, resume_point=resume_point)):
        files.write_request(0, request)
        job_request = job_files.read_job_request(files.get_path(0))
        assert job_request.request == request
        assert job_request.request.config.tags == {"key": "s3cret"}
        assert job_request.working_directory == Path.cwd()
        assert stat.S_IMODE(files.get_path(0).stat().st_mode) == 0o600


def run_job(files, number, monkeypatch):
    """Calls our task function as a launcher does."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create({"job": {"num": number}}))
    return JobTask(files)({})


def test_a_job_without_request_does_nothing_and_without_folder_returns_an_error(trial_request, monkeypatch):
    monkeypatch.setattr(job, "_run_job", lambda job_request: pytest.fail("the job ran"))
    files = JobFiles(trial_request.sweep_folder)
    assert "all machines share" in run_job(files, 0, monkeypatch)
    files.write_request(0, trial_request)
    files.withdraw_requests()
    assert run_job(files, 0, monkeypatch) is None


def test_a_job_records_why_its_process_could_not_be_started(trial_request, monkeypatch, tmp_path):
    files = JobFiles(trial_request.sweep_folder)
    files.write_request(0, trial_request)
    values = json.loads(files.get_path(0).read_text())
    files.get_path(0).write_text(json.dumps({**values, "directory": "/nowhere"}))
    assert run_job(files, 0, monkeypatch) is None
    assert "/nowhere" in files.read_end(0).exit_description
    assert Ledger(trial_request.sweep_folder).read_trial(0).status == "RUNNING"


@pytest.mark.parametrize(
    "raised", [SystemExit(144), subprocess.CalledProcessError(-signal.SIGTERM, "scontrol requeue")]
)
def test_a_requeued_job_writes_no_end_mark(trial_request, monkeypatch, raised):
    def end(job_request, received_signals):
        os.kill(os.getpid(), signal.SIGTERM)
        raise raised

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(job, "_wait_for_end", end)
    files = JobFiles(trial_request.sweep_folder)
    files.write_request(0, trial_request)
    with pytest.raises(SystemExit):
        run_job(files, 0, monkeypatch)
    assert ENDED_SUFFIX not in {Path(name).suffix for name in files.list_marks()}
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_job_that_its_scheduler_stops_records_the_reason(trial_request, monkeypatch):
    def end(job_request, received_signals):
        raise RuntimeError("timed out")

    monkeypatch.setattr(job, "_wait_for_end", end)
    files = JobFiles(trial_request.sweep_folder)
    files.write_request(0, trial_request)
    assert run_job(files, 0, monkeypatch) is None
    assert files.read_end(0) == JobEnd(reason="its job was stopped (RuntimeError: timed out)")


@dataclass
class FakeLauncherProcess:
    """Fake launcher process: performs one action at each poll, then ends with an exit code."""

    actions: list
    code: int
    job_files: JobFiles | None = None
    pid: int = 0

    def poll(self):
        if self.actions:
            self.actions.pop(0)(self.job_files)
            return None
        return self.code

    def wait(self, timeout=None):
        return self.code

    def send_signal(self, number):
        pass


@dataclass
class RecordingQueue:
    """Trial queue that records the started and ended trials."""

    requests: list
    retries: list = field(default_factory=list)
    started: list = field(default_factory=list)
    ends: list = field(default_factory=list)

    def next_request(self):
        return self.requests.pop(0) if self.requests else None

    def mark_trial_started(self, request):
        self.started.append(request.trial)

    def mark_trial_ended(self, request, reason):
        self.ends.append((request.trial, reason))
        if self.retries:
            self.requests.append(self.retries.pop(0))

    def check_running_trials(self):
        pass

    def run(self, folder):
        ClusterRunner("slow", None, folder).run(self)


def write_marks(jobs, suffix, content=""):
    """Returns an action that writes mark files, as the jobs do."""
    return lambda files: [files.get_path(number).with_suffix(suffix).write_text(content) for number in jobs]


@pytest.fixture
def set_launcher(monkeypatch):
    """Replaces the launcher process by a fake one with given actions."""
    monkeypatch.setattr(cluster_runner, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(cluster_runner, "_MAX_SILENCE_SECONDS", 0.0)

    def use(actions, code=0, error=None):
        def start(launch_spec, log):
            if error is not None:
                launch_spec.error_file.write_text(error)
            return FakeLauncherProcess(list(actions), code, launch_spec.task.job_files)

        monkeypatch.setattr(cluster_runner.launcher_process, "start_launcher", start)

    return use


def make_requests(trial_request, count):
    return [dataclasses.replace(trial_request, trial=number, id=f"run{number}") for number in range(count)]


ENDED = json.dumps(vars(JobEnd("its process ended with exit code 0 before the run did")))


def test_the_queue_is_notified_of_starts_and_ends_in_any_order(trial_request, set_launcher):
    queue = RecordingQueue(make_requests(trial_request, 3))
    set_launcher(
        [
            write_marks([2], BEGUN_SUFFIX),
            write_marks([2], ENDED_SUFFIX, ENDED),
            write_marks([0, 1], BEGUN_SUFFIX),
            write_marks([0, 1], ENDED_SUFFIX, ENDED),
        ]
    )
    queue.run(trial_request.sweep_folder)
    assert queue.started == [2, 0, 1]
    assert [trial for trial, _ in queue.ends] == [2, 0, 1]
    assert not (trial_request.sweep_folder / job_files.FOLDER_NAME).exists()


def test_a_lost_job_without_an_end_mark_ends_with_the_launchers_reason(trial_request, set_launcher):
    queue = RecordingQueue(make_requests(trial_request, 2))
    set_launcher(
        [write_marks([0, 1], BEGUN_SUFFIX), write_marks([1], ENDED_SUFFIX, ENDED)],
        1,
        "NodeFailure: node7 is down",
    )
    queue.run(trial_request.sweep_folder)
    assert dict(queue.ends)[0] == "its job ended before the run did (NodeFailure: node7 is down)"
    assert dict(queue.ends)[1] == "its process ended with exit code 0 before the run did"


def test_trials_that_did_not_start_are_an_error(trial_request, set_launcher):
    queue = RecordingQueue(make_requests(trial_request, 2))
    set_launcher(
        [write_marks([0], BEGUN_SUFFIX), write_marks([0], ENDED_SUFFIX, ENDED)],
        1,
        "CalledProcessError: sbatch",
    )
    with pytest.raises(
        TrainingError, match=r"1 trial did not start: hydra/launcher=slow failed \(CalledProcessError: sbatch\)"
    ):
        queue.run(trial_request.sweep_folder)
    assert [trial for trial, _ in queue.ends] == [0]
    folder = trial_request.sweep_folder / job_files.FOLDER_NAME
    assert not list(folder.glob("*.json"))  # jobs that begin later do nothing


def test_an_interrupt_stops_running_trials_and_withdraws_waiting_ones(trial_request, set_launcher, monkeypatch):
    queue = RecordingQueue(make_requests(trial_request, 2))

    def interrupt(files):
        raise KeyboardInterrupt

    def withdraw_and_end(files):
        withdraw(files)
        write_marks([0], ENDED_SUFFIX, json.dumps(vars(JobEnd())))(files)

    withdraw = JobFiles.withdraw_requests
    monkeypatch.setattr(JobFiles, "withdraw_requests", withdraw_and_end)
    set_launcher([write_marks([0], BEGUN_SUFFIX), lambda files: None, interrupt])
    with pytest.raises(KeyboardInterrupt):
        queue.run(trial_request.sweep_folder)
    assert queue.ends == [(0, None)]


def test_retries_are_submitted_as_another_batch(trial_request, set_launcher):
    queue = RecordingQueue(make_requests(trial_request, 1), retries=make_requests(trial_request, 1))
    set_launcher([write_marks([0], BEGUN_SUFFIX), write_marks([0], ENDED_SUFFIX, ENDED)])
    queue.run(trial_request.sweep_folder)
    assert [trial for trial, _ in queue.ends] == [0, 0]
