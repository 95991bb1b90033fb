"""The journal: flushed records are kept, incomplete lines are skipped, damage is reported."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

from expfw.errors import JournalError, RunsFolderError
from expfw.system import process_lock
from expfw.tracking import journal, run_folders, run_index


@pytest.fixture
def path(tmp_path):
    return tmp_path / journal.NAME


def test_records_are_read_in_order_with_kind_and_time(path):
    with journal.Journal(path) as record:
        record.write("a", value=1.5, path=path)
        record.write("metrics", step=1, values={"b": float("nan")})
    first, second = journal.read_records(path)[0]
    assert (first["kind"], first["value"], first["path"]) == ("a", 1.5, str(path))
    assert math.isnan(second["values"]["b"])
    assert first["time"] <= second["time"]


def test_the_tail_of_a_growing_journal_is_read(path):
    tail = journal.JournalTail(path)
    assert tail.read_new() == []  # no journal yet
    with journal.Journal(path) as record:
        for kind in ("a", "b"):
            record.write(kind)
            record.flush()
            assert [r["kind"] for r in tail.read_new()] == [kind]
            assert tail.read_new() == []
        for number in range(100):
            record.write("x", number=number)
        record.flush()
        numbers = [r["number"] for _ in range(2) for r in tail.read_new(limit=200)]
        assert numbers == list(range(numbers[0], 100))
        assert len(numbers) < 20  # only the last records


def test_a_limit_returns_at_least_one_record_and_skips_none(path):
    with journal.Journal(path) as record:
        for number in range(100):
            record.write("x", number=number, text="y" * number)
    numbers, offset = [], 0
    while (read := journal.read_records(path, offset, limit=50))[0]:
        numbers += [record["number"] for record in read[0]]
        offset = read[1]
    assert numbers == list(range(100))


def test_an_incomplete_last_line_is_read_later(path):
    path.write_bytes(b'{"kind": "a", "time": 1}\n{"kind": "b", "ti')
    records, offset = journal.read_records(path)
    assert [r["kind"] for r in records] == ["a"]
    with open(path, "ab") as file:
        file.write(b'me": 2}\n')
    assert [r["kind"] for r in journal.read_records(path, offset)[0]] == ["b"]
    assert journal.read_first_and_last(path)[1]["kind"] == "b"


@pytest.mark.parametrize("line", [b"not json", b"[1]", b'{"time": 1}', b'{"kind": 3}', b"\xff\xfe", b"[" * 5000])
def test_a_damaged_line_is_reported_with_its_offset(path, line):
    path.write_bytes(b'{"kind": "a"}\n' + line + b"\n")
    with pytest.raises(JournalError, match=r"journal\.jsonl is damaged at byte 14"):
        journal.read_records(path)


def test_first_and_last_of_long_records(path):
    with journal.Journal(path) as record:
        record.write("first", text="x" * 10_000)
        record.write("middle")
        record.write("last", text="y" * 100_000)
    first, last = journal.read_first_and_last(path)
    assert (first["kind"], last["kind"], len(last["text"])) == ("first", "last", 100_000)


@pytest.mark.parametrize("content", [b"", b'{"kind": "a"'])
def test_a_journal_without_a_record_is_an_error(path, content):
    path.write_bytes(content)
    with pytest.raises(JournalError, match="no complete record"):
        journal.read_first_and_last(path)
    with pytest.raises(JournalError, match="no journal"):
        journal.read_first_and_last(path.with_name("absent"))


def test_flushed_records_survive_sigkill(path):
    script = (
        "import os, signal, pathlib, sys; from expfw.tracking.journal import Journal\n"
        "j = Journal(pathlib.Path(sys.argv[1]))\n"
        "for i in range(1000): j.write('metrics', step=i)\n"
        "j.flush(); j.write('lost'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [r.get("step") for r in journal.read_records(path)[0]] == list(range(1000))


def test_a_second_journal_is_rejected_and_no_record_is_lost(path):
    with process_lock.lock_folder(path.parent), journal.Journal(path) as record:
        for number in range(3):
            record.write("metrics", step=number)
        record.flush()
        with pytest.raises(RunsFolderError, match=rf"journal\.jsonl is being written by process {os.getpid()} on "):
            journal.Journal(path)
        with open(path, "ab") as file:  # a program without a lock
            file.write(b'{"kind": "other", "text": "' + b"x" * 500 + b'"}\n')
        for number in range(3, 12):
            record.write("metrics", step=number)
    records = journal.read_records(path)[0]
    assert [r["step"] for r in records if r["kind"] == "metrics"] == list(range(12))
    assert [r["kind"] for r in records].count("other") == 1


def test_a_journal_is_unlocked_when_it_is_closed_also_for_a_forked_process(path):
    record = journal.Journal(path)
    process = os.fork()
    if process == 0:
        time.sleep(30)
        os._exit(0)
    try:
        record.close()
        journal.Journal(path).close()
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def test_a_damaged_journal_is_unlocked(path):
    path.write_text("damaged\n")
    for _ in range(2):
        with pytest.raises(JournalError, match="damaged"):
            journal.Journal(path)


class SignalError(Exception):
    pass


@pytest.mark.slow
def test_signals_at_any_moment_neither_lose_nor_duplicate_records(path, monkeypatch):
    def raise_signal(number, frame):
        signals.append(number)
        if time.monotonic() < deadline:
            raise SignalError

    def write():
        while time.monotonic() < deadline:
            try:
                while time.monotonic() < deadline:
                    record.write("metrics", step=next(numbers), text="x" * 100)
            except SignalError:
                pass

    monkeypatch.setattr(journal, "_FLUSH_AFTER_RECORDS", 3)
    previous_handler = signal.signal(signal.SIGALRM, raise_signal)
    signals, numbers = [], itertools.count()
    record = journal.Journal(path)
    deadline = time.monotonic() + 2.0
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    while time.monotonic() < deadline:
        try:  # noqa: SIM105  # `suppress` could be interrupted itself
            write()
        except SignalError:  # raised while another one is handled
            pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous_handler)
    record.close()
    steps = [r["step"] for r in journal.read_records(path)[0]]
    assert steps == sorted(set(steps))
    assert len(signals) > 100
    assert len(steps) >= next(numbers) - len(signals)  # a signal may interrupt a record before it is written


def test_folders_without_a_run_are_skipped(tmp_path):
    (tmp_path / "d" / "notes").mkdir(parents=True)
    (tmp_path / "d" / "broken").mkdir()
    (tmp_path / "d" / "broken" / journal.NAME).write_text("{]\n")
    (tmp_path / "d" / "file").write_text("")
    assert run_index.list_runs(tmp_path) == []
    assert run_index.list_runs(tmp_path / "absent") == []


def test_folders_never_collide(tmp_path):
    folders = {run_folders.make_run_folder(tmp_path, run_folders.make_id()) for _ in range(200)}
    assert len(folders) == 200
    with pytest.raises(RunsFolderError, match=f"cannot create folder {tmp_path}"):
        run_folders.make_folder(tmp_path)


@pytest.mark.parametrize("missing", ["id", "time", "status"])
def test_a_journal_with_a_missing_value_is_skipped_in_lists(tmp_path, missing):
    folder = tmp_path / "2026-01-01" / "00-00-00-abcd1234"
    folder.mkdir(parents=True)
    start = {"kind": "run_started", "id": "abcd1234", "name": "n", "time": 1.0}
    lines = [start, {"kind": "run_ended", "time": 2.0, "status": "FINISHED"}]
    del lines[missing == "status"][missing]
    (folder / journal.NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run_index.list_all(tmp_path) == []
    assert [run.status for run in run_index.list_all(tmp_path, includes_damaged=True)] == ["DAMAGED"]
