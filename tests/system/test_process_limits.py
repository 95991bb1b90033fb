"""Limits of a trial, descriptions of how its process ended, and its CPU cores and GPUs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from expfw.errors import ConfigError
from expfw.sweeps.local import slots
from expfw.sweeps.local.slots import Slot
from expfw.system import cpu, process_limits
from expfw.tracking import journal, run_index
from expfw.tracking.ledger import Ledger

FRAGILE = """
import os, time
from dataclasses import dataclass
from pathlib import Path
from expfw_models.ols import Ols

class Fragile(Ols):
    @dataclass
    class Config(Ols.Config):
        how: str = "well"

    def build(self, data):
        if self.config.how == "sleep":
            time.sleep(60)
        if self.config.how == "eat":
            eaten = [bytes([1]) * (1 << 28) for _ in range(12)]
            time.sleep(60)
        if self.config.how == "fail":
            raise RuntimeError("as configured")
        if self.config.how == "die":
            os.kill(os.getpid(), 11)
        if self.config.how == "flaky" and not Path("was").exists():
            Path("was").touch()
            raise RuntimeError("the first time")
        return super().build(data)
"""


@pytest.fixture
def fragile(expfw_here, workdir):
    """Runs a sweep over failures; returns its exit, its index entry and its trials by failure."""
    (workdir / "fragile.py").write_text(FRAGILE)

    def call(ways: str, *arguments: str):
        fixed = ("dataset=line", "model=fragile", f"model.how={ways}", "train.epochs=3", "quiet=true")
        done = expfw_here("-p", "fragile.py", "sweep", *fixed, *arguments)
        (entry,) = run_index.list_sweeps(workdir / "runs")
        return done, entry, {t.values.get("model.how"): t for t in Ledger(entry.folder).read_trials()}

    return call


@pytest.mark.slow
def test_a_trial_that_exceeds_a_limit_fails_without_affecting_the_others(fragile):
    limited = ("sweep.timeout=12", "sweep.memory=2", "tracker=[]")
    done, entry, trials = fragile("well,sleep,eat", *limited)
    assert (done.code, entry.status) == (1, "FAILED")
    assert trials["well"].status == "FINISHED"
    assert trials["sleep"].error == "took longer than sweep.timeout=12 seconds"
    assert trials["eat"].error.endswith("GiB of memory, more than sweep.memory=2")
    for way in ("sleep", "eat"):
        records, _ = journal.read_records(Path(trials[way].folder) / journal.NAME)
        assert records[-1]["kind"] == "run_ended"
        assert (records[-1]["status"], records[-1]["error"]) == ("FAILED", trials[way].error)
        assert trials[way].seconds > 0


@pytest.mark.slow
def test_the_tracker_receives_the_signal_of_a_killed_trial(fragile, workdir):
    import mlflow

    fragile("die", "callback=[]")
    client = mlflow.MlflowClient(f"sqlite:///{workdir}/runs/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("expfw").experiment_id], "tags.`expfw.trial` = '0'")
    assert run.info.status == "FAILED"
    assert run.data.tags["expfw.error"] == "its process ended with signal 11 (SIGSEGV) before the run did"


def test_a_failed_trial_is_retried_as_often_as_configured(fragile):
    done, _, trials = fragile("flaky,fail", "sweep.on_failure=retry(2)", "sweep.slots=1", "tracker=[]")
    assert done.code == 1
    assert (trials["flaky"].status, trials["flaky"].attempt) == ("FINISHED", 2)
    assert (trials["fail"].status, trials["fail"].attempt, trials["fail"].will_retry) == ("FAILED", 3, False)


def test_sweeps_retry_repeats_only_the_failed_trials(fragile, expfw_here, workdir):
    _, entry, before = fragile("well,fail,die", "tracker=[]")
    (workdir / "fragile.py").write_text(FRAGILE.replace('raise RuntimeError("as configured")', "pass"))
    assert "no trials given" in expfw_here("sweeps", "retry", entry.id).err
    assert "trial 0 of sweep" in expfw_here("sweeps", "retry", entry.id, "0").err
    done = expfw_here("sweeps", "retry", entry.id, "1")
    assert done.code == 1  # the third trial is still failed
    after = {t.values["model.how"]: t for t in Ledger(entry.folder).read_trials()}
    assert after["fail"].status == "FINISHED"
    assert (after["well"], after["die"]) == (before["well"], before["die"])
    done = expfw_here("sweeps", "retry", entry.id, "--failed")
    last = {t.values["model.how"]: t for t in Ledger(entry.folder).read_trials()}
    assert last["die"].run_id != before["die"].run_id
    assert (last["well"], last["fail"]) == (after["well"], after["fail"])


def test_seeds_of_a_configuration_are_one_seed_group(fragile, expfw_here):
    done, entry, _ = fragile("well", "tracker=[]", "sweep.seeds=3", "seed=7")
    assert done.code == 0, done.err
    trials = Ledger(entry.folder).read_trials()
    assert [t.values["seed"] for t in trials] == [7, 8, 9]
    assert {t.configuration for t in trials} == {0}
    out = expfw_here("sweeps", "status", entry.id).out
    assert "3 of 3" in out
    assert "±" in out


def test_the_first_of_a_million_trials_starts_without_delay(fragile):
    start = time.monotonic()
    sizes = ("seed=range(1000)", "train.batch_size=range(1,1001)")
    _, entry, _ = fragile("fail", *sizes, "tracker=[]", "sweep.on_failure=stop", "sweep.slots=1")
    assert time.monotonic() - start < 30  # includes the import of TensorFlow and the end of the sweep
    assert entry.first["trials"] == 1_000_000
    (trial,) = Ledger(entry.folder).read_trials()
    first = journal.read_records(Path(trial.folder) / journal.NAME)[0][0]
    assert first["time"] - entry.first["time"] < 15


def test_temporary_files_of_trials_are_removed(fragile, tmp_path_factory, monkeypatch):
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    fragile("well,die", "tracker=[]")
    assert [path.name for path in scratch.iterdir() if "trial" in path.name] == []


@pytest.mark.parametrize(
    ("exit_code", "out_of_memory", "text"),
    [
        (3, False, "its process ended with exit code 3 before the run did"),
        (-11, True, "its process ended with signal 11 (SIGSEGV) before the run did"),
        (-9, False, "its process ended with signal 9 (SIGKILL) before the run did"),
        (-9, True, "its process ended with signal 9 (SIGKILL) before the run did: the system ran out of memory"),
    ],
)
def test_the_exit_of_a_process_is_described(exit_code, out_of_memory, text):
    assert process_limits.describe_exit(exit_code, out_of_memory) == text


def test_kills_for_memory_are_counted_in_the_control_group(monkeypatch, tmp_path):
    monkeypatch.setattr(process_limits, "get_control_group", lambda: tmp_path)
    assert process_limits.count_oom_kills() >= 0  # for the whole machine
    (tmp_path / "memory.events").write_text("low 0\noom 5\noom_kill 4\n")
    assert process_limits.count_oom_kills() == 4


def test_slots_divide_cpu_cores_and_gpus_equally(monkeypatch):
    monkeypatch.setattr(cpu, "get_cores", lambda: [0, 1, 2, 3, 4, 5])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert slots.make_slots(None) == [Slot(frozenset({n})) for n in range(6)]
    assert slots.make_slots(2) == [Slot(frozenset({0, 1, 2})), Slot(frozenset({3, 4, 5}))]
    assert [slot.gpus for slot in slots.make_slots(None, on_gpus=True)] == [("0",), ("1",), ("2",), ("3",)]
    assert [slot.gpus for slot in slots.make_slots(None, gpus=2)] == [("0", "1"), ("2", "3")]
    assert [slot.gpus for slot in slots.make_slots(3, gpus=0, on_gpus=True)] == [None] * 3
    with pytest.raises(ConfigError, match=r"found 4 GPUs .*; expected 6 for 3 slots with 2 GPUs each"):
        slots.make_slots(3, gpus=2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert slots.make_slots(2, on_gpus=True)[0].gpus is None


def test_more_slots_than_cpu_cores_log_a_warning(monkeypatch, caplog):
    monkeypatch.setattr("expfw.system.cpu.get_cores", lambda: [0, 1])
    assert len(slots.make_slots(2)) == 2
    assert caplog.messages == []
    assert len(slots.make_slots(5)) == 5
    assert caplog.messages[0].startswith("sweep.slots=5 is more than the 2 available CPU cores; trials share cores")


def test_a_trial_sees_only_the_gpus_of_its_slot(expfw_here, workdir, monkeypatch):
    (workdir / "seen.py").write_text(
        "import json, os\nfrom pathlib import Path\nfrom expfw_models.ols import Ols\nclass Seen(Ols):\n"
        "    def build(self, data):\n"
        "        Path(f'seen-{os.getpid()}.json').write_text(json.dumps(os.environ['CUDA_VISIBLE_DEVICES']))\n"
        "        return super().build(data)\n"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    arguments = ("dataset=line", "model=seen", "seed=1,2", "train.epochs=1", "tracker=[]", "quiet=true")
    assert expfw_here("-p", "seen.py", "sweep", *arguments, "sweep.gpus=1", "callback=[]").code == 0
    assert {json.loads(path.read_text()) for path in workdir.glob("seen-*.json")} <= {"5", "6"}
    assert len(list(workdir.glob("seen-*.json"))) == 2


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("sweep.on_failure=retry", "expected continue, stop or retry(n)"),
        ("sweep.timeout=0", "timeout is 0.0; expected more than 0"),
        ("sweep.memory=-1", "memory is -1.0; expected more than 0"),
        ("sweep.gpus=99", "expected 99 for 1 slot with 99 GPUs each"),
        ("sweep.seeds=0", "seeds is 0; expected 1 or more"),
    ],
)
def test_an_invalid_sweep_option_is_rejected_before_any_file_is_written(expfw_here, workdir, override, text):
    done = expfw_here("sweep", "dataset=line", "model=ols", "seed=1,2", override)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert text in done.err
    assert list(workdir.iterdir()) == []
