"""Records of the wrong type or shape: a one-line error for their own run, and never for the others."""

from __future__ import annotations

import json
import logging
import math
import os

import pytest
from support import interruptions, run_folders
from support.record_mutations import run_mutations

import expfw
from expfw.errors import JournalError
from expfw.runs import exact_comparison
from expfw.tracking import journal, run_index
from expfw.tracking.ledger import Ledger
from expfw.tracking.shipper.delivery import Delivery

VALUES = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": -0.0, "e": 0.1}


def read_strictly(text):
    """Reads JSON as JavaScript and DuckDB do: without NaN and Infinity."""

    def reject(constant):
        raise AssertionError(constant)

    return json.loads(text, parse_constant=reject)


def test_random_damage_of_records_is_a_one_line_error(tmp_path, caplog):
    """A small part of benchmarks/tracking/damaged_records.py."""
    caplog.set_level(logging.CRITICAL)
    assert run_mutations(tmp_path, 300, seed=2) == []


def test_numbers_that_are_not_finite_are_strict_json_and_read_exactly(tmp_path):
    path = tmp_path / journal.NAME
    with journal.Journal(path) as record:
        record.write("metrics", step=1, values=VALUES)
        record.write("series", step=2, values={name: [value, 1.0] for name, value in VALUES.items()})
        record.write("info", values={"limit": math.inf, "text": ["NaN", "x"], "name": "\udc80"})
    lines = path.read_text().splitlines()
    for line in lines:
        read_strictly(line).pop("time")
        line.encode()
        assert "\\udc80" not in line  # half of a surrogate pair, which DuckDB rejects
    points = journal.select_points(journal.read_records(path)[0])
    assert repr([point.values for point in points[:2]]) == repr([VALUES, VALUES])
    info = journal.read_records(path)[0][-1]["values"]  # of any type, so that a number is not known to be one
    assert info == {"limit": "Infinity", "text": ["NaN", "x"], "name": "?"}


def test_results_that_are_not_finite_are_in_tables_and_delivered_completely(workdir, call):
    class Tracker:
        def ship(self, folder, state, records):
            self.records = records

    run_folders.write_run(workdir / "runs", "aaaa2222", math.nan)
    sweep = run_folders.write_sweep(workdir / "runs", "ssss2222", [math.nan, -math.inf, 0.5])
    for path in sweep.glob("ledger/*.json"):
        read_strictly(path.read_text())
    objectives = [trial.objective for trial in Ledger(sweep).read_trials()]
    assert repr(objectives) == repr([math.nan, -math.inf, 0.5])
    assert "nan" in call("sweeps", "status", "ssss2222").out
    run = expfw.load("aaaa2222")
    assert math.isnan(run.result.objective)
    assert "nan" in call("runs", "show", "aaaa2222").out
    delivery, tracker = Delivery("x", Tracker(), run.folder), Tracker()
    delivery.tracker = tracker
    while delivery.deliver_portion():
        pass
    assert delivery.is_complete
    assert math.isnan(tracker.records[-1]["objective"])


@pytest.mark.slow
def test_a_resume_compares_values_that_are_not_finite(train, workdir):
    (workdir / "limited.py").write_text(LIMITED)
    options = ("dataset=digits", "train.epochs=3", "callback=[checkpoint,limited]")
    files = (str(workdir / "limited.py"),)
    whole = train(*options, files=files)
    folder = interruptions.interrupt_run(train, 50, *options, files=files)
    (folder / "checkpoints" / "000000042").rename(workdir / "removed")  # so that recorded points are computed again
    result = interruptions.resume_run(folder)
    assert result.warnings == ()
    assert math.isnan(result.metrics["odd"])
    assert exact_comparison.compare_runs(whole.folder, folder).differences == ()


LIMITED = """
from dataclasses import dataclass
import math
import expfw

class Limited(expfw.Callback):
    @dataclass
    class Config:
        limit: float = math.inf

    best = math.inf

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        self.best = min(self.best, math.inf)
        run.log({"odd": math.nan, "limit": self.config.limit, "best": self.best})

    def state(self):
        return {"best": self.best}

    def restore(self, state):
        self.best = state["best"]
"""


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "run_started", "id": [1], "name": "n", "time": 1}',
        '{"kind": "run_started", "id": "../../x", "name": "n", "time": 1}',
        '{"kind": "run_started", "id": "abcd1234", "name": "n", "time": 1e300}',
        '{"kind": "run_started", "id": "abcd1234", "name": null, "time": 1}',
        '{"kind": "run_started", "id": "abcd1234", "name": "n", "time": 1, "config": {"tracker": [3]}}',
        '{"kind": "run_started", "id": "abcd1234", "name": "n", "time": 1, "data": ' + "[" * 500 + "]" * 500 + "}",
    ],
)
def test_a_bad_folder_does_not_affect_the_list(workdir, call, caplog, line):
    run_folders.write_run(workdir / "runs", "aaaa2222")
    bad = workdir / "runs" / "2026-01-01" / "00-00-00-abcd1234"
    bad.mkdir()
    (bad / journal.NAME).write_text(f"{line}\n")
    done = call("runs", "list")
    assert (done.code, "aaaa2222" in done.out) == (0, True), done.err
    assert "to delete abcd1234" in done.err + caplog.text
    assert call("runs", "show", "aaaa2222").code == 0


def test_a_folder_or_a_pipe_in_the_place_of_a_journal_does_not_affect_the_list(workdir, call):
    run_folders.write_run(workdir / "runs", "aaaa2222")
    for name, make in (("abcd1234", os.mkdir), ("efgh5678", os.mkfifo)):
        folder = workdir / "runs" / "2026-01-01" / f"00-00-00-{name}"
        folder.mkdir()
        make(folder / journal.NAME)
    assert [run.id for run in run_index.list_all(workdir / "runs")] == ["aaaa2222"]
    assert call("runs", "list").code == 0


@pytest.mark.parametrize("content", ["[]", '{"number": "x"}', "", "[" * 5000, '{"number": 1, "status": "LOST"}', None])
def test_a_damaged_ledger_entry_affects_only_its_trial(workdir, call, content):
    sweep = run_folders.write_sweep(workdir / "runs", "ssss2222", [0.5, 0.4, 0.3])
    path = sweep / "ledger" / "000001.json"
    path.unlink()
    path.mkdir() if content is None else path.write_text(content)
    trials = Ledger(sweep).read_trials()
    assert [trial.status for trial in trials] == ["FINISHED", "FAILED", "FINISHED"]
    assert "is not a ledger entry" in trials[1].error
    assert call("sweeps", "status", "ssss2222").code == 0
    assert call("sweeps", "list").code == 0


def test_a_wrong_type_in_a_journal_is_named_with_its_place(tmp_path):
    path = tmp_path / journal.NAME
    path.write_text('{"kind": "metrics", "time": 1, "step": 1, "values": {"a": "x"}}\n')
    with pytest.raises(JournalError, match=r"damaged at byte 0: values: expected a number, not text"):
        journal.read_records(path)
