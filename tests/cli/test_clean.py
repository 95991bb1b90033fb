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
from support.run_folders import DAY_SECONDS, make_trial_id, run_expfw_in_process, write_run, write_sweep

from expfw.cli.runs.clean import removal
from expfw.cli.runs.clean.rules import Rules
from expfw.cli.runs.clean.selection import Inventory
from expfw.redaction import HIDDEN
from expfw.system import process_lock
from expfw.tracking import run_index
from expfw.tracking.ledger import Ledger
from expfw.tracking.workspace import Workspace

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


def select_ids(runs, *ids, **rules):
    return sorted(target.entry.id for target in Inventory(Workspace(runs)).select(Rules(ids, **rules)).removals)


def list_ids(runs):
    return sorted(entry.id for entry in (*run_index.list_sweeps(runs), *run_index.list_runs(runs)))


@pytest.mark.parametrize(
    ("ids", "rules", "expected"),
    [
        (["aaaa"], {}, ["aaaa2222"]),
        ([SWEEP], {}, [SWEEP]),  # includes its trials
        ([TRIALS[1]], {}, [TRIALS[1]]),
        (TRIALS, {}, [SWEEP]),  # the sweep would be empty
        ([], {"older_than": "30d"}, ["bbbb2222", "dddd2222"]),
        ([], {"older_than": "2w"}, ["bbbb2222", "dddd2222", SWEEP]),
        ([], {"older_than": "1000h"}, []),
        ([], {"statuses": ["FAILED"]}, ["cccc2222", TRIALS[2]]),
        ([], {"statuses": ["FAILED"], "older_than": "15d"}, [TRIALS[2]]),
        ([SWEEP], {"statuses": ["FAILED"]}, [TRIALS[2]]),
        ([], {"keep_best": 1}, sorted(["aaaa2222", "cccc2222", "dddd2222", TRIALS[0], TRIALS[2], TRIALS[3]])),
        ([], {"keep_best": 3}, sorted(["cccc2222", TRIALS[2]])),
        ([], {"keep_best": 1, "older_than": "30d"}, ["dddd2222"]),
        ([SWEEP], {"keep_best": 2}, sorted([TRIALS[0], TRIALS[2]])),
    ],
)
def test_a_run_must_match_all_given_rules(runs, ids, rules, expected):
    assert select_ids(runs, *ids, **rules) == sorted(expected)


def test_runs_with_other_data_or_another_objective_are_not_comparable(workdir):
    write_run(workdir / "runs", "aaaa2222", 0.5)
    write_run(workdir / "runs", "bbbb2222", 0.3, **{"dataset.plugin": "mnist"})
    write_run(workdir / "runs", "cccc2222", 0.4, **{"objective.mode": "max"})
    assert select_ids(workdir / "runs", keep_best=1) == []


def test_a_dry_run_lists_everything_and_deletes_nothing(runs, capsys):
    before = list_ids(runs)
    assert run_expfw_in_process("runs", "clean", "--keep-best", "1", "--older-than", "15d") == 0
    output = capsys.readouterr().out
    assert "3 trials of sweep ssss2222" in output
    assert "dddd2222" in output
    assert "remaining: 3 runs, 1 sweep with 1 trial, " in output
    assert "Nothing is deleted yet; to delete:\nexpfw runs clean --keep-best 1 --older-than 15d --yes\n" in output
    assert list_ids(runs) == before


def test_yes_frees_the_disk_and_keeps_the_results_in_the_sweep(runs, capsys):
    before = [
        (t.number, t.status, t.objective, t.metrics)
        for t in Ledger(next(run_index.list_sweeps(runs)).folder).read_trials()
    ]
    assert run_expfw_in_process("runs", "clean", "--keep-best", "1", "--yes") == 0
    assert capsys.readouterr().out.startswith("deleted 6 runs; ")
    assert list_ids(runs) == sorted(["bbbb2222", SWEEP, TRIALS[1]])
    (entry,) = run_index.list_sweeps(runs)
    trials = Ledger(entry.folder).read_trials()
    assert [(t.number, t.status, t.objective, t.metrics) for t in trials] == before
    assert [t.folder is None for t in trials] == [True, False, True, True]
    assert [path.name for path in (entry.folder / "trials").iterdir()] == [f"001-{TRIALS[1]}"]
    assert run_expfw_in_process("sweeps", "status", SWEEP) == 0
    assert TRIALS[0] in capsys.readouterr().out
    assert run_expfw_in_process("sweeps", "report", SWEEP) == 0
    assert run_expfw_in_process("runs", "clean", SWEEP, "bbbb", "--yes") == 0
    assert list_ids(runs) == []
    assert not any(path.name.startswith("2026") for path in runs.iterdir())  # the folder of the day is deleted, too


def test_a_deleted_unfinished_trial_waits_to_be_run_again(workdir):
    folder = write_sweep(workdir / "runs", SWEEP, [0.4, None], ["FINISHED", "KILLED"], status="KILLED")
    assert run_expfw_in_process("runs", "clean", TRIALS[1], "--yes") == 0
    trials = Ledger(folder).read_trials()
    assert [(t.status, t.run_id) for t in trials] == [("FINISHED", TRIALS[0]), ("WAITING", None)]


def test_only_checkpoints_are_deleted(runs, capsys):
    write_run(runs, "eeee2222", 0.2, status=None)  # interrupted: resuming needs them
    assert run_expfw_in_process("runs", "clean", "--checkpoints-only", "--yes") == 0
    assert capsys.readouterr().out.startswith("deleted the checkpoints of 6 runs; ")
    left = {path.parent.name[-8:] for path in runs.glob("**/checkpoints")}
    assert left == {"eeee2222", "cccc2222", TRIALS[2]}
    assert len(list_ids(runs)) == 10
    assert len(list(runs.glob("**/model"))) == 9


def test_runs_in_progress_are_not_deleted(runs, capsys):
    running = write_run(runs, "eeee2222", 0.2, status=None)
    (entry,) = run_index.list_sweeps(runs)
    lines = (entry.folder / "journal.jsonl").read_text().splitlines()
    (entry.folder / "journal.jsonl").write_text(lines[0] + "\n")  # the sweep has not ended
    with process_lock.lock_folder(running), process_lock.lock_folder(entry.folder):
        assert run_expfw_in_process("runs", "clean", "eeee", SWEEP, "--yes") == 0
    output = capsys.readouterr().out
    assert "not deleted: eeee2222: it is running" in output
    assert f"{TRIALS[0]}: its sweep {SWEEP} is running" in output
    assert {"eeee2222", SWEEP, *TRIALS} <= set(list_ids(runs))


def test_the_origin_of_a_remaining_run_is_not_deleted(runs, capsys):
    origin = next(runs.glob("*/*-aaaa2222"))
    child = write_run(runs, "eeee2222", 0.2, begin_from=f"{origin.relative_to(runs.parent)}/checkpoints/000000003")
    write_run(runs, "ffff2222", 0.2, **{"callback.transfer.model": str(child)})
    assert run_expfw_in_process("runs", "clean", "aaaa", "eeee", "--yes") == 0
    output = capsys.readouterr().out
    assert "not deleted: eeee2222: ffff2222 started from it" in output
    assert "not deleted: aaaa2222: eeee2222 started from it" in output
    assert select_ids(runs, "aaaa", checkpoints_only=True) == []
    assert select_ids(runs, "aaaa", "eeee", "ffff") == ["aaaa2222", "eeee2222", "ffff2222"]


def test_nothing_outside_the_runs_folder_is_deleted(runs, tmp_path, capsys):
    elsewhere = write_run(tmp_path / "elsewhere", "eeee2222", 0.9)
    (runs / "2026-01-01" / "00-00-00-eeee2222").symlink_to(elsewhere)
    inner = next(runs.glob("*/*-aaaa2222"))
    (inner / "model" / "data").symlink_to(elsewhere)
    assert run_expfw_in_process("runs", "clean", "eeee", "aaaa", "--yes") == 0
    assert "not deleted: eeee2222: its path contains a symbolic link; delete it by hand" in capsys.readouterr().out
    assert (elsewhere / "journal.jsonl").exists()
    assert not inner.exists()


def test_a_run_in_delivery_is_not_deleted(runs, capsys):
    folder = next(runs.glob("*/*-aaaa2222"))
    (folder / "tracking").mkdir()
    (folder / "tracking" / "mlflow.json").write_text("{}")
    with FileLock(folder / "tracking" / "mlflow.lock"):
        assert run_expfw_in_process("runs", "clean", "aaaa", "bbbb", "--no-tracker", "--yes") == 1
    err = capsys.readouterr().err
    assert "expfw: aaaa2222: " in err
    assert "is being delivered to a tracker; try again after the delivery" in err
    assert "aaaa2222" in list_ids(runs)
    assert "bbbb2222" not in list_ids(runs)
    assert run_expfw_in_process("runs", "clean", "aaaa", "--no-tracker", "--yes") == 0


def test_a_kill_leaves_no_partly_deleted_run(runs, capsys):
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
    assert run_expfw_in_process("runs", "clean", "--keep-best", "1", "--yes") == 0
    assert list_ids(runs) == sorted(["bbbb2222", SWEEP, TRIALS[1]])
    assert removal.find_unfinished(runs) == []
    assert [t.folder is None for t in Ledger(next(run_index.list_sweeps(runs)).folder).read_trials()] == [
        True,
        False,
        True,
        True,
    ]


def test_an_interrupted_deletion_is_finished(runs, capsys):
    (target,) = Inventory(Workspace(runs)).select(Rules([TRIALS[0]])).removals
    # As if killed before the ledger is written.
    os.rename(target.path, target.path.with_name(f".deleted-{target.path.name}"))
    assert TRIALS[0] not in list_ids(runs)
    assert run_expfw_in_process("runs", "clean") == 0
    assert "to delete, from an interrupted deletion: 1 folder," in capsys.readouterr().out
    assert run_expfw_in_process("runs", "clean", "--yes") == 0
    assert removal.find_unfinished(runs) == []
    assert Ledger(next(run_index.list_sweeps(runs)).folder).read_trial(0).folder is None


def test_a_missing_tracker_secret_is_an_error_before_the_deletion(runs, capsys):
    write_run(runs, "eeee2222", tracker={"mlflow": {"plugin": "mlflow", "uri": HIDDEN}})
    assert run_expfw_in_process("runs", "clean", "eeee", "--yes") == 2
    assert (
        "tracker.mlflow.uri is a secret and not in the record of eeee2222; add it to the command"
        in capsys.readouterr().err
    )
    assert "eeee2222" in list_ids(runs)
    assert run_expfw_in_process("runs", "clean", "eeee", "--no-tracker", "--yes") == 0
    assert "eeee2222" not in list_ids(runs)


def test_json_lists_the_same_runs(runs, capsys):
    assert run_expfw_in_process("runs", "clean", "--status", "failed", "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert output["deleted"] is False
    assert {(target["id"], target["kind"], target["sweep"]) for target in output["delete"]} == {
        ("cccc2222", "run", None),
        (TRIALS[2], "trial", SWEEP),
    }
    assert output["bytes"] == sum(target["bytes"] for target in output["delete"]) > 10000
    assert "aaaa2222" in output["keep"]
    assert all(Path(target["path"]).exists() for target in output["delete"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no runs selected; expected IDs of runs or sweeps, --keep-best N"),
        (["zzzz"], "unknown sweep or run 'zzzz' in "),
        (["--older-than", "30"], "--older-than is 30; expected a number with h, d or w"),
        (["--status", "fialed"], "unknown status 'fialed'. Did you mean 'failed'?"),
        (["--status", "running"], "runs in progress are never deleted; stop them first"),
        (["--keep-best", "0"], "0 is not in the range x>=1."),
        (["--runs-dir", "absent", "--keep-best", "1"], "no runs in folder absent"),
    ],
)
def test_an_invalid_request_is_a_one_line_error(runs, capsys, arguments, expected):
    assert run_expfw_in_process("runs", "clean", *arguments) == 2
    err = capsys.readouterr().err
    assert expected in err
    assert err.count("\n") == 1


def test_a_run_without_a_readable_journal_is_deleted_only_by_its_id(runs, capsys):
    lost = runs / "2026-01-01" / "00-00-00-aaaa2222"
    trial = next(runs.glob(f"*/*/trials/*-{TRIALS[2]}"))
    for folder in (lost, trial):
        (folder / "journal.jsonl").write_text("torn\n")
    assert not {"aaaa2222", TRIALS[2]} & {*select_ids(runs, statuses=["FINISHED"]), *select_ids(runs, keep_best=1)}
    assert select_ids(runs, "aaaa") == ["aaaa2222"]
    assert run_expfw_in_process("runs", "clean", "aaaa", TRIALS[2]) == 0
    output = capsys.readouterr().out
    assert "aaaa2222" in output
    assert output.count("no readable journal  ") + output.count("trial of sweep") == 2
    assert "DAMAGED" in output
    assert lost.exists()
    assert run_expfw_in_process("runs", "clean", "aaaa", TRIALS[2], "--yes") == 0
    assert not lost.exists()
    assert not trial.exists()
    assert (runs / "2026-01-01" / "00-00-00-bbbb2222").exists()
    (entry,) = run_index.list_sweeps(runs)
    assert len(Ledger(entry.folder).read_trials()) == 4


def test_a_damaged_sweep_is_deleted_with_its_trials_unless_one_is_running(runs, capsys):
    (sweep_folder,) = runs.glob(f"*/*-{SWEEP}")
    (sweep_folder / "journal.jsonl").write_text("torn\n")
    with process_lock.lock_folder(next(sweep_folder.glob("trials/*"))):
        (next(sweep_folder.glob("trials/*")) / "journal.jsonl").write_text("")
        assert run_expfw_in_process("runs", "clean", SWEEP, "--yes") == 0
    assert sweep_folder.exists()
    assert run_expfw_in_process("runs", "clean", SWEEP, "--yes") == 0
    assert not sweep_folder.exists()
