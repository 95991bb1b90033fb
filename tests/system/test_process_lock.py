"""Which process writes to a folder: one at a time, and known whatever the clock does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

import expfw
from expfw.system import process_lock
from expfw.tracking import journal, run_index

HOLD = """
import pathlib, sys, time
from expfw.system import process_lock
with process_lock.lock_folder(pathlib.Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that keeps the folder."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout.readline() == "mine\n"
        yield started
        started.kill()


def test_a_folder_has_one_writer_at_a_time_and_the_error_says_who(tmp_path, holder):
    said = f"is being written by process {holder.pid} on "
    with pytest.raises(expfw.RunsFolderError, match=said), process_lock.lock_folder(tmp_path):
        pass
    assert process_lock.has_live_process(tmp_path)
    holder.kill()
    holder.wait()
    assert (tmp_path / process_lock.PROCESS_FILE).exists()
    assert not process_lock.has_live_process(tmp_path)
    with process_lock.lock_folder(tmp_path):  # its lock died with it
        assert process_lock.has_live_process(tmp_path)


def changed(folder, **values):
    path = folder / process_lock.PROCESS_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_process_is_known_by_more_than_its_number(tmp_path):
    with process_lock.lock_folder(tmp_path):
        changed(tmp_path, started=1.0)  # the number was given away again
        assert not process_lock.has_live_process(tmp_path)
    with process_lock.lock_folder(tmp_path):
        changed(tmp_path, boot="another")  # the machine was started again
        assert not process_lock.has_live_process(tmp_path)
    with process_lock.lock_folder(tmp_path):
        changed(tmp_path, pid=2**22 + 1)
        assert not process_lock.has_live_process(tmp_path)


@pytest.mark.parametrize("shift", [-86_400, 86_400])
def test_a_clock_that_jumps_changes_nothing_on_this_machine(tmp_path, monkeypatch, shift):
    with process_lock.lock_folder(tmp_path):
        later = time.time() + shift
        monkeypatch.setattr(time, "time", lambda: later)
        assert process_lock.has_live_process(tmp_path)


def test_on_another_machine_a_process_is_known_by_its_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr(process_lock, "HEARTBEAT_SECONDS", 0.05)
    with process_lock.lock_folder(tmp_path):
        changed(tmp_path, host="another", pid=1)
        assert process_lock.has_live_process(tmp_path)
        long_ago = time.time() - 3600
        os.utime(tmp_path / process_lock.PROCESS_FILE, (long_ago, long_ago))
        time.sleep(0.5)
        assert process_lock.has_live_process(tmp_path)  # it beats
        kept = (tmp_path / process_lock.PROCESS_FILE).read_text()
    (tmp_path / process_lock.PROCESS_FILE).write_text(kept)
    os.utime(tmp_path / process_lock.PROCESS_FILE, (long_ago, long_ago))
    assert not process_lock.has_live_process(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"pid": "x"}', "3"])
def test_a_damaged_note_is_nobody(tmp_path, content):
    (tmp_path / process_lock.PROCESS_FILE).write_text(content)
    assert not process_lock.has_live_process(tmp_path)


def test_status_of_a_run_that_goes_on_and_of_one_whose_process_is_gone(tmp_path):
    for name in ("one", "two"):
        folder = tmp_path / "day" / name
        folder.mkdir(parents=True)
        with process_lock.lock_folder(folder), journal.Journal(folder / journal.NAME) as record:
            record.write("run_started", id=name, name="x")
    with process_lock.lock_folder(tmp_path / "day" / "one"):
        assert {e.id: e.status for e in run_index.list_runs(tmp_path)} == {"one": "RUNNING", "two": "INTERRUPTED"}
