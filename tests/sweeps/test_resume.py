"""`expfw sweeps resume` keeps finished trials, resumes interrupted trials and starts failed trials again."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import kill_sweeps
from support.processes import start_expfw, wait_for

from expfw.reports import sweep_summary
from expfw.runs import exact_comparison
from expfw.tracking import journal, run_index, run_record
from expfw.tracking.ledger import Ledger
from expfw.tracking.recorded_run import read_run


@pytest.fixture(scope="module", params=[kill_sweeps.GRID, kill_sweeps.SEARCH], ids=["grid", "search"])
def reference(request, tmp_path_factory):
    """Runs an uninterrupted sweep; returns its entry and its overrides."""
    entry, _ = kill_sweeps.run_uninterrupted(tmp_path_factory.mktemp("whole"), *request.param)
    return entry, request.param


@pytest.mark.slow
def test_a_sweep_killed_with_all_its_processes_resumes_to_the_same_table(workdir, reference):
    whole, overrides = reference
    process = start_expfw(workdir, "sweep", *overrides)
    wait_for(lambda: list(workdir.glob("runs/*/*/trials/001-*/checkpoints/0*")))
    kill_sweeps.kill_process_tree(process)
    (entry,) = run_index.list_sweeps(workdir / "runs")
    before = Ledger(entry.folder).read_trials()
    assert before[0].status == "FINISHED"
    assert read_run(Path(before[-1].folder)).status == "INTERRUPTED"
    cut = before[-1].number  # on a busy machine the next trial may already have begun

    entry = kill_sweeps.resume_sweep(workdir)
    assert entry.status == "FINISHED"
    assert kill_sweeps.read_final_table(entry) == kill_sweeps.read_final_table(whole)
    trials = Ledger(entry.folder).read_trials()
    assert trials[0] == before[0]  # not started again
    assert trials[cut].folder == before[cut].folder
    for trial, uninterrupted in zip(trials, Ledger(whole.folder).read_trials(), strict=True):
        assert exact_comparison.compare_runs(Path(uninterrupted.folder), Path(trial.folder)).differences == ()
    kinds = [record["kind"] for record in journal.read_records(Path(trials[cut].folder) / journal.NAME)[0]]
    assert kinds.count("run_resumed") == 1
    names, parents = kill_sweeps.read_mlflow_trials(workdir)
    assert names == sorted((trial.name, "FINISHED") for trial in trials)
    assert len(parents) == 1


@pytest.mark.slow
def test_trials_stop_by_themselves_when_the_main_process_is_killed(workdir, expfw_here):
    with tempfile.TemporaryDirectory(prefix="k-") as temporary:
        process = start_expfw(workdir, "sweep", *kill_sweeps.GRID, "tracker=[]", TMPDIR=temporary)
        wait_for(lambda: list(workdir.glob("runs/*/*/trials/000-*/checkpoints/0*")))
        process.kill()
        process.wait()
        trial = next(workdir.glob("runs/*/*/trials/000-*"))
        wait_for(lambda: read_run(trial).status == "KILLED", seconds=20)
        wait_for(lambda: not os.listdir(temporary))  # the temporary files of all its processes
    entry = kill_sweeps.resume_sweep(workdir)
    assert "for other trials, start a new sweep" in expfw_here("sweeps", "resume", entry.id).err


@pytest.mark.slow
def test_two_sweeps_can_start_at_the_same_time(workdir, expfw_process):
    arguments = ("sweep", "dataset=line", "model=ols", "seed=1,2", "train.epochs=1", "tracker=[]", "callback=[]")
    with ThreadPoolExecutor(2) as both:
        done = list(both.map(lambda _: expfw_process(*arguments), range(2)))
    assert [process.code for process in done] == [0, 0]
    entries = run_index.list_sweeps(workdir / "runs")
    assert [entry.status for entry in entries] == ["FINISHED", "FINISHED"]
    assert [len(Ledger(entry.folder).read_trials()) for entry in entries] == [2, 2]


def test_failed_trials_start_again_and_changed_trials_are_rejected(sweep_here, expfw_here, workdir, fragile_file):
    sweep = sweep_here("model=fragile", "model.how=well,flaky", "seed=1", files=("fragile.py",))
    entry, before = sweep.entry, sweep.trials
    assert sweep.code == 1
    assert [t.status for t in before] == ["FINISHED", "FAILED"]

    Ledger(entry.folder).write(replace(before[0], fingerprint="0" * 16))
    done = expfw_here("sweeps", "resume", entry.id, "--trust")
    assert done.code == 2
    assert "trial 0 (how=well) has changed since it was recorded" in done.err.splitlines()[-1]
    Ledger(entry.folder).write(before[0])

    fragile_file.rename(workdir / "elsewhere.py")
    done = expfw_here("sweeps", "resume", entry.id)
    assert done.code == 2
    assert f"sweep {entry.id} needs the plugin file {fragile_file}, which is missing; restore it" in done.err
    (workdir / "elsewhere.py").rename(fragile_file)

    done = expfw_here("sweeps", "resume", entry.id, "--trust")
    assert done.code == 0, done.err
    after = sweep.trials
    assert [t.status for t in after] == ["FINISHED", "FINISHED"]
    assert (after[0], after[1].run_id != before[1].run_id) == (before[0], True)
    assert [trial.overrides for trial in after] == [trial.overrides for trial in before]
    records = journal.read_records(entry.folder / journal.NAME)[0]
    assert "runs_dir" not in str([record.get("overrides") for record in records])
    elsewhere = replace(after[1], overrides=["runs_dir=/elsewhere"])
    assert "runs_dir=/elsewhere" in str(sweep_summary.make_best_command([elsewhere], "min", ()))
    assert json.loads(expfw_here("sweeps", "status", entry.id, "--json").out)["status"] == "FINISHED"


@pytest.mark.slow
def test_a_sweep_with_changed_plugin_code_is_rejected_or_accepted(sweep_here, expfw_process, fragile_file):
    """Also after the fix of a plugin that let a trial fail."""
    sweep = sweep_here("model=fragile", "model.how=well,fail", "seed=1", files=("fragile.py",))
    before = sweep.trials
    fragile_file.write_text(fragile_file.read_text().replace('raise RuntimeError("as configured")', "pass"))
    for command in (("resume",), ("retry", "--failed")):
        done = expfw_process("-p", "fragile.py", "sweeps", command[0], sweep.entry.id, *command[1:])
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "trial 0 (how=well) has changed since it was recorded: the code of fragile.py has changed" in done.err
        assert "keep the finished trials with --accept-differences" in done.err
    done = expfw_process("-p", "fragile.py", "sweeps", "retry", sweep.entry.id, "--failed", "--accept-differences")
    assert done.code == 0, done.err
    assert [trial.status for trial in sweep.trials] == ["FINISHED", "FINISHED"]
    assert sweep.trials[0] == before[0]


@pytest.mark.slow
def test_a_trial_that_was_resumed_alone_is_kept_and_one_that_had_not_begun_starts(sweep_here, expfw_here):
    """`runs list` shows how to resume a run; a user may resume the trial first and then the sweep."""
    sweep = sweep_here("seed=1,2,3", "quiet=true")
    trials = sweep.trials
    killed_trial = replace(trials[1], status="KILLED", objective=None)  # its state before the resume
    started_trial = replace(trials[2], status="RUNNING", objective=None, metrics=None, seconds=None)
    (Path(trials[2].folder) / journal.NAME).write_text("")  # its process had not written more
    sweep.pretend_interruption(killed_trial, started_trial)
    done = expfw_here("sweeps", "resume", sweep.entry.id)
    assert done.code == 0, done.err
    after = sweep.trials
    assert after[:2] == trials[:2]
    assert (after[2].status, after[2].metrics) == ("FINISHED", trials[2].metrics)
    records, _ = journal.read_records(sweep.entry.folder / journal.NAME)
    assert [record["text"].count("FINISHED") for record in records if record["kind"] == "note"][-1] == 3


@pytest.mark.parametrize("damage", ["first line", "line", "last line", "no folder"])
def test_a_damaged_trial_starts_again_as_a_new_run(sweep_here, expfw_here, caplog, damage):
    sweep = sweep_here("seed=1,2,3", "quiet=true")
    trials = sweep.trials
    path = Path(trials[1].folder) / journal.NAME
    lines = path.read_bytes().splitlines(keepends=True)[:-1]
    if damage == "no folder":
        shutil.rmtree(path.parent)
    else:
        lines[{"first line": 0, "line": 1, "last line": -1}[damage]] = b'{"kind": \n'
        path.write_bytes(b"".join(lines))
    sweep.pretend_interruption(replace(trials[1], status="KILLED", objective=None))
    done = expfw_here("sweeps", "resume", sweep.entry.id)
    assert done.code == 0, done.err
    assert f"{trials[1].title} starts again, as a new run: " in caplog.text
    after = sweep.trials
    assert [after[0], after[2]] == [trials[0], trials[2]]
    assert (after[1].status, after[1].metrics) == ("FINISHED", trials[1].metrics)
    assert after[1].run_id != trials[1].run_id
    assert damage == "no folder" or path.read_bytes() == b"".join(lines)


def test_interrupted_trials_have_not_ended(sweep_here, expfw_here):
    sweep = sweep_here("seed=1,2,3,4", "quiet=true")
    trials = sweep.trials
    journal_path = Path(trials[2].folder) / journal.NAME
    journal_path.write_bytes(b"".join(journal_path.read_bytes().splitlines(keepends=True)[:-1]))
    changes = {1: {"status": "KILLED"}, 2: {"status": "RUNNING"}, 3: {"status": "FAILED", "will_retry": True}}
    sweep.pretend_interruption(*(replace(trials[number], **fields) for number, fields in changes.items()))
    out = expfw_here("sweeps", "status", sweep.entry.id).out
    assert "1 of 4 trials ended, 2 interrupted" in out
    assert json.loads(expfw_here("sweeps", "list", "--json").out)[0]["ended"] == 1


def test_a_run_interrupted_before_its_start_leaves_no_files(train, workdir, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_record, "describe_environment", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train("dataset=line", "model=ols")
    assert not list(workdir.glob("runs/*/*"))


def test_the_error_shows_only_the_changes_since_the_start(sweep_here, expfw_here, workdir):
    """Changes of the data and of a configuration file, also if no trial has ended yet."""

    def write_data():
        np.savez(workdir / "d.npz", x_train=np.arange(40.0).reshape(40, 1) / 40, y_train=np.arange(40.0) / 40)

    write_data()
    (workdir / "conf" / "experiment").mkdir(parents=True)
    recipe = workdir / "conf" / "experiment" / "mine.yaml"
    recipe.write_text("# @package _global_\ntrain: {batch_size: 4}\n")
    sweep = sweep_here("dataset=npz", "dataset.path=d.npz", "experiment=mine", "callback=[]", "quiet=true")
    entry = sweep.entry
    sweep.pretend_interruption()
    os.utime(workdir / "d.npz", (1, 1))
    done = expfw_here("sweeps", "resume", entry.id)
    assert done.code == 2
    assert "the data has changed since the run started: " in done.err
    assert "name is" not in done.err
    assert "runs_dir" not in done.err
    (workdir / "d.npz").unlink()
    done = expfw_here("sweeps", "resume", entry.id)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"dataset.path=d.npz: no file {workdir}/d.npz; expected a .npz file" in done.err
    assert f"(sweep {entry.id} needs the data that it started with; restore the data)" in done.err
    write_data()
    for path in (entry.folder / "ledger").iterdir():
        path.unlink()
    recipe.write_text("# @package _global_\ntrain: {batch_size: 2}\n")
    done = expfw_here("sweeps", "resume", entry.id)
    assert done.code == 2
    assert f"sweep {entry.id} has changed since it was recorded: train.batch_size is 2, was 4" in done.err
