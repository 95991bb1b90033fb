"""Temporary folders: those of killed processes are deleted by the next one, all others are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile

import pytest

from expfw.system import temporary_folders

USE = """
import pathlib, sys, tempfile
from expfw.system import temporary_folders
if len(sys.argv) > 1:
    temporary_folders.mark_used(pathlib.Path(sys.argv[1]))
else:
    temporary_folders.use_process_folder()
    tempfile.mkdtemp()
print(tempfile.gettempdir(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def start(tmp_path):
    """Starts a process that uses its folder in `tmp_path`, or a given one, until it reads a line.

    Returns the process and the folder.
    """
    processes = []

    def start_process(*folder):
        process = subprocess.Popen(
            [sys.executable, "-c", USE, *folder],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process, process.stdout.readline().strip()

    yield start_process
    for process in processes:
        process.kill()
        process.communicate()


def test_a_process_deletes_its_folder_at_its_end_and_the_next_one_those_of_killed_processes(tmp_path, start):
    (ended, _), (killed, killed_folder), (_, running_folder) = (start() for _ in range(3))
    assert ended.communicate("\n") == ("", None)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert {str(path) for path in tmp_path.iterdir()} == {killed_folder, running_folder}
    _, folder = start()
    assert {str(path) for path in tmp_path.iterdir()} == {running_folder, folder}


def test_a_folder_is_kept_until_its_last_process_has_ended(start):
    creator, folder = start()
    other, _ = start(folder)
    for process, is_kept in ((creator, True), (other, False)):
        process.kill()
        process.wait()
        start()
        assert os.path.exists(folder) is is_kept


def test_only_folders_that_were_marked_as_used_are_deleted(tmp_path):
    for name in ("expfw-project", "expfw-marked", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "expfw-file").touch()
    (tmp_path / "other" / temporary_folders.LOCK_FILE).touch()
    (tmp_path / "expfw-marked" / temporary_folders.LOCK_FILE).touch()
    (tmp_path / "expfw-link").symlink_to(tmp_path / "other")
    temporary_folders.remove_abandoned(tmp_path, "expfw-", is_needed=lambda folder: True)
    assert (tmp_path / "expfw-marked").exists()
    with temporary_folders.temporary_folder(tmp_path, "expfw-") as folder:
        assert folder.parent == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {"expfw-project", "expfw-file", "expfw-link", "other"}


def test_a_folder_that_cannot_be_written_is_left_to_the_commands_that_need_it(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    temporary_folders.get_process_folder.cache_clear()
    temporary_folders.use_process_folder()
    assert tempfile.tempdir == "/nowhere"
    with pytest.raises(temporary_folders.RunsFolderError, match="cannot write temporary files: No such file"):
        temporary_folders.get_process_folder()
