"""The shipper: every record is delivered once and in order, even if the tracker fails."""

from __future__ import annotations

import itertools
import json

import pytest
from filelock import Timeout

import expfw
from expfw.system import process_lock
from expfw.tracking import journal
from expfw.tracking.shipper import delivery as deliveries
from expfw.tracking.shipper.delivery import Delivery, TrackerWorker


class Memory(expfw.Tracker):
    """A tracker that stores steps in memory; fails as often as `failures` says, or if `on_ship` raises."""

    def __init__(self, on_ship=lambda folder, state: None):
        super().__init__(None, "memory")
        self.steps, self.opened, self.on_ship = [], 0, on_ship
        self.failures = {"open": 0, "ship": 0}

    def open(self, runs_dir):
        self._maybe_fail("open")
        self.opened += 1

    def ship(self, folder, state, records):
        self._maybe_fail("ship")
        self.on_ship(folder, state)
        state["count"] = state.get("count", 0) + len(records)
        self.steps += [r.get("step", r["kind"]) for r in records]

    def _maybe_fail(self, method):
        if self.failures[method]:
            self.failures[method] -= 1
            raise ConnectionError(f"the server rejects {method}")


def raise_error(error):
    raise error


@pytest.fixture
def run_folder(tmp_path):
    """Folder of a run that is running in this process."""
    folder = tmp_path / "run"
    folder.mkdir()
    with journal.Journal(folder / journal.NAME) as record:
        record.write("run_started", id="x", name="x", step=-1)
        for step in range(5):
            record.write("metrics", step=step)
    with process_lock.lock_folder(folder):
        yield folder


FIELDS = {"run_started": {"id": "x", "name": "x"}, "run_ended": {"status": "FINISHED"}}


def append(folder, *kinds):
    with journal.Journal(folder / journal.NAME) as record:
        for kind in kinds:
            record.write(kind, **FIELDS.get(kind, {}))


def test_the_death_of_a_process_is_left_to_a_command_that_still_runs(tmp_path):
    append(tmp_path, "run_started")
    tracker = Memory()
    delivery = Delivery("memory", tracker, tmp_path)
    for _ in range(2):
        delivery.deliver_portion(command_ended=False)
    assert (tracker.steps, delivery.is_complete) == (["run_started"], False)
    append(tmp_path, "run_ended")  # the command records the end
    delivery.deliver_portion(command_ended=False)
    assert (tracker.steps, delivery.is_complete) == (["run_started", "run_ended"], True)


def test_new_records_are_delivered_once_and_progress_is_saved(run_folder):
    tracker = Memory()
    delivery = Delivery("memory", tracker, run_folder)
    assert [delivery.deliver_portion(), delivery.deliver_portion()] == [True, False]
    append(run_folder, "more")
    delivery.deliver_portion()
    assert tracker.steps == [-1, 0, 1, 2, 3, 4, "more"]
    assert not delivery.is_complete
    append(run_folder, "run_ended")
    delivery.deliver_portion()
    assert delivery.is_complete
    progress = json.loads((run_folder / "tracking" / "memory.json").read_text())
    size = (run_folder / journal.NAME).stat().st_size
    assert progress == {"offset": size, "complete": True, "destination": "", "state": {"count": 8}}


def test_the_next_process_continues_the_delivery(run_folder):
    first = Delivery("memory", Memory(), run_folder)
    first.deliver_portion()
    first._lock.release()
    append(run_folder, "run_ended")
    tracker = Memory()
    second = Delivery("memory", tracker, run_folder)
    second.deliver_portion()
    assert tracker.steps == ["run_ended"]
    assert second.state == {"count": 7}


def test_failed_deliveries_are_retried_and_nothing_is_lost(run_folder, tmp_path, monkeypatch, caplog):
    clock = [0.0]
    monkeypatch.setattr(deliveries.time, "monotonic", lambda: clock[0])
    tracker = Memory()
    tracker.failures = {"open": 3, "ship": 2}
    worker = TrackerWorker("memory", tracker, tmp_path)
    append(run_folder, "run_ended")
    attempts = []
    while worker.list_undelivered({"note": run_folder}):
        before = dict(tracker.failures)
        worker.deliver({"note": run_folder})
        if tracker.failures != before:
            attempts.append(clock[0])
        clock[0] += 0.25
        assert clock[0] < 60
    assert tracker.steps == [-1, 0, 1, 2, 3, 4, "run_ended"]
    assert tracker.opened == 1
    assert [later - earlier for earlier, later in itertools.pairwise(attempts[:3])] == [0.5, 1.0]  # the pause doubles
    assert "the server rejects open" in caplog.text


@pytest.mark.parametrize("error", [ValueError("invalid name"), ConnectionError("this run only")])
def test_a_journal_that_cannot_be_delivered_does_not_delay_others(tmp_path, error):
    notes = {name: tmp_path / name for name in ("bad", "good")}
    for folder in notes.values():
        folder.mkdir()
        append(folder, "run_started", "run_ended")
    picky = Memory(lambda folder, state: raise_error(error) if folder.name == "bad" else None)
    worker = TrackerWorker("picky", picky, tmp_path)
    worker.deliver(notes)
    worker.backoff.next_try = 0.0  # end the pause of the tracker
    worker.deliver(notes)
    assert worker.tracker.steps == ["run_started", "run_ended"]
    assert worker.list_undelivered(notes)


def test_state_that_is_not_json_is_reported_and_delivered_again(run_folder, tmp_path):
    append(run_folder, "run_ended")
    worker = TrackerWorker("odd", Memory(lambda folder, state: state.update(odd=object())), tmp_path)
    worker.deliver({"note": run_folder})
    assert "TypeError" in worker.list_undelivered({"note": run_folder})[str(run_folder)]


def test_state_and_position_are_saved_together(run_folder, monkeypatch):
    delivery = Delivery("memory", Memory(), run_folder)
    with monkeypatch.context() as patch:
        patch.setattr(deliveries.DeliveryProgress, "write", lambda *arguments: raise_error(OSError(28, "no space")))
        with pytest.raises(OSError, match="no space"):
            delivery.deliver_portion()
    delivery.deliver_portion()
    assert delivery.state == {"count": 6}  # although the first record was delivered twice


def test_a_failed_tracker_does_not_affect_other_trackers(run_folder, tmp_path):
    errors = {SystemExit(3): "SystemExit: 3", ConnectionError("no answer"): "no answer", Timeout("a.lock"): "a.lock"}
    for error, message in errors.items():
        worker = TrackerWorker(f"fails-{message}", Memory(lambda folder, state, e=error: raise_error(e)), tmp_path)
        other = TrackerWorker(type(error).__name__, Memory(), tmp_path)
        for each in (worker, other):
            each.deliver({"note": run_folder})
        assert message in worker.list_undelivered({"note": run_folder})[str(run_folder)]
        assert other.tracker.steps


def test_only_one_process_delivers_a_journal_at_a_time(run_folder, tmp_path):
    mine = Delivery("memory", Memory(), run_folder)
    mine.deliver_portion()
    other = TrackerWorker("memory", Memory(), tmp_path)
    other.deliver({"note": run_folder})
    assert other.tracker.steps == []
    append(run_folder, "run_ended")
    mine.deliver_portion()
    assert other.list_undelivered({"note": run_folder})
    other.deliver({"note": run_folder})
    assert other.tracker.steps == []
    assert not other.list_undelivered({"note": run_folder})  # the first worker has delivered everything


def test_a_run_resumed_during_delivery_is_delivered_to_its_end(run_folder, tmp_path):
    """The shipper of a killed command is still delivering when another command resumes the run."""
    first, second = Delivery("memory", Memory(), run_folder), TrackerWorker("memory", Memory(), tmp_path)
    first.deliver_portion()
    second.deliver({"note": run_folder})
    append(run_folder, "run_ended")  # for example KILLED
    first.deliver_portion()
    append(run_folder, "run_resumed", "more", "run_ended")
    while second.list_undelivered({"note": run_folder}):
        second.deliver({"note": run_folder})
    assert second.tracker.steps == ["run_resumed", "more", "run_ended"]


def test_a_killed_run_is_delivered_with_an_interrupted_record(tmp_path):
    append(tmp_path, "run_started")
    tracker = Memory()
    delivery = Delivery("memory", tracker, tmp_path)
    while not delivery.is_complete:
        delivery.deliver_portion()
    assert tracker.steps == ["run_started", "interrupted"]
    assert [record["kind"] for record in journal.read_records(tmp_path / journal.NAME)[0]] == ["run_started"]
