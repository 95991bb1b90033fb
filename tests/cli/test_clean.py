"""`expfw runs clean`: selected runs, kept runs, and interrupted deletions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from support.run_folders import DAY_SECONDS, make_trial_id, write_run, write_sweep

from expfw.cli.runs.clean import removal
from expfw.cli.runs.clean.selection import Selection
from expfw.redaction import HIDDEN
from expfw.system import process_lock
from expfw.tracking import run_index
from expfw.tracking.ledger import Ledger

SWEEP = "ssss2222"
TRIALS = [make_trial_id(SWEEP, number) for number in range(4)]


@pytest.fixture
def runs(workdir):
    """Four single runs of different ages and statuses, and a sweep of four trials."""
    runs_dir = workdir / "runs"
    write_run(runs_dir, "aaaa2222", 0.5)
    write_run(runs_dir, "bbbb2222", 0.3, age=40 * DAY_SECONDS)
    write_run(runs_dir, "cccc2222", None, "FAILED", age=10 * DAY_SECONDS)
    write_run(runs_dir, "dddd2222", 0.7, age=40 * DAY_SECONDS)
    write_sweep(
        runs_dir, SWEEP, [0.4, 0.1, None, 0.2], ["FINISHED", "FINISHED", "FAILED", "FINISHED"], age=20 * DAY_SECONDS
    )
    return runs_dir


@pytest.fixture
def clean(call):
    return lambda *arguments: call("runs", "clean", *arguments)


def select_ids(runs, *ids, **rules):
    return sorted(removal.recorded.id for removal in Selection(runs, ids, **rules).removals)


def list_ids(runs):
    return sorted(entry.id for entry in run_index.list_all(runs))


def read_trials(runs):
    return Ledger(run_index.list_sweeps(runs)[0].folder).read_trials()


@pytest.mark.parametrize(
    ("ids", "rules", "expected"),
    [
        (["aaaa"], {}, ["aaaa2222"]),
        ([SWEEP], {}, [SWEEP]),  # includes its trials
        ([TRIALS[1]], {}, [TRIALS[1]]),
        (TRIALS, {}, [SWEEP]),  # the sweep would be empty
        ([], {"minimum_age": 30 * DAY_SECONDS}, ["bbbb2222", "dddd2222"]),
        ([], {"minimum_age": 14 * DAY_SECONDS}, ["bbbb2222", "dddd2222", SWEEP]),
        ([], {"minimum_age": 42 * DAY_SECONDS}, []),
        ([], {"statuses": ["failed"]}, ["cccc2222", TRIALS[2]]),
        ([], {"statuses": ["failed"], "minimum_age": 15 * DAY_SECONDS}, [TRIALS[2]]),
        ([SWEEP], {"statuses": ["failed"]}, [TRIALS[2]]),
        ([], {"keep_best": 1}, ["aaaa2222", "cccc2222", "dddd2222", TRIALS[0], TRIALS[2], TRIALS[3]]),
        ([], {"keep_best": 3}, ["cccc2222", TRIALS[2]]),
        ([], {"keep_best": 1, "minimum_age": 30 * DAY_SECONDS}, ["dddd2222"]),
        ([SWEEP], {"keep_best": 2}, [TRIALS[0], TRIALS[2]]),
    ],
)
def test_a_run_must_match_all_given_rules(runs, ids, rules, expected):
    assert select_ids(runs, *ids, **rules) == sorted(expected)


def test_runs_with_other_data_or_another_objective_are_not_comparable(workdir):
    write_run(workdir / "runs", "aaaa2222", 0.5)
    write_run(workdir / "runs", "bbbb2222", 0.3, **{"dataset.plugin": "mnist"})
    write_run(workdir / "runs", "cccc2222", 0.4, **{"objective.mode": "max"})
    assert select_ids(workdir / "runs", keep_best=1) == []


def test_a_dry_run_lists_everything_and_deletes_nothing(runs, clean):
    before = list_ids(runs)
    done = clean("--keep-best", "1", "--older-than", "15d")
    assert done.code == 0
    assert "3 trials of sweep ssss2222" in done.out
    assert "dddd2222" in done.out
    assert "remaining: 4 runs, 1 sweep, " in done.out
    assert "Nothing is deleted yet; to delete, add --yes\n" in done.out
    plan = json.loads(clean("--status", "failed", "--json").out)
    assert plan["deleted"] is False
    assert {(target["id"], target["kind"], target["sweep"]) for target in plan["delete"]} == {
        ("cccc2222", "run", None),
        (TRIALS[2], "trial", SWEEP),
    }
    assert plan["bytes"] == sum(target["bytes"] for target in plan["delete"]) > 10000
    assert "aaaa2222" in plan["keep"]
    assert all(Path(target["path"]).exists() for target in plan["delete"])
    assert list_ids(runs) == before


def test_yes_frees_the_disk_and_keeps_the_results_in_the_sweep(runs, clean, call):
    before = [(trial.number, trial.status, trial.objective, trial.metrics) for trial in read_trials(runs)]
    assert clean("--keep-best", "1", "--yes").out.startswith("deleted 6 runs; ")
    assert list_ids(runs) == sorted(["bbbb2222", SWEEP, TRIALS[1]])
    trials = read_trials(runs)
    assert [(trial.number, trial.status, trial.objective, trial.metrics) for trial in trials] == before
    assert [trial.folder is None for trial in trials] == [True, False, True, True]
    assert [path.name for path in runs.glob("*/*/trials/*")] == [f"001-{TRIALS[1]}"]
    assert TRIALS[0] in call("sweeps", "status", SWEEP).out
    assert call("sweeps", "report", SWEEP).code == 0
    assert clean(SWEEP, "bbbb", "--yes").code == 0
    assert list_ids(runs) == []
    assert not any(path.name.startswith("2026") for path in runs.iterdir())  # the folder of the day is deleted, too


def test_a_deleted_unfinished_trial_waits_to_be_run_again(workdir, clean):
    write_sweep(workdir / "runs", SWEEP, [0.4, None], ["FINISHED", "KILLED"], status="KILLED")
    assert clean(TRIALS[1], "--yes").code == 0
    trials = read_trials(workdir / "runs")
    assert [(trial.status, trial.run_id) for trial in trials] == [("FINISHED", TRIALS[0]), ("WAITING", None)]


def test_only_checkpoints_are_deleted(runs, clean):
    write_run(runs, "eeee2222", 0.2, status=None)  # interrupted: resuming needs them
    assert clean("--checkpoints-only", "--yes").out.startswith("deleted the checkpoints of 6 runs; ")
    left = {path.parent.name[-8:] for path in runs.glob("**/checkpoints")}
    assert left == {"eeee2222", "cccc2222", TRIALS[2]}
    assert len(list_ids(runs)) == 10
    assert len(list(runs.glob("**/model"))) == 9


def test_runs_in_progress_are_not_deleted(runs, clean):
    running = write_run(runs, "eeee2222", 0.2, status=None)
    (entry,) = run_index.list_sweeps(runs)
    lines = (entry.folder / "journal.jsonl").read_text().splitlines()
    (entry.folder / "journal.jsonl").write_text(lines[0] + "\n")  # the sweep has not ended
    with process_lock.lock_folder(running), process_lock.lock_folder(entry.folder):
        output = clean("eeee", SWEEP, "--yes").out
    assert "not deleted: eeee2222: it is running" in output
    assert f"{TRIALS[0]}: its sweep {SWEEP} is running" in output
    assert {"eeee2222", SWEEP, *TRIALS} <= set(list_ids(runs))


def test_the_origin_of_a_remaining_run_is_not_deleted(runs, clean):
    origin = next(runs.glob("*/*-aaaa2222"))
    child = write_run(runs, "eeee2222", 0.2, begin_from=f"{origin.relative_to(runs.parent)}/checkpoints/000000003")
    write_run(runs, "ffff2222", 0.2, **{"callback.transfer.model": str(child)})
    output = clean("aaaa", "eeee", "--yes").out
    assert "not deleted: eeee2222: ffff2222 started from it" in output
    assert "not deleted: aaaa2222: eeee2222 started from it" in output
    assert select_ids(runs, "aaaa", checkpoints_only=True) == []
    assert select_ids(runs, "aaaa", "eeee", "ffff") == ["aaaa2222", "eeee2222", "ffff2222"]


def test_nothing_outside_the_runs_folder_is_deleted(runs, tmp_path, clean):
    elsewhere = write_run(tmp_path / "elsewhere", "eeee2222", 0.9)
    (runs / "2026-01-01" / "00-00-00-eeee2222").symlink_to(elsewhere)
    inner = next(runs.glob("*/*-aaaa2222"))
    (inner / "model" / "data").symlink_to(elsewhere)
    output = clean("eeee", "aaaa", "--yes").out
    assert "not deleted: eeee2222: its path contains a symbolic link; delete it by hand" in output
    assert (elsewhere / "journal.jsonl").exists()
    assert not inner.exists()


def test_a_run_in_delivery_is_not_deleted(runs, clean):
    folder = next(runs.glob("*/*-aaaa2222"))
    (folder / "tracking").mkdir()
    (folder / "tracking" / "mlflow.json").write_text("{}")
    with FileLock(folder / "tracking" / "mlflow.lock"):
        done = clean("aaaa", "bbbb", "--no-tracker", "--yes")
    assert done.code == 1
    assert f"expfw: aaaa2222: {folder} is being delivered to a tracker; try again after the delivery" in done.err
    assert {"aaaa2222", "bbbb2222"} & {*list_ids(runs)} == {"aaaa2222"}
    assert clean("aaaa", "--no-tracker", "--yes").code == 0


@pytest.mark.slow
def test_a_kill_leaves_no_partly_deleted_run(runs, clean):
    """Kills the command at several moments: listed runs are complete, and the next command finishes the deletion."""
    for number in range(40):
        write_run(runs, f"gggg22{number:02d}", 0.9)
    command = [sys.executable, "-m", "expfw", "runs", "clean", "--keep-best", "1", "--yes"]
    most = killed = 0
    for marked in (1, 8, 20, 0):  # 0: after the removal has started
        started = subprocess.Popen(command, cwd=runs.parent, stdout=subprocess.DEVNULL)
        while started.poll() is None:
            now = len(removal.find_unfinished(runs))
            most = max(most, now)
            if now >= marked > 0 or (marked == 0 and now < most):
                break
        started.send_signal(signal.SIGKILL)
        killed += started.wait() == -signal.SIGKILL
        if started.returncode != 0:
            assert removal.find_unfinished(runs)
        for entry in run_index.list_runs(runs):
            assert (entry.folder / "model" / "weights.safetensors").exists()
            assert (entry.folder / "checkpoints").exists()
    assert killed >= 2  # on a busy machine, the last kill may be too late
    assert clean("--keep-best", "1", "--yes").code == 0
    assert list_ids(runs) == sorted(["bbbb2222", SWEEP, TRIALS[1]])
    assert removal.find_unfinished(runs) == []
    assert [trial.folder is None for trial in read_trials(runs)] == [True, False, True, True]


@pytest.mark.parametrize("ids", [[], [SWEEP]])
def test_an_interrupted_deletion_is_finished(runs, clean, ids):
    (target,) = Selection(runs, [TRIALS[0]]).removals
    # As if killed before the ledger is written.
    os.rename(target.path, target.path.with_name(f".deleted-{target.path.name}"))
    assert TRIALS[0] not in list_ids(runs)
    assert "interrupted deletion" in clean().out
    done = clean(*ids, "--yes")
    assert (done.code, done.err) == (0, "")
    assert removal.find_unfinished(runs) == []
    assert ids or read_trials(runs)[0].folder is None


def test_partly_deleted_checkpoints_are_deleted_by_the_same_command(runs, clean):
    folder = next(runs.glob("*/*-aaaa2222/checkpoints"))
    next(path for path in folder.rglob("*") if path.is_file()).unlink()  # as if killed
    assert clean("aaaa", "--checkpoints-only", "--yes").code == 0
    assert (folder.exists(), "aaaa2222" in list_ids(runs)) == (False, True)


def test_a_missing_tracker_secret_is_an_error_before_the_deletion(runs, clean):
    write_run(runs, "eeee2222", tracker={"mlflow": {"plugin": "mlflow", "uri": HIDDEN}})
    done = clean("eeee", "--yes")
    assert done.code == 2
    assert "tracker.mlflow.uri is a secret and not in the record of eeee2222; add it to the command" in done.err
    assert "eeee2222" in list_ids(runs)
    assert clean("eeee", "--no-tracker", "--yes").code == 0
    assert "eeee2222" not in list_ids(runs)


def test_a_run_without_a_readable_journal_is_deleted_only_by_its_id(runs, clean):
    lost = runs / "2026-01-01" / "00-00-00-aaaa2222"
    trial = next(runs.glob(f"*/*/trials/*-{TRIALS[2]}"))
    for folder in (lost, trial):
        (folder / "journal.jsonl").write_text("torn\n")
    assert not {"aaaa2222", TRIALS[2]} & {*select_ids(runs, statuses=["finished"]), *select_ids(runs, keep_best=1)}
    assert select_ids(runs, "aaaa") == ["aaaa2222"]
    output = clean("aaaa", TRIALS[2]).out
    assert all(text in output for text in ("aaaa2222", "no readable journal  ", "1 trial of sweep", "DAMAGED"))
    assert lost.exists()
    assert clean("aaaa", TRIALS[2], "--yes").code == 0
    assert not lost.exists()
    assert not trial.exists()
    assert (runs / "2026-01-01" / "00-00-00-bbbb2222").exists()
    assert len(read_trials(runs)) == 4


def test_a_damaged_sweep_is_deleted_with_its_trials_unless_one_is_running(runs, clean):
    (sweep_folder,) = runs.glob(f"*/*-{SWEEP}")
    (sweep_folder / "journal.jsonl").write_text("torn\n")
    trial_folder = next(sweep_folder.glob("trials/*"))
    with process_lock.lock_folder(trial_folder):
        (trial_folder / "journal.jsonl").write_text("")
        assert "one of its trials is running" in clean(SWEEP, "--yes").out
    assert len(list(sweep_folder.glob("trials/*"))) == 4
    assert clean(SWEEP, "--yes").code == 0
    assert not sweep_folder.exists()
