"""Lock of a run folder: one process at a time, identified independently of the clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import psutil
import pytest
from support.processes import wait_for

import expfw
from expfw.api.run_config import RunConfig
from expfw.redaction import HIDDEN
from expfw.system import process_lock
from expfw.tracking import journal, run_index, run_record
from expfw.tracking.recorded_run import record_death

HOLD = """
import pathlib, sys, time
from expfw.system import process_lock
with process_lock.lock_folder(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Returns another process that has locked the folder."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_process_cannot_lock_a_folder_and_the_error_names_the_first(tmp_path, holder):
    message = f"is being written by process {holder.pid} on "
    with pytest.raises(expfw.RunsFolderError, match=message), process_lock.lock_folder(tmp_path):
        pass
    assert process_lock.has_live_process(tmp_path)
    holder.kill()
    holder.wait()
    assert (tmp_path / process_lock.PROCESS_FILE).exists()
    assert not process_lock.has_live_process(tmp_path)
    with process_lock.lock_folder(tmp_path):  # the lock of a killed process is released
        assert process_lock.has_live_process(tmp_path)


def test_a_process_that_has_ended_without_being_waited_for_is_not_alive():
    with subprocess.Popen(["sleep", "60"]) as process:
        identity = process_lock.identify_process(process.pid)
        assert process_lock.is_alive(identity)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not process_lock.is_alive(identity)


def test_a_process_is_alive_until_its_last_thread_has_ended():
    end_first_thread = """
import ctypes, os, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    with subprocess.Popen([sys.executable, "-c", end_first_thread]) as process:
        wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        assert process_lock.is_alive(process_lock.identify_process(process.pid))
        process.kill()
        process.wait()


def test_the_death_of_a_run_is_not_recorded_while_its_process_lives(tmp_path, holder):
    config = RunConfig(model={"plugin": "ols"}, dataset={"plugin": "line"}, backend={"plugin": "tf-cpu"})
    with journal.Journal(tmp_path / journal.NAME) as record:
        record.write("run_started", id="x", name="x", **run_record.make_config_record(config))
    (tmp_path / "log.txt").write_text("native: Bearer abc123")
    record_death(tmp_path, "killed")
    assert len(journal.read_records(tmp_path / journal.NAME)[0]) == 1
    (tmp_path / process_lock.PROCESS_FILE).rename(tmp_path / "hidden")  # it has just started
    record_death(tmp_path, "killed")
    assert len(journal.read_records(tmp_path / journal.NAME)[0]) == 1
    (tmp_path / "hidden").rename(tmp_path / process_lock.PROCESS_FILE)
    assert "abc123" in (tmp_path / "log.txt").read_text()
    holder.kill()
    holder.wait()
    for _ in range(2):
        record_death(tmp_path, "killed")
    last = journal.read_records(tmp_path / journal.NAME)[0][1:]
    assert [(r["kind"], r["status"], r["error"]) for r in last] == [("run_ended", "FAILED", "killed")]
    assert (tmp_path / "log.txt").read_text() == f"native: Bearer {HIDDEN}"


def test_the_death_of_a_run_that_has_no_folder_creates_none(tmp_path):
    record_death(tmp_path / "absent", "killed")
    assert not (tmp_path / "absent").exists()


def change_identity(folder, **values):
    path = folder / process_lock.PROCESS_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("change", [{"started": 1.0}, {"boot": "another"}, {"pid": 2**22 + 1}])
def test_a_process_is_identified_by_more_than_its_id(tmp_path, change):
    """Its ID may be reused, also after a reboot."""
    with process_lock.lock_folder(tmp_path):
        change_identity(tmp_path, **change)
        assert not process_lock.has_live_process(tmp_path)


@pytest.mark.parametrize("shift", [-86_400, 86_400])
def test_a_changed_clock_does_not_affect_the_identification_on_this_machine(tmp_path, monkeypatch, shift):
    with process_lock.lock_folder(tmp_path):
        later = time.time() + shift
        monkeypatch.setattr(time, "time", lambda: later)
        assert process_lock.has_live_process(tmp_path)


def test_a_process_on_another_machine_is_identified_by_its_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr(process_lock, "HEARTBEAT_SECONDS", 0.05)
    with process_lock.lock_folder(tmp_path):
        change_identity(tmp_path, host="another", pid=1)
        assert process_lock.has_live_process(tmp_path)
        long_ago = time.time() - 3600
        os.utime(tmp_path / process_lock.PROCESS_FILE, (long_ago, long_ago))
        time.sleep(0.5)
        assert process_lock.has_live_process(tmp_path)  # the heartbeat has touched the file
        content = (tmp_path / process_lock.PROCESS_FILE).read_text()
    (tmp_path / process_lock.PROCESS_FILE).write_text(content)
    os.utime(tmp_path / process_lock.PROCESS_FILE, (long_ago, long_ago))
    assert not process_lock.has_live_process(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"pid": "x"}', "3"])
def test_a_damaged_process_file_means_no_live_process(tmp_path, content):
    (tmp_path / process_lock.PROCESS_FILE).write_text(content)
    assert not process_lock.has_live_process(tmp_path)


def test_a_locked_run_is_running_and_an_unlocked_run_is_interrupted(tmp_path):
    for name in ("one", "two"):
        folder = tmp_path / "day" / name
        folder.mkdir(parents=True)
        with process_lock.lock_folder(folder), journal.Journal(folder / journal.NAME) as record:
            record.write("run_started", id=name, name="x")
    with process_lock.lock_folder(tmp_path / "day" / "one"):
        assert {e.id: e.status for e in run_index.list_runs(tmp_path)} == {"one": "RUNNING", "two": "INTERRUPTED"}


def test_a_lock_does_not_write_through_a_link(tmp_path):
    folder, victim = tmp_path / "run", tmp_path / "victim.txt"
    folder.mkdir()
    victim.write_text("unchanged")
    (folder / f".{process_lock.PROCESS_FILE}.new").symlink_to(victim)
    with process_lock.lock_folder(folder):
        assert process_lock.has_live_process(folder)
    assert victim.read_text() == "unchanged"
