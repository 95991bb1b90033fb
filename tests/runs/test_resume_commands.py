"""`expfw runs resume`, `--verify` and `rerun --check`, as a user types them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest
from support.waiting import wait_for

from expfw.tracking import run_index

pytestmark = pytest.mark.slow

RUN = ("run", "dataset=digits", "model=mlp_keras", "model.dropout=0.3", "tracker=[]", "train.epochs=3")


@pytest.fixture
def ran(expfw_here, workdir):
    """A finished run."""
    assert expfw_here(*RUN, "quiet=true").code == 0
    (entry,) = run_index.list_runs(workdir / "runs")
    return entry


def test_going_on_is_proved_from_an_old_checkpoint(expfw_here, ran):
    before = {path: path.stat().st_mtime_ns for path in ran.folder.rglob("*")}
    done = expfw_here("runs", "resume", ran.id, "--verify")
    assert done.code == 0, done.err
    assert re.match(
        rf"run {ran.id} from step 42 to 63: \d+ values of \d+ metrics, 20 arrays and what .* same to", done.out
    )
    assert {path: path.stat().st_mtime_ns for path in ran.folder.rglob("*")} == before


def test_a_run_that_was_trained_longer_is_proved_and_compared_without_its_first_end(expfw_here, ran):
    assert expfw_here("runs", "resume", ran.id, "train.epochs=4", "callback.checkpoint.keep=9", "quiet=true").code == 0
    done = expfw_here("runs", "resume", ran.id, "--verify")
    assert (done.code, "from step 42 to 84" in done.out) == (0, True), done.out
    assert expfw_here("runs", "rerun", ran.id, "--check").code == 0


FORGETFUL = """
import expfw
class Forgetful(expfw.Callback):
    "Counts, and does not tell it to a checkpoint."
    count = 0
    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        self.count += 1
        run.log({"count": self.count})
class Keeping(Forgetful):
    def state(self):
        return {"count": self.count}
    def restore(self, state):
        self.count = state["count"]
"""


@pytest.mark.parametrize(("callback", "code"), [("forgetful", 1), ("keeping", 0)])
def test_a_callback_that_forgets_is_found_by_the_proof(expfw_here, workdir, callback, code):
    (workdir / "mine.py").write_text(FORGETFUL)
    assert expfw_here("-p", "mine.py", *RUN, f"+callback={callback}", "quiet=true").code == 0
    (entry,) = run_index.list_runs(workdir / "runs")
    done = expfw_here("runs", "resume", entry.id, "--verify")
    assert done.code == code
    assert ("count at step 63: 3.0 and 1.0" in done.out) == (code == 1)


def test_a_proof_needs_two_checkpoints(expfw_here, workdir):
    expfw_here(*RUN, "train.epochs=1", "callback.checkpoint.keep=1", "quiet=true")
    (entry,) = run_index.list_runs(workdir / "runs")
    done = expfw_here("runs", "resume", entry.id, "--verify")
    assert (done.code, "has 1 checkpoint that can be read, and two are needed" in done.err) == (2, True)


def test_a_run_is_made_once_more_and_compared(expfw_here, ran, workdir):
    done = expfw_here("runs", "rerun", ran.id, "--check")
    assert done.code == 0, done.err
    again = next(run_index.list_runs(workdir / "runs"))
    assert f"run {ran.id}, and again as {again.id}: " in done.out
    assert f"next: expfw runs show {again.id}" in done.out  # though the first one was quiet
    assert "arrays of weights are the same to the bit" in done.out


def test_what_came_out_otherwise_is_said_with_what_differs_in_the_environment(expfw_here, ran):
    path = ran.folder / "journal.jsonl"
    path.write_text(path.read_text().replace('"val/loss": ', '"val/loss": 1'))
    environment = json.loads((ran.folder / "environment.json").read_text())
    environment["packages"]["tensorflow"] = "2.0"
    (ran.folder / "environment.json").write_text(json.dumps(environment))
    done = expfw_here("runs", "rerun", ran.id, "--check")
    assert done.code == 1
    assert "arrays of weights:\n  val/loss at step 21: 1" in done.out
    assert "tensorflow is 2" in done.out
    assert ", was 2.0" in done.out


def test_deterministic_runs_are_the_same_to_the_bit(expfw_process, workdir):
    options = ("model=cnn", "model.filters=[4,8]", "train.deterministic=true", "train.epochs=1")
    done = expfw_process(*RUN, *options, "quiet=true")
    assert done.code == 0, done.err
    (entry,) = run_index.list_runs(workdir / "runs")
    done = expfw_process("runs", "rerun", entry.id, "--check")
    assert (done.code, "are the same to the bit" in done.out) == (0, True), done.out + done.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["runs", "resume"], "Missing argument 'RUN_ID'"),
        (["runs", "resume", "zzz"], "no run 'zzz'"),
        (["runs", "rerun", "zzz"], "no run 'zzz'"),
        (["runs", "resum"], "Did you mean 'resume'?"),
    ],
)
def test_mistakes_are_one_line(expfw_here, arguments, expected):
    done = expfw_here(*arguments)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert expected in done.err


def test_an_interrupted_run_says_how_it_goes_on_and_does(workdir, expfw_here):
    """A real process, a real signal; then the command that it said."""
    command = [sys.executable, "-m", "expfw", *RUN, "train.epochs=4000", "callback.checkpoint.every.steps=500"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: list(workdir.glob("runs/*/*/checkpoints/0*")))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    (entry,) = run_index.list_runs(workdir / "runs")
    assert err.splitlines()[-1] == (
        f"expfw: interrupted; what was done until then is recorded; to go on with it: expfw runs resume {entry.id}"
    )
    assert f"{entry.last['steps']:09d}" in {path.name for path in (entry.folder / "checkpoints").iterdir()}
    assert f"expfw runs resume {entry.id}" in expfw_here("runs", "show", entry.id).out
    assert f"expfw runs resume {entry.id}" in expfw_here("runs", "list").out
    steps = entry.last["steps"] + 50
    done = expfw_here("runs", "resume", entry.id, f"train.steps={steps}")
    assert done.code == 0, done.err
    assert f"FINISHED  mlp_keras digits  {steps} steps in " in done.out
