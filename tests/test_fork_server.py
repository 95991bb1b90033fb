"""The server that forks trials: begun before anybody knows what for, told later; and what it imports meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest
from waiting import wait_for

from expfw import likely_backend

BEGUN = """
import multiprocessing, os, signal, sys
from multiprocessing import forkserver
from pathlib import Path
from expfw import fork_server

log = Path("log.txt")
fork_server.begin(["backend=nonsense"])
server = forkserver._forkserver._forkserver_pid
"""

USED = """
import told
fork_server.tell(["told", "not_there"], log)
process = multiprocessing.get_context("forkserver").Process(target=told.report)
process.start()
process.join()
"""

TOLD = """
import os
IMPORTED_BY = os.getpid()
print("noise of an import", flush=True)

def report():
    open("report.txt", "w").write(f"{IMPORTED_BY} {os.getpid()} {os.getppid()}")
"""


@pytest.fixture
def script(tmp_path):
    """Runs a script behind BEGUN in a folder, its imports told of; returns how it ended."""
    (tmp_path / "told.py").write_text(TOLD)

    def call(behind: str):
        options = ["-X", "importtime", "-c", BEGUN + behind]  # the server writes what it imports, from the beginning
        surroundings = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(tmp_path)}
        return subprocess.run(
            [sys.executable, *options], cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=60
        )

    return call


@pytest.fixture
def left(tmp_path):
    """The folders of servers that are left."""
    return lambda: list(tmp_path.glob("expfw-server-*"))


def test_what_it_is_told_is_imported_before_the_fork_and_all_it_writes_goes_to_the_log(script, tmp_path, left):
    done = script(USED)
    assert done.returncode == 0, done.stderr
    imported_by, process, server = (tmp_path / "report.txt").read_text().split()
    assert imported_by == server != process
    log = (tmp_path / "log.txt").read_text()
    assert log.count("noise of an import") == 1
    assert log.index("expfw.warming") < log.index("noise of an import"), "what it wrote before it knew where to"
    assert not left()


def test_it_ends_with_a_command_that_was_killed_before_it_said_what_for(script, left):
    done = script("print(server, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == -signal.SIGKILL
    server = int(done.stdout)
    wait_for(lambda: not psutil.pid_exists(server) or psutil.Process(server).status() == psutil.STATUS_ZOMBIE)
    assert not left()


def test_it_ends_with_a_command_that_refuses_what_was_typed(script, left):
    done = script("print(server, flush=True)\nsys.exit(2)")
    assert done.returncode == 2
    server = int(done.stdout)
    wait_for(lambda: not psutil.pid_exists(server) or psutil.Process(server).status() == psutil.STATUS_ZOMBIE)
    assert not left()


def test_the_log_has_what_it_wrote_where_it_died_before_it_was_told(script, tmp_path):
    done = script(
        "os.waitpid(server, os.WNOHANG)\n"
        "import time\n"
        "output = fork_server._begun.folder / 'output'\n"
        "while 'expfw.fork_server' not in output.read_text(): time.sleep(0.05)\n"
        "os.kill(server, signal.SIGKILL)\n"
        "fork_server.last_words(log)"
    )
    assert done.returncode == 0, done.stderr
    assert "expfw.fork_server" in (tmp_path / "log.txt").read_text()


def test_the_log_says_why_it_died_of_what_it_was_told(script, tmp_path):
    (tmp_path / "told.py").write_text("raise RuntimeError('as told')")
    process = "multiprocessing.get_context('forkserver').Process(target=print).start()"
    done = script(f"fork_server.tell(['told'], log)\n{process}")
    assert done.returncode == 1
    assert "EOFError" in done.stderr or "ConnectionError" in done.stderr or "Reset" in done.stderr
    assert "RuntimeError: as told" in (tmp_path / "log.txt").read_text()


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A working directory with an experiment of its own."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "gpu.yaml").write_text("# @package _global_\ndefaults:\n  - override /backend: tf-gpu\n")
    (folder / "none.yaml").write_text("# @package _global_\ndefaults:\n  - override /backend: not-there\n")
    (folder / "plain.yaml").write_text("# @package _global_\ntrain: {epochs: 2}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "likely"),
    [
        (["model.units=1,2"], "tf-cpu"),
        (["backend=mirrored", "experiment=gpu"], "mirrored"),
        (["experiment=gpu"], "tf-gpu"),
        (["experiment=cnn_multi_device"], "mirrored"),
        (["experiment=plain"], "tf-cpu"),
        (["experiment=gpu,plain"], "tf-cpu"),
        (["backend=tf-cpu,mirrored"], None),
        (["~backend"], None),
    ],
)
def test_the_likely_backend_is_the_one_that_will_be_composed(conf, words, likely):
    assert next(likely_backend._names(words), None) == likely


@pytest.mark.parametrize("words", [[], ["backend=not-there"], ["experiment=none"], ["backend=tf-cpu,mirrored"]])
def test_nothing_is_imported_where_it_cannot_be_told(conf, words):
    assert not likely_backend.modules_for(words)


def test_what_the_likely_backend_needs_is_imported(conf):
    assert "tensorflow" in likely_backend.modules_for(["model.units=1,2"])


def test_one_that_is_switched_off_is_not_imported(conf, monkeypatch):
    monkeypatch.setenv("EXPFW_DISABLE_PLUGINS", "tf-cpu")
    assert not likely_backend.modules_for(["model.units=1,2"])
