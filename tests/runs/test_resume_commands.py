"""`expfw runs resume`, `--verify` and `rerun --check`, as typed by a user."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest
from support.processes import wait_for

from expfw.tracking import run_index

pytestmark = pytest.mark.slow

RUN = ("run", "dataset=digits", "model=mlp_keras", "model.dropout=0.3", "tracker=[]", "train.epochs=3")


@pytest.fixture
def finished(expfw_here, workdir):
    """Entry of a finished run."""
    assert expfw_here(*RUN, "quiet=true").code == 0
    (entry,) = run_index.list_runs(workdir / "runs")
    return entry


def test_verify_resumes_from_an_old_checkpoint(expfw_here, finished):
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")}
    done = expfw_here("runs", "resume", finished.id, "--verify")
    assert done.code == 0, done.err
    counts = r"\d+ values of \d+ metrics, 26 arrays and .* are bit-identical"  # with the best weights
    assert re.match(f"run {finished.id} from step 42 to 63: {counts}", done.out)
    assert {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")} == before


def test_verify_and_check_ignore_the_first_end_of_an_extended_run(expfw_here, finished):
    overrides = ("train.epochs=4", "callback.checkpoint.keep=9", "quiet=true")
    assert expfw_here("runs", "resume", finished.id, *overrides).code == 0
    done = expfw_here("runs", "resume", finished.id, "--verify")
    assert (done.code, "from step 42 to 84" in done.out) == (0, True), done.out
    assert expfw_here("runs", "rerun", finished.id, "--check").code == 0


FORGETFUL = """
import expfw
class Forgetful(expfw.Callback):
    "Counts epochs, but does not save the count in a checkpoint."
    count = 0
    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        self.count += 1
        run.log({"count": self.count})
class Saving(Forgetful):
    def state(self):
        return {"count": self.count}
    def restore(self, state):
        self.count = state["count"]
"""


@pytest.mark.parametrize(("callback", "code"), [("forgetful", 1), ("saving", 0)])
def test_verify_detects_a_callback_that_does_not_save_its_state(expfw_here, workdir, callback, code):
    (workdir / "mine.py").write_text(FORGETFUL)
    assert expfw_here("-p", "mine.py", *RUN, f"+callback={callback}", "quiet=true").code == 0
    (entry,) = run_index.list_runs(workdir / "runs")
    done = expfw_here("-p", "mine.py", "runs", "resume", entry.id, "--verify")
    assert done.code == code
    assert ("count at step 63: 3.0 and 1.0" in done.out) == (code == 1)


def test_rerun_check_compares_a_run_with_its_rerun(expfw_here, finished, workdir):
    done = expfw_here("runs", "rerun", finished.id, "--check")
    assert done.code == 0, done.err
    rerun = run_index.list_runs(workdir / "runs")[0]
    assert f"run {finished.id} and its rerun {rerun.id}: " in done.out
    assert f"next: expfw runs show {rerun.id}" in done.out  # although the first run was quiet
    assert "arrays of weights are bit-identical" in done.out


def test_rerun_check_reports_differences_of_metrics_and_environment(expfw_here, finished):
    path = finished.folder / "journal.jsonl"
    path.write_text(path.read_text().replace('"val/loss": ', '"val/loss": 1'))
    path = finished.folder / "environment.json"
    path.write_text(re.sub('"tensorflow": "[^"]*"', '"tensorflow": "2.0"', path.read_text()))
    done = expfw_here("runs", "rerun", finished.id, "--check")
    assert done.code == 1
    assert "arrays of weights have 3 differences:\n  val/loss at step 21: 1" in done.out
    assert re.search(r"tensorflow is 2.*, was 2\.0", done.out)


def test_deterministic_runs_are_bit_identical(expfw_process, workdir):
    options = ("model=cnn", "model.filters=[4,8]", "train.deterministic=true", "train.epochs=1")
    done = expfw_process(*RUN, *options, "quiet=true")
    assert done.code == 0, done.err
    (entry,) = run_index.list_runs(workdir / "runs")
    done = expfw_process("runs", "rerun", entry.id, "--check")
    assert (done.code, "are bit-identical" in done.out) == (0, True), done.out + done.err


def test_an_interrupted_run_prints_the_command_that_resumes_it(workdir, expfw_here):
    """A real process and a real signal; then the command that it printed."""
    command = [sys.executable, "-m", "expfw", *RUN, "train.epochs=4000", "callback.checkpoint.every.steps=500"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: list(workdir.glob("runs/*/*/checkpoints/0*")))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    (entry,) = run_index.list_runs(workdir / "runs")
    assert err.splitlines()[-1] == (
        f"expfw: interrupted; all results so far are recorded; to resume: expfw runs resume {entry.id}"
    )
    assert f"{entry.last['steps']:09d}" in {path.name for path in (entry.folder / "checkpoints").iterdir()}
    assert f"expfw runs resume {entry.id}" in expfw_here("runs", "show", entry.id).out
    assert f"expfw runs resume {entry.id}" in expfw_here("runs", "list").out
    steps = entry.last["steps"] + 50
    done = expfw_here("runs", "resume", entry.id, f"train.steps={steps}")
    assert done.code == 0, done.err
    assert f"FINISHED  mlp_keras digits  {steps} steps in " in done.out
