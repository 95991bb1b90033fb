"""`expfw runs clean`: what rules choose, what is spared, and that nothing is ever left half."""

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
    """Four runs on their own, of several ages and ends, and a sweep of four trials."""
    made = workdir / "runs"
    write_run(made, "aaaa2222", 0.5)
    write_run(made, "bbbb2222", 0.3, age=40 * DAY_SECONDS)
    write_run(made, "cccc2222", None, "FAILED", age=10 * DAY_SECONDS)
    write_run(made, "dddd2222", 0.7, age=40 * DAY_SECONDS)
    write_sweep(
        made, SWEEP, [0.4, 0.1, None, 0.2], ["FINISHED", "FINISHED", "FAILED", "FINISHED"], age=20 * DAY_SECONDS
    )
    return made


def chosen(runs, *ids, **rules):
    return sorted(one.entry.id for one in Inventory(Workspace(runs)).select(Rules(ids, **rules)).removals)


def there(runs):
    return sorted(entry.id for entry in (*run_index.list_sweeps(runs), *run_index.list_runs(runs)))


@pytest.mark.parametrize(
    ("ids", "rules", "expected"),
    [
        (["aaaa"], {}, ["aaaa2222"]),
        ([SWEEP], {}, [SWEEP]),  # with its trials
        ([TRIALS[1]], {}, [TRIALS[1]]),
        (TRIALS, {}, [SWEEP]),  # nothing of it would be left
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
def test_all_rules_that_are_given_must_hold(runs, ids, rules, expected):
    assert chosen(runs, *ids, **rules) == sorted(expected)


def test_runs_of_other_data_or_another_objective_are_no_rivals(workdir):
    write_run(workdir / "runs", "aaaa2222", 0.5)
    write_run(workdir / "runs", "bbbb2222", 0.3, **{"dataset.plugin": "mnist"})
    write_run(workdir / "runs", "cccc2222", 0.4, **{"objective.mode": "max"})
    assert chosen(workdir / "runs", keep_best=1) == []


def test_the_dry_run_says_all_and_deletes_nothing(runs, capsys):
    before = there(runs)
    assert run_expfw_in_process("runs", "clean", "--keep-best", "1", "--older-than", "15d") == 0
    said = capsys.readouterr().out
    assert "3 trials of sweep ssss2222" in said
    assert "dddd2222" in said
    assert "stays: 3 runs, 1 sweep with 1 trial, " in said
    assert "Nothing was deleted; to do it:\nexpfw runs clean --keep-best 1 --older-than 15d --yes\n" in said
    assert there(runs) == before


def test_with_yes_the_disk_is_freed_and_the_sweeps_table_stays_right(runs, capsys):
    before = [
        (t.number, t.status, t.objective, t.metrics)
        for t in Ledger(next(run_index.list_sweeps(runs)).folder).read_trials()
    ]
    assert run_expfw_in_process("runs", "clean", "--keep-best", "1", "--yes") == 0
    assert capsys.readouterr().out.startswith("deleted 6 runs; ")
    assert there(runs) == sorted(["bbbb2222", SWEEP, TRIALS[1]])
    (entry,) = run_index.list_sweeps(runs)
    trials = Ledger(entry.folder).read_trials()
    assert [(t.number, t.status, t.objective, t.metrics) for t in trials] == before
    assert [t.folder is None for t in trials] == [True, False, True, True]
    assert [path.name for path in (entry.folder / "trials").iterdir()] == [f"001-{TRIALS[1]}"]
    assert run_expfw_in_process("sweeps", "status", SWEEP) == 0
    assert TRIALS[0] in capsys.readouterr().out
    assert run_expfw_in_process("sweeps", "report", SWEEP) == 0
    assert run_expfw_in_process("runs", "clean", SWEEP, "bbbb", "--yes") == 0
    assert there(runs) == []
    assert not any(path.name.startswith("2026") for path in runs.iterdir())  # nor the folder of the day


def test_what_could_have_gone_on_waits_to_be_made_anew(workdir):
    folder = write_sweep(workdir / "runs", SWEEP, [0.4, None], ["FINISHED", "KILLED"], status="KILLED")
    assert run_expfw_in_process("runs", "clean", TRIALS[1], "--yes") == 0
    trials = Ledger(folder).read_trials()
    assert [(t.status, t.run_id) for t in trials] == [("FINISHED", TRIALS[0]), ("WAITING", None)]


def test_checkpoints_alone(runs, capsys):
    write_run(runs, "eeee2222", 0.2, status=None)  # interrupted: it needs them
    assert run_expfw_in_process("runs", "clean", "--checkpoints-only", "--yes") == 0
    assert capsys.readouterr().out.startswith("deleted the checkpoints of 6 runs; ")
    left = {path.parent.name[-8:] for path in runs.glob("**/checkpoints")}
    assert left == {"eeee2222", "cccc2222", TRIALS[2]}
    assert len(there(runs)) == 10
    assert len(list(runs.glob("**/model"))) == 9


def test_what_runs_is_spared(runs, capsys):
    running = write_run(runs, "eeee2222", 0.2, status=None)
    (entry,) = run_index.list_sweeps(runs)
    lines = (entry.folder / "journal.jsonl").read_text().splitlines()
    (entry.folder / "journal.jsonl").write_text(lines[0] + "\n")  # it has not ended
    with process_lock.lock_folder(running), process_lock.lock_folder(entry.folder):
        assert run_expfw_in_process("runs", "clean", "eeee", SWEEP, "--yes") == 0
    said = capsys.readouterr().out
    assert "spared: eeee2222: it is running" in said
    assert f"{TRIALS[0]}: its sweep {SWEEP} is running" in said
    assert {"eeee2222", SWEEP, *TRIALS} <= set(there(runs))


def test_what_others_continue_from_is_spared_as_long_as_they_stay(runs, capsys):
    origin = next(runs.glob("*/*-aaaa2222"))
    child = write_run(runs, "eeee2222", 0.2, begin_from=f"{origin.relative_to(runs.parent)}/checkpoints/000000003")
    write_run(runs, "ffff2222", 0.2, **{"callback.transfer.model": str(child)})
    assert run_expfw_in_process("runs", "clean", "aaaa", "eeee", "--yes") == 0
    said = capsys.readouterr().out
    assert "spared: eeee2222: ffff2222 continues from it" in said
    assert "spared: aaaa2222: eeee2222 continues from it" in said
    assert chosen(runs, "aaaa", checkpoints_only=True) == []
    assert chosen(runs, "aaaa", "eeee", "ffff") == ["aaaa2222", "eeee2222", "ffff2222"]


def test_nothing_outside_of_the_runs_folder_is_touched(runs, tmp_path, capsys):
    elsewhere = write_run(tmp_path / "elsewhere", "eeee2222", 0.9)
    (runs / "2026-01-01" / "00-00-00-eeee2222").symlink_to(elsewhere)
    inner = next(runs.glob("*/*-aaaa2222"))
    (inner / "model" / "data").symlink_to(elsewhere)
    assert run_expfw_in_process("runs", "clean", "eeee", "aaaa", "--yes") == 0
    assert "spared: eeee2222: a symbolic link leads there; delete it by hand" in capsys.readouterr().out
    assert (elsewhere / "journal.jsonl").exists()
    assert not inner.exists()


def test_what_is_being_delivered_is_not_taken_away(runs, capsys):
    folder = next(runs.glob("*/*-aaaa2222"))
    (folder / "tracking").mkdir()
    (folder / "tracking" / "mlflow.json").write_text("{}")
    with FileLock(folder / "tracking" / "mlflow.lock"):
        assert run_expfw_in_process("runs", "clean", "aaaa", "bbbb", "--no-tracker", "--yes") == 1
    err = capsys.readouterr().err
    assert "expfw: aaaa2222: " in err
    assert "is being delivered to a tracker at this moment" in err
    assert "aaaa2222" in there(runs)
    assert "bbbb2222" not in there(runs)
    assert run_expfw_in_process("runs", "clean", "aaaa", "--no-tracker", "--yes") == 0


def test_a_kill_leaves_nothing_half(runs, capsys):
    """Killed at several moments: whatever is still listed is whole, and the next one does the rest."""
    for number in range(40):
        write_run(runs, f"gggg22{number:02d}", 0.9)
    command = [sys.executable, "-m", "expfw", "runs", "clean", "--keep-best", "1", "--yes"]
    most = killed = 0
    for marked in (1, 8, 20, 0):  # the last one when it has begun to remove them
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
    assert killed >= 2  # on a busy machine the last one may have come too late
    assert run_expfw_in_process("runs", "clean", "--keep-best", "1", "--yes") == 0
    assert there(runs) == sorted(["bbbb2222", SWEEP, TRIALS[1]])
    assert removal.find_unfinished(runs) == []
    assert [t.folder is None for t in Ledger(next(run_index.list_sweeps(runs)).folder).read_trials()] == [
        True,
        False,
        True,
        True,
    ]


def test_what_an_earlier_one_left_is_finished(runs, capsys):
    (one,) = Inventory(Workspace(runs)).select(Rules([TRIALS[0]])).removals
    os.rename(one.path, one.path.with_name(f".deleted-{one.path.name}"))  # killed before the ledger was written
    assert TRIALS[0] not in there(runs)
    assert run_expfw_in_process("runs", "clean") == 0
    assert "and what an earlier one left behind: 1 folder," in capsys.readouterr().out
    assert run_expfw_in_process("runs", "clean", "--yes") == 0
    assert removal.find_unfinished(runs) == []
    assert Ledger(next(run_index.list_sweeps(runs)).folder).read_trial(0).folder is None


def test_a_secret_of_a_tracker_is_asked_for_before_anything_is_deleted(runs, capsys):
    write_run(runs, "eeee2222", tracker={"mlflow": {"plugin": "mlflow", "uri": HIDDEN}})
    assert run_expfw_in_process("runs", "clean", "eeee", "--yes") == 2
    assert "tracker.mlflow.uri is a secret and not in the record of eeee2222; give it again" in capsys.readouterr().err
    assert "eeee2222" in there(runs)
    assert run_expfw_in_process("runs", "clean", "eeee", "--no-tracker", "--yes") == 0
    assert "eeee2222" not in there(runs)


def test_json_says_the_same(runs, capsys):
    assert run_expfw_in_process("runs", "clean", "--status", "failed", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["deleted"] is False
    assert {(one["id"], one["kind"], one["sweep"]) for one in said["delete"]} == {
        ("cccc2222", "run", None),
        (TRIALS[2], "trial", SWEEP),
    }
    assert said["bytes"] == sum(one["bytes"] for one in said["delete"]) > 10000
    assert "aaaa2222" in said["keep"]
    assert all(Path(one["path"]).exists() for one in said["delete"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what to delete: ids of runs or sweeps, --keep-best N"),
        (["zzzz"], "no sweep or run 'zzzz' in "),
        (["--older-than", "30"], "--older-than 30 is no age; expected a number with h, d or w"),
        (["--status", "fialed"], "no status 'fialed'. Did you mean 'FAILED'?"),
        (["--status", "running"], "what is RUNNING is never deleted; end it first"),
        (["--keep-best", "0"], "0 is not in the range x>=1."),
        (["--runs-dir", "absent", "--keep-best", "1"], "no runs in absent"),
    ],
)
def test_what_cannot_be_done_is_one_line(runs, capsys, words, said):
    assert run_expfw_in_process("runs", "clean", *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_what_has_no_readable_journal_is_deleted_by_its_id_alone(runs, capsys):
    lost = runs / "2026-01-01" / "00-00-00-aaaa2222"
    trial = next(runs.glob(f"*/*/trials/*-{TRIALS[2]}"))
    for folder in (lost, trial):
        (folder / "journal.jsonl").write_text("torn\n")
    assert not {"aaaa2222", TRIALS[2]} & {*chosen(runs, statuses=["FINISHED"]), *chosen(runs, keep_best=1)}
    assert chosen(runs, "aaaa") == ["aaaa2222"]
    assert run_expfw_in_process("runs", "clean", "aaaa", TRIALS[2]) == 0
    said = capsys.readouterr().out
    assert "aaaa2222" in said
    assert said.count("no readable journal  ") + said.count("trial of sweep") == 2
    assert "DAMAGED" in said
    assert lost.exists()
    assert run_expfw_in_process("runs", "clean", "aaaa", TRIALS[2], "--yes") == 0
    assert not lost.exists()
    assert not trial.exists()
    assert (runs / "2026-01-01" / "00-00-00-bbbb2222").exists()
    (entry,) = run_index.list_sweeps(runs)
    assert len(Ledger(entry.folder).read_trials()) == 4


def test_a_sweep_without_a_readable_journal_goes_with_its_trials_but_not_while_one_runs(runs, capsys):
    (sweep_folder,) = runs.glob(f"*/*-{SWEEP}")
    (sweep_folder / "journal.jsonl").write_text("torn\n")
    with process_lock.lock_folder(next(sweep_folder.glob("trials/*"))):
        (next(sweep_folder.glob("trials/*")) / "journal.jsonl").write_text("")
        assert run_expfw_in_process("runs", "clean", SWEEP, "--yes") == 0
    assert sweep_folder.exists()
    assert run_expfw_in_process("runs", "clean", SWEEP, "--yes") == 0
    assert not sweep_folder.exists()
