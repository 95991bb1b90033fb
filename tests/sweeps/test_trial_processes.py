"""Limits of a trial, descriptions of how its process ended, and its CPU cores and GPUs."""

from __future__ import annotations

import time
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalStorage

from expfw.config.compose import Composition
from expfw.errors import ConfigError
from expfw.sweeps.local import slots
from expfw.sweeps.local.slots import Slot
from expfw.sweeps.request import SweepRequest
from expfw.sweeps.scheduler import TrialScheduler
from expfw.system import cpu, process_exit
from expfw.system.temporary_folders import get_process_folder
from expfw.tracking import journal


@pytest.fixture
def fragile(sweep_here, fragile_file):
    """Runs a sweep over failures."""

    def call(ways: str, *arguments: str, seed: str = "seed=1", quiet: str = "quiet=true"):
        fixed = ("model=fragile", f"model.how={ways}", "train.epochs=3", seed, quiet)
        return sweep_here(*fixed, *arguments, files=("fragile.py",))

    return call


def list_by_way(sweep):
    return {trial.values.get("model.how"): trial for trial in sweep.trials}


def test_a_failed_trial_does_not_affect_the_others(fragile, workdir):
    sweep = fragile("well,fail,exit,die", quiet="quiet=false")
    assert list(get_process_folder().glob("trial-*")) == []
    entry, trials = sweep.entry, list_by_way(sweep)
    assert (sweep.code, entry.status) == (1, "FAILED")
    statuses = {"well": "FINISHED", "fail": "FAILED", "exit": "FAILED", "die": "FAILED"}
    assert {way: trial.status for way, trial in trials.items()} == statuses
    for way, error in {"fail": "RuntimeError: as configured", "exit": "SystemExit: 3", "die": "signal 11"}.items():
        assert error in trials[way].error
    assert "as configured" in sweep.out
    assert f"report: {entry.folder.relative_to(workdir)}/report.html" in sweep.out
    assert "RuntimeError: as configured" in (entry.folder / "report.html").read_text(encoding="utf-8")
    records, _ = journal.read_records(Path(trials["fail"].folder) / journal.NAME)
    assert any("Traceback" in record.get("traceback", "") for record in records)


def test_the_text_of_an_error_is_limited(fragile):
    sweep = fragile("long", "callback=[]")
    (trial,) = sweep.trials
    assert trial.error.startswith("the value is x x")
    assert trial.error.endswith("; choose another")
    assert len(trial.error) <= 1000
    assert len(sweep.out + sweep.err) < 5000


@pytest.mark.slow
def test_a_trial_that_exceeds_a_limit_fails_without_affecting_the_others(fragile):
    sweep = fragile("well,sleep,eat", "sweep.timeout=12", "sweep.memory=2")
    trials = list_by_way(sweep)
    assert (sweep.code, sweep.entry.status) == (1, "FAILED")
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

    fragile("die", "tracker=mlflow", "callback=[]")
    client = mlflow.MlflowClient(f"sqlite:///{workdir}/runs/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("expfw").experiment_id], "tags.`expfw.trial` = '0'")
    assert run.info.status == "FAILED"
    assert run.data.tags["expfw.error"] == "its process ended early with signal 11 (SIGSEGV)"


@pytest.mark.slow
def test_a_failed_trial_is_retried_as_often_as_configured(fragile):
    sweep = fragile("flaky,fail", "sweep.on_failure=retry(2)", "sweep.slots=1")
    trials = list_by_way(sweep)
    assert sweep.code == 1
    assert (trials["flaky"].status, trials["flaky"].attempt) == ("FINISHED", 2)
    assert (trials["fail"].status, trials["fail"].attempt, trials["fail"].will_retry) == ("FAILED", 3, False)


@pytest.mark.slow
def test_sweeps_retry_repeats_only_the_failed_trials(fragile, fragile_file, expfw_here):
    sweep = fragile("well,fail,die")
    retry, before = ("-p", str(fragile_file), "sweeps", "retry", sweep.entry.id), list_by_way(sweep)
    fragile_file.write_text(fragile_file.read_text().replace('raise RuntimeError("as configured")', "pass"))
    assert "no trials given" in expfw_here(*retry).err
    assert "trial 0 of sweep" in expfw_here(*retry, "0").err
    assert expfw_here(*retry, "1").code == 1  # the third trial is still failed
    after = list_by_way(sweep)
    assert after["fail"].status == "FINISHED"
    assert (after["well"], after["die"]) == (before["well"], before["die"])
    expfw_here(*retry, "--failed")
    last = list_by_way(sweep)
    assert last["die"].run_id != before["die"].run_id
    assert (last["well"], last["fail"]) == (after["well"], after["fail"])


def test_a_search_uses_the_result_of_a_duplicate_trial_without_training_again(fragile):
    sweep = fragile("well,fail", "sweep.sampler=random", "sweep.trials=7", "sweep.slots=1", "callback=[]")
    trials = {way: [t for t in sweep.trials if t.values["model.how"] == way] for way in ("well", "fail")}
    first, *duplicates = trials["well"]
    assert duplicates
    for trial in duplicates:
        assert (trial.status, trial.objective, trial.run_id, trial.folder) == ("FINISHED", first.objective, None, None)
        assert trial.warnings[0].startswith(f"same values as trial {first.number}; the result of that trial is used")
    assert len({trial.run_id for trial in trials["fail"]}) == len(trials["fail"]) > 1  # a failed trial runs again
    storage = JournalStorage(JournalFileBackend(str(sweep.entry.folder / "study.log")))
    values = {"well": first.objective, "fail": None}
    study_values = [trial.value for trial in optuna.load_study(study_name="expfw", storage=storage).trials]
    assert study_values == [values[trial.values["model.how"]] for trial in sweep.trials]


def test_a_search_trains_a_duplicate_trial_if_the_first_one_has_not_ended(workdir):
    overrides = ["dataset=line", "model=ols", "train.epochs=1,2", "sweep.sampler=random", "sweep.trials=3"]
    with Composition(overrides).open_sweep() as composition, journal.Journal(workdir / journal.NAME) as sweep_journal:
        request = SweepRequest(composition)
        config, source = request.prepare_first_run().config, request.make_source(workdir)
        scheduler = TrialScheduler("y9z7y9z7", workdir, config, source, request, sweep_journal, None)
        requests = [scheduler.next_request() for _ in range(3)]  # two values, so one of them is a duplicate
    assert [request.trial for request in requests] == [0, 1, 2]
    assert len({request.fingerprint for request in requests}) < 3


def test_a_grid_trains_duplicate_trials(sweep_here):
    first, second = sweep_here("seed=1,1", "callback=[]", "quiet=true").trials
    assert (first.status, first.objective, first.warnings) == (second.status, second.objective, second.warnings)
    assert first.run_id != second.run_id


def test_seeds_of_a_configuration_are_one_seed_group(fragile, expfw_here):
    sweep = fragile("well", "sweep.seeds=3", seed="seed=7")
    assert sweep.code == 0, sweep.err
    assert [t.values["seed"] for t in sweep.trials] == [7, 8, 9]
    assert {t.configuration for t in sweep.trials} == {0}
    out = expfw_here("sweeps", "status", sweep.entry.id).out
    assert "3 of 3" in out
    assert "±" in out


def test_the_first_of_a_million_trials_starts_without_delay_and_a_failure_stops_the_sweep(sweep_here, fragile_file):
    start = time.monotonic()
    swept = ("seed=range(1000)", "train.batch_size=range(1,501)", "model.how=well,fail")
    fixed = ("model=fragile", "sweep.on_failure=stop", "sweep.slots=1", "quiet=true")
    sweep = sweep_here(*fixed, *swept, files=("fragile.py",))
    assert time.monotonic() - start < 30  # includes the import of TensorFlow and the end of the sweep
    assert (sweep.code, sweep.entry.first["trials"]) == (1, 1_000_000)
    assert [trial.status for trial in sweep.trials] == ["FINISHED", "FAILED"]
    first = journal.read_records(Path(sweep.trials[0].folder) / journal.NAME)[0][0]
    assert first["time"] - sweep.entry.first["time"] < 15


@pytest.mark.parametrize(
    ("exit_code", "memory_kills", "text"),
    [
        (3, None, "its process ended early with exit code 3"),
        (None, None, "its process ended early, and its exit code is unknown"),
        (-11, 4, "its process ended early with signal 11 (SIGSEGV)"),
        (-9, None, "its process ended early with signal 9 (SIGKILL)"),
        (-9, 5, "its process ended early with signal 9 (SIGKILL)"),
        (-9, 4, "its process ended early with signal 9 (SIGKILL): the system ran out of memory"),
    ],
)
def test_the_exit_of_a_process_is_described(monkeypatch, exit_code, memory_kills, text):
    monkeypatch.setattr(process_exit, "count_oom_kills", lambda: 5)
    assert process_exit.describe_exit(exit_code, memory_kills) == text


def test_kills_for_memory_are_counted_in_the_control_group(monkeypatch, tmp_path):
    monkeypatch.setattr(process_exit, "get_control_group", lambda: tmp_path)
    assert process_exit.count_oom_kills() >= 0  # for the whole machine
    (tmp_path / "memory.events").write_text("low 0\noom 5\noom_kill 4\n")
    assert process_exit.count_oom_kills() == 4


def test_slots_divide_cpu_cores_and_gpus_equally(monkeypatch, caplog):
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
    assert caplog.messages == []
    assert len(slots.make_slots(8)) == 8
    assert caplog.messages[0].startswith("sweep.slots=8 is more than the 6 available CPU cores; trials share cores")


def test_a_trial_sees_only_the_gpus_of_its_slot(fragile, workdir, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    assert fragile("gpus", "sweep.gpus=1", "callback=[]", seed="seed=1,2").code == 0
    seen = [path.read_text() for path in workdir.glob("gpus-*")]
    assert len(seen) == 2
    assert set(seen) <= {"5", "6"}


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
def test_an_invalid_sweep_option_is_rejected_before_any_file_is_written(sweep_here, workdir, override, text):
    done = sweep_here(override)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert text in done.err
    assert list(workdir.iterdir()) == []
