"""`expfw sweeps resume`: what is done stays, what was interrupted goes on, what failed is made anew."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from waiting import wait_for

from expfw import comparison, folders, journal
from expfw.ledger import Ledger

SWEEP = ("dataset=digits", "model=mlp_keras", "train.epochs=60", "train.log_every=20", "seed=1,2,3", "sweep.slots=1")


def rows(entry):
    """The final table, without what no two sweeps share."""
    return [(t.number, t.name, t.fingerprint, t.status, t.objective, t.metrics) for t in Ledger(entry.folder).trials()]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The sweep, left alone."""
    workdir = tmp_path_factory.mktemp("whole")
    command = [sys.executable, "-m", "expfw", "sweep", *SWEEP, "tracker=[]", "quiet=true"]
    subprocess.run(command, cwd=workdir, check=True, timeout=300)
    (entry,) = folders.sweeps(workdir / "runs")
    return entry


@pytest.mark.slow
def test_a_sweep_that_was_killed_outright_goes_on_to_the_same_table(expfw_here, workdir, reference):
    command = [sys.executable, "-m", "expfw", "sweep", *SWEEP]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        second = "runs/*/*/trials/001-*/checkpoints/0*"
        wait_for(lambda: list(workdir.glob(second)))
        process.kill()
    (entry,) = folders.sweeps(workdir / "runs")
    trial = next(workdir.glob("runs/*/*/trials/001-*"))
    wait_for(lambda: folders.entry(trial).status == "KILLED", seconds=20)
    assert [folders.entry(Path(t.folder)).status for t in Ledger(entry.folder).trials()] == ["FINISHED", "KILLED"]
    first = Ledger(entry.folder).trials()[0]

    done = expfw_here("sweeps", "resume", entry.id)
    assert done.code == 0, done.err
    (entry,) = folders.sweeps(workdir / "runs")
    assert entry.status == "FINISHED"
    assert rows(entry) == rows(reference)
    trials = Ledger(entry.folder).trials()
    assert (trials[0], Path(trials[1].folder)) == (first, trial.absolute())  # not made again; the same folder
    for trial, whole in zip(trials, Ledger(reference.folder).trials(), strict=True):
        assert comparison.compare(Path(whole.folder), Path(trial.folder)).differences == ()
    kinds = [record["kind"] for record in journal.read(Path(trials[1].folder) / journal.NAME)[0]]
    assert kinds.count("run_resumed") == 1

    client = mlflow.MlflowClient(f"sqlite:///{workdir}/runs/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("expfw").experiment_id])
    assert len(runs) == 4
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len({run.data.tags.get("mlflow.parentRunId") for run in runs}) == 2
    assert "there is nothing left to do" in expfw_here("sweeps", "resume", entry.id).err


def test_what_failed_is_made_anew_and_what_drifted_is_refused(expfw_here, workdir):
    (workdir / "fragile.py").write_text(
        "from pathlib import Path\nfrom expfw_models.ols import Ols\nclass Fragile(Ols):\n"
        "    def build(self, data):\n        if Path('broken').exists() and self.config.degree > 1:\n"
        "            raise RuntimeError('broken')\n        return super().build(data)\n"
    )
    (workdir / "broken").touch()
    arguments = ("dataset=line", "model=fragile", "model.degree=1,2", "tracker=[]", "train.epochs=5")
    assert expfw_here("-p", "fragile.py", "sweep", *arguments).code == 1
    (entry,) = folders.sweeps(workdir / "runs")
    before = Ledger(entry.folder).trials()
    assert [t.status for t in before] == ["FINISHED", "FAILED"]

    edited = before[0].__class__(**{**vars(before[0]), "fingerprint": "0" * 16})
    Ledger(entry.folder).write(edited)
    done = expfw_here("sweeps", "resume", entry.id)
    assert done.code == 2
    assert "trial 0 (degree=1) would no longer be the one that was made" in done.err.splitlines()[-1]
    Ledger(entry.folder).write(before[0])

    (workdir / "broken").unlink()
    done = expfw_here("sweeps", "resume", entry.id)
    assert done.code == 0, done.err
    after = Ledger(entry.folder).trials()
    assert [t.status for t in after] == ["FINISHED", "FINISHED"]
    assert (after[0], after[1].run_id != before[1].run_id) == (before[0], True)
    status = json.loads(expfw_here("sweeps", "status", entry.id, "--json").out)
    assert status["status"] == "FINISHED"


def test_a_trial_that_went_on_by_itself_is_not_made_again(expfw_here, workdir):
    """`runs list` says how a run goes on; who follows that, and then goes on with the sweep, loses nothing."""
    arguments = ("dataset=line", "model=ols", "seed=1,2", "tracker=[]", "train.epochs=5", "quiet=true")
    assert expfw_here("sweep", *arguments).code == 0
    (entry,) = folders.sweeps(workdir / "runs")
    trials = Ledger(entry.folder).trials()
    Ledger(entry.folder).write(replace(trials[1], status="KILLED", objective=None))  # as it stood before
    with journal.Journal(entry.folder / journal.NAME) as record:
        record.write("sweep_ended", status="KILLED")
    assert expfw_here("sweeps", "resume", entry.id).code == 0
    assert Ledger(entry.folder).trials() == trials
    records = [record for record in journal.read(entry.folder / journal.NAME)[0] if record["kind"] == "note"]
    assert records[-1]["text"].count("FINISHED") == 2
