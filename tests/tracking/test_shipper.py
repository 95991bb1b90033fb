"""The shipper: everything once and in order, whatever the tracker does."""

from __future__ import annotations

import itertools
import json

import pytest

import expfw
from expfw.system import process_lock
from expfw.tracking import journal
from expfw.tracking.shipper import delivery as deliveries
from expfw.tracking.shipper.delivery import Delivery
from expfw.tracking.shipper.process import TrackerWorker


class Memory(expfw.Tracker):
    """A tracker that remembers; fails as often as told."""

    def __init__(self):
        super().__init__(None, "memory")
        self.got = []
        self.opened = 0
        self.failures = {"open": 0, "ship": 0}

    def open(self, runs_dir):
        self._maybe_fail("open")
        self.opened += 1

    def ship(self, folder, state, records):
        self._maybe_fail("ship")
        state["count"] = state.get("count", 0) + len(records)
        self.got += [r.get("step") for r in records]

    def _maybe_fail(self, what):
        if self.failures[what]:
            self.failures[what] -= 1
            raise ConnectionError(f"the server refuses to {what}")


@pytest.fixture
def run_folder(tmp_path):
    """Of a run that goes on in this process."""
    folder = tmp_path / "run"
    folder.mkdir()
    with journal.Journal(folder / journal.NAME) as record:
        record.write("run_started", id="x", name="x", step=-1)
        for step in range(5):
            record.write("metrics", step=step)
    with process_lock.lock_folder(folder):
        yield folder


def append(folder, *kinds):
    with journal.Journal(folder / journal.NAME) as record:
        for kind in kinds:
            record.write(kind, step=kind)


def test_what_is_new_is_delivered_once_and_the_place_is_kept_on_disk(run_folder):
    tracker = Memory()
    delivery = Delivery("memory", tracker, run_folder)
    assert delivery.deliver_portion()
    assert not delivery.deliver_portion()
    append(run_folder, "more")
    delivery.deliver_portion()
    assert tracker.got == [-1, 0, 1, 2, 3, 4, "more"]
    assert not delivery.is_complete
    append(run_folder, "run_ended")
    delivery.deliver_portion()
    assert delivery.is_complete
    kept = json.loads((run_folder / "tracking" / "memory.json").read_text())
    size = (run_folder / journal.NAME).stat().st_size
    assert kept == {"offset": size, "complete": True, "destination": "", "state": {"count": 8}}


def test_the_next_process_goes_on_where_the_last_one_stopped(run_folder):
    first = Delivery("memory", Memory(), run_folder)
    first.deliver_portion()
    first._lock.release()
    append(run_folder, "run_ended")
    tracker = Memory()
    second = Delivery("memory", tracker, run_folder)
    second.deliver_portion()
    assert tracker.got == ["run_ended"]
    assert second.state == {"count": 7}


def test_what_failed_comes_again_and_nothing_is_lost(run_folder, tmp_path, monkeypatch, caplog):
    clock = [0.0]
    monkeypatch.setattr(deliveries.time, "monotonic", lambda: clock[0])
    tracker = Memory()
    tracker.failures = {"open": 3, "ship": 2}
    lane = TrackerWorker("memory", tracker, tmp_path)
    append(run_folder, "run_ended")
    tries = []
    while not lane.is_finished({"note": run_folder}):
        before = dict(tracker.failures)
        lane.deliver({"note": run_folder})
        if tracker.failures != before:
            tries.append(clock[0])
        clock[0] += 0.25
        assert clock[0] < 60
    assert tracker.got == [-1, 0, 1, 2, 3, 4, "run_ended"]
    assert tracker.opened == 1
    assert [later - earlier for earlier, later in itertools.pairwise(tries[:3])] == [0.5, 1.0]  # backs off
    assert "the server refuses to open" in caplog.text


@pytest.mark.parametrize("error", [ValueError("a name it does not take"), ConnectionError("out of order for this one")])
def test_a_journal_that_cannot_be_delivered_costs_no_other_anything(tmp_path, error):
    class Picky(Memory):
        def ship(self, folder, state, records):
            if folder.name == "bad":
                raise error
            super().ship(folder, state, records)

    notes = {}
    for name in ("bad", "good"):
        (tmp_path / name).mkdir()
        append(tmp_path / name, "run_started", "run_ended")
        notes[name] = tmp_path / name
    lane = TrackerWorker("picky", Picky(), tmp_path)
    lane.deliver(notes)
    lane.backoff.next_try = 0.0  # a pause of the whole lane is over
    lane.deliver(notes)
    assert lane.tracker.got == ["run_started", "run_ended"]
    assert not lane.is_finished(notes)


def test_what_cannot_be_kept_in_mind_is_said_and_comes_again(run_folder, tmp_path):
    class Odd(Memory):
        def ship(self, folder, state, records):
            super().ship(folder, state, records)
            state["odd"] = object() if len(self.got) < 6 else 1

    append(run_folder, "run_ended")
    lane = TrackerWorker("odd", Odd(), tmp_path)
    lane.deliver({"note": run_folder})
    assert "TypeError" in lane.list_undelivered({"note": run_folder})[str(run_folder)]
    assert not lane.is_finished({"note": run_folder})


def test_a_tracker_that_exits_or_is_away_costs_the_others_nothing(run_folder, tmp_path):
    class Exits(Memory):
        error = SystemExit(3)

        def ship(self, folder, state, records):
            raise self.error

    for error, said in ((SystemExit(3), "SystemExit: 3"), (ConnectionError("http://x is away"), "http://x is away")):
        lane, other = TrackerWorker("exits", Exits(), tmp_path), TrackerWorker(type(error).__name__, Memory(), tmp_path)
        lane.tracker.error = error
        for one in (lane, other):
            one.deliver({"note": run_folder})
        assert said in lane.list_undelivered({"note": run_folder})[str(run_folder)]
        assert other.tracker.got
        for one in (lane, other):
            one.deliveries["note"]._lock.release()


def test_a_journal_has_one_deliverer_at_a_time(run_folder, tmp_path):
    mine = Delivery("memory", Memory(), run_folder)
    other = TrackerWorker("memory", Memory(), tmp_path)
    other.deliver({"note": run_folder})
    assert other.tracker.got == []
    append(run_folder, "run_ended")
    while mine.deliver_when_due():
        pass
    assert not other.is_finished({"note": run_folder})
    other.deliver({"note": run_folder})
    assert other.tracker.got == []
    assert other.is_finished({"note": run_folder})  # the first has delivered everything


def test_a_run_that_went_on_while_its_interruption_was_delivered_is_followed_to_its_end(run_folder, tmp_path):
    """The shipper of a killed command is still at work when the run is resumed by another command."""
    first, second = Delivery("memory", Memory(), run_folder), TrackerWorker("memory", Memory(), tmp_path)
    second.deliver({"note": run_folder})
    append(run_folder, "run_ended")  # KILLED, say
    while first.deliver_when_due():
        pass
    append(run_folder, "run_resumed", "more", "run_ended")
    while not second.is_finished({"note": run_folder}):
        second.deliver({"note": run_folder})
    assert second.tracker.got == ["run_resumed", "more", "run_ended"]


def test_a_run_whose_process_died_is_delivered_to_its_last_record_and_said_to_be_interrupted(tmp_path):
    folder = tmp_path / "died"
    folder.mkdir()
    with journal.Journal(folder / journal.NAME) as record:
        record.write("run_started", id="x", name="x", step=0)
    kinds = []

    class Kinds(Memory):
        def ship(self, folder, state, records):
            kinds.extend(r["kind"] for r in records)

    delivery = Delivery("kinds", Kinds(), folder)
    while delivery.deliver_when_due():
        pass
    assert kinds == ["run_started", "interrupted"]
    assert delivery.is_complete
    assert [r["kind"] for r in journal.read_records(folder / journal.NAME)[0]] == [
        "run_started"
    ]  # only a run writes there
