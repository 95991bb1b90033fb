"""Sweeps through other launchers than expfw's own: what they cannot do, orders, and trials that are lost."""

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
    ("settings", "typed", "said"),
    [
        ({"sampler": "tpe"}, [], "sweep.sampler=tpe is searched with what earlier trials came to"),
        ({"pruner": "median"}, [], "sweep.pruner=median is searched"),
        ({}, ["model.dropout=interval(0,0.5)"], "an interval is searched"),
        ({"space": {"model": {"cnn": {"model.dropout": "interval(0, 0.5)"}}}}, [], "an interval is searched"),
        ({"on_failure": "stop"}, [], "sweep.on_failure=stop"),
        ({"slots": 2}, [], "what hydra/launcher=submitit_slurm knows is hydra.launcher.array_parallelism=N"),
        ({"gpus": 1}, [], "hydra.launcher.gpus_per_node=N"),
        ({"timeout": 60.0}, [], "hydra.launcher.timeout_min=MINUTES"),
        ({"memory": 2.0}, [], "hydra.launcher.mem_gb=N"),
    ],
)
def test_what_a_launcher_cannot_do_is_refused_with_the_reason(settings, typed, said):
    with pytest.raises(ConfigError) as error:
        third_party_launchers.check_launcher("submitit_slurm", SLURM, Sweep(**settings), typed)
    assert said in str(error.value)


def test_what_it_can_do_is_not_refused():
    settings = Sweep(sampler="grid", seeds=3, on_failure="retry(2)")
    third_party_launchers.check_launcher("submitit_slurm", SLURM, settings, ["model.units=1,2", "seed=range(3)"])


def test_several_tasks_and_machines_that_share_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.nodes=2: a trial is one process"):
        third_party_launchers.check_launcher("submitit_slurm", {**SLURM, "nodes": 2}, Sweep(), [])
    with pytest.raises(ConfigError, match="ray_aws cannot be used"):
        third_party_launchers.check_launcher("ray_aws", {"_target_": "x.RayAWSLauncher"}, Sweep(), [])


def test_refused_before_anything_is_written(expfw_here, workdir):
    for words in (["sweep.slots=2"], ["sweep.sampler=random"], ["sweep.memory=1"]):
        done = expfw_here("sweep", "hydra/launcher=basic", "seed=1,2", *words)
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
        "expfw: hydra/launcher=submitit_slurm needs a package that is not there: pip install 'expfw[slurm]'",
    )
    assert "no hydra/launcher 'nonsense'" in expfw_here("sweep", "hydra/launcher=nonsense", "seed=1,2").err


def test_an_option_of_a_launcher_that_does_not_exist_is_named(expfw_here):
    done = expfw_here("sweep", "hydra/launcher=basic", "hydra.launcher.mem=1", "seed=1,2")
    assert (done.code, "no option 'hydra.launcher.mem'" in done.err) == (2, True)


@pytest.fixture
def ordered(workdir, monkeypatch) -> Request:
    """A request of the first trial of a sweep that has only a ledger."""
    monkeypatch.setenv("SECRET", "s3cret")
    config = compose(["dataset=line", "model=ols", "+tags.key=${oc.env:SECRET}", "tracker=[]"])
    folder = workdir / "sweep"
    folder.mkdir()
    Ledger(folder).write(Trial(0, "f" * 16, ["seed=1"], ["seed=1"]))
    made = prepare_run(config, overrides=("seed=1",), sweep_folder=folder, trial=0, swept={"seed": 1}).request
    return dataclasses.replace(made, files=("mine.py",))


def test_an_order_is_the_request_it_was_made_of_and_only_its_owner_reads_it(ordered):
    placed = JobFiles(ordered.sweep_folder)
    going_on = ResumePoint(Path("/x"), accept_differences=True, differences=[], end_steps=[])
    for made in (ordered, dataclasses.replace(ordered, resume_point=going_on)):
        placed.write_request(0, made)
        order = job_files.read_job_request(placed.get_path(0))
        assert order.request == made
        assert order.request.config.tags == {"key": "s3cret"}
        assert order.working_directory == Path.cwd()
        assert stat.S_IMODE(placed.get_path(0).stat().st_mode) == 0o600


def run_job(placed, number, monkeypatch):
    """What a launcher makes of our task function."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create({"job": {"num": number}}))
    return JobTask(placed)({})


def test_a_job_whose_order_was_withdrawn_does_nothing_and_one_without_the_folder_says_so(ordered, monkeypatch):
    monkeypatch.setattr(job, "_run_job", lambda order: pytest.fail("it did something"))
    placed = JobFiles(ordered.sweep_folder)
    assert "all machines share" in run_job(placed, 0, monkeypatch)
    placed.write_request(0, ordered)
    placed.withdraw_requests()
    assert run_job(placed, 0, monkeypatch) is None


def test_a_job_tells_why_the_process_cannot_be_started(ordered, monkeypatch, tmp_path):
    placed = JobFiles(ordered.sweep_folder)
    placed.write_request(0, ordered)
    values = json.loads(placed.get_path(0).read_text())
    placed.get_path(0).write_text(json.dumps({**values, "directory": "/nowhere"}))
    assert run_job(placed, 0, monkeypatch) is None
    assert "/nowhere" in placed.read_end(0).exit_description
    assert Ledger(ordered.sweep_folder).read_trial(0).status == "RUNNING"


@pytest.mark.parametrize(
    "raised", [SystemExit(144), subprocess.CalledProcessError(-signal.SIGTERM, "scontrol requeue")]
)
def test_a_job_that_will_be_started_again_marks_no_end(ordered, monkeypatch, raised):
    def end(order, received):
        os.kill(os.getpid(), signal.SIGTERM)
        raise raised

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(job, "_wait_for_end", end)
    placed = JobFiles(ordered.sweep_folder)
    placed.write_request(0, ordered)
    with pytest.raises(SystemExit):
        run_job(placed, 0, monkeypatch)
    assert ENDED_SUFFIX not in {Path(name).suffix for name in placed.list_marks()}
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_job_that_its_scheduler_ends_says_why(ordered, monkeypatch):
    monkeypatch.setattr(job, "_wait_for_end", lambda order, received: (_ for _ in ()).throw(RuntimeError("timed out")))
    placed = JobFiles(ordered.sweep_folder)
    placed.write_request(0, ordered)
    assert run_job(placed, 0, monkeypatch) is None
    assert placed.read_end(0) == JobEnd(reason="its job was ended (RuntimeError: timed out)")


@dataclass
class Launched:
    """Stands for the launcher's process: what happens, one thing at each look, until it ends with a code."""

    happens: list
    code: int
    orders: JobFiles | None = None
    pid: int = 0

    def poll(self):
        if self.happens:
            self.happens.pop(0)(self.orders)
            return None
        return self.code

    def wait(self, timeout=None):
        return self.code

    def send_signal(self, number):
        pass


@dataclass
class Told:
    """What a batch tells the sweep."""

    requests: list
    again: list = field(default_factory=list)
    begun: list = field(default_factory=list)
    ends: list = field(default_factory=list)

    def next_request(self):
        return self.requests.pop(0) if self.requests else None

    def mark_trial_started(self, request):
        self.begun.append(request.trial)

    def mark_trial_ended(self, request, reason):
        self.ends.append((request.trial, reason))
        if self.again:
            self.requests.append(self.again.pop(0))

    def check_running_trials(self):
        pass

    def run(self, folder):
        ClusterRunner("slow", None, folder).run(self)


def marked(jobs, suffix, content=""):
    """Leaves these marks, as the jobs do."""
    return lambda placed: [placed.get_path(number).with_suffix(suffix).write_text(content) for number in jobs]


@pytest.fixture
def launched(monkeypatch):
    """Makes a sweep's launcher do what a test wants."""
    monkeypatch.setattr(cluster_runner, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(cluster_runner, "_MAX_SILENCE_SECONDS", 0.0)

    def use(happens, code=0, trouble=None):
        def start(launch, log):
            if trouble is not None:
                launch.error_file.write_text(trouble)
            return Launched(list(happens), code, launch.task.job_files)

        monkeypatch.setattr(cluster_runner.launcher_process, "start_launcher", start)

    return use


def several(ordered, count):
    return [dataclasses.replace(ordered, trial=number, id=f"run{number}") for number in range(count)]


ENDED = json.dumps(vars(JobEnd("its process ended with exit code 0 before the run did")))


def test_trials_are_told_as_they_begin_and_end_in_any_order(ordered, launched):
    told = Told(several(ordered, 3))
    launched(
        [
            marked([2], BEGUN_SUFFIX),
            marked([2], ENDED_SUFFIX, ENDED),
            marked([0, 1], BEGUN_SUFFIX),
            marked([0, 1], ENDED_SUFFIX, ENDED),
        ]
    )
    told.run(ordered.sweep_folder)
    assert told.begun == [2, 0, 1]
    assert [trial for trial, _ in told.ends] == [2, 0, 1]
    assert not (ordered.sweep_folder / job_files.FOLDER_NAME).exists()


def test_a_job_that_is_gone_without_a_mark_is_told_with_the_launchers_reason(ordered, launched):
    told = Told(several(ordered, 2))
    launched(
        [marked([0, 1], BEGUN_SUFFIX), marked([1], ENDED_SUFFIX, ENDED)],
        1,
        "NodeFailure: node7 is down",
    )
    told.run(ordered.sweep_folder)
    assert dict(told.ends)[0] == "its job ended before the run did (NodeFailure: node7 is down)"
    assert dict(told.ends)[1] == "its process ended with exit code 0 before the run did"


def test_trials_that_never_began_stay_to_be_made(ordered, launched):
    told = Told(several(ordered, 2))
    launched(
        [marked([0], BEGUN_SUFFIX), marked([0], ENDED_SUFFIX, ENDED)],
        1,
        "CalledProcessError: sbatch",
    )
    with pytest.raises(
        TrainingError, match=r"1 of the trials did not begin, since .* gave up \(CalledProcessError: sbatch\)"
    ):
        told.run(ordered.sweep_folder)
    assert [trial for trial, _ in told.ends] == [0]
    assert not list((ordered.sweep_folder / job_files.FOLDER_NAME).glob("*.json"))  # later jobs do nothing


def test_an_interruption_ends_the_trials_that_run_and_withdraws_the_others(ordered, launched, monkeypatch):
    told = Told(several(ordered, 2))

    def interrupted(placed):
        raise KeyboardInterrupt

    def leaves_when_withdrawn(launched):
        found = withdraw(launched)
        marked([0], ENDED_SUFFIX, json.dumps(vars(JobEnd())))(launched)
        return found

    withdraw = JobFiles.withdraw_requests
    monkeypatch.setattr(JobFiles, "withdraw_requests", leaves_when_withdrawn)
    launched([marked([0], BEGUN_SUFFIX), lambda placed: None, interrupted])
    with pytest.raises(KeyboardInterrupt):
        told.run(ordered.sweep_folder)
    assert told.ends == [(0, None)]


def test_what_is_wanted_again_is_another_batch(ordered, launched):
    told = Told(several(ordered, 1), again=several(ordered, 1))
    launched([marked([0], BEGUN_SUFFIX), marked([0], ENDED_SUFFIX, ENDED)])
    told.run(ordered.sweep_folder)
    assert [trial for trial, _ in told.ends] == [0, 0]
