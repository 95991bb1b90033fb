"""The server that forks trials: begun before anybody knows what for, told later; and what it imports meanwhile."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import psutil
import pytest
from support.waiting import wait_for

from expfw.plugins import entry
from expfw.plugins.catalogue import get_catalogue
from expfw.sweeps.local import backend_guess
from expfw_backends.tf_cpu import TfCpu

BEGUN = """
import multiprocessing, os, signal, sys, time
from multiprocessing import forkserver
from pathlib import Path
from expfw.sweeps.local import fork_server

log = Path("log.txt")
fork_server.start_early(["backend=nonsense"])
server = forkserver._forkserver._forkserver_pid
print(server, flush=True)
"""

TELL = """
fork_server.ensure_running(["told", "not_there"], log)
"""

USE = """
import told
process = multiprocessing.get_context("forkserver").Process(target=told.report)
process.start()
process.join()
"""

KILL = """
os.kill(server, signal.SIGKILL)
os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
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
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "told.py").write_text(TOLD)

    def call(behind: str, path: str = str(modules)):
        options = ["-X", "importtime", "-c", BEGUN + behind]  # the server writes what it imports, from the beginning
        surroundings = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": path}
        return subprocess.run(
            [sys.executable, *options], cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=60
        )

    return call


@pytest.fixture
def left(tmp_path):
    """The folders of servers that are left."""
    return lambda: list(tmp_path.glob("expfw-server-*"))


def gone(process):
    """Whether it has ended."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def imported_before_the_fork(tmp_path):
    """The server that imported what it was told, and forked a process."""
    imported_by, process, server = (tmp_path / "report.txt").read_text().split()
    assert imported_by == server != process
    return server


def test_what_it_is_told_is_imported_before_the_fork_and_all_it_writes_goes_to_the_log(script, tmp_path, left):
    done = script(TELL + USE)
    assert done.returncode == 0, done.stderr
    assert imported_before_the_fork(tmp_path) == done.stdout.splitlines()[0]
    log = (tmp_path / "log.txt").read_text()
    assert log.count("noise of an import") == 1
    assert log.index("expfw.plugins.catalogue") < log.index("noise of an import"), (
        "what it wrote before it knew where to"
    )
    assert not left()


@pytest.mark.parametrize("killed_at", ["before", "behind"])
def test_one_that_died_is_started_anew_as_well_informed(script, tmp_path, killed_at):
    (tmp_path / "safetensors.py").write_text("raise RuntimeError('imported from the working directory')")
    whole = KILL + TELL + USE if killed_at == "before" else TELL + USE + KILL + TELL + USE
    done = script(whole, path=str(tmp_path / "modules"))
    assert done.returncode == 0, done.stderr
    assert imported_before_the_fork(tmp_path) != done.stdout.splitlines()[0]
    assert "noise of an import" in (tmp_path / "log.txt").read_text()
    assert done.stdout.count("noise of an import") == 1, "that of the script, and not of the server"


def test_it_is_started_when_it_is_told_where_there_can_be_no_pipe(script, tmp_path):
    (tmp_path / "modules" / "sitecustomize.py").write_text(
        "import os\ndef no(path): raise PermissionError(path)\nos.mkfifo = no"
    )
    done = script(TELL + USE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "None"
    imported_before_the_fork(tmp_path)


@pytest.mark.parametrize(
    ("end", "code"),
    [("os.kill(os.getpid(), signal.SIGKILL)", -9), ("sys.exit(2)", 2), ("fork_server.dismiss_early(); os._exit(0)", 0)],
)
def test_it_ends_with_a_command_that_never_said_what_for(script, left, end, code):
    done = script(end)
    assert done.returncode == code
    server = int(done.stdout)
    wait_for(lambda: gone(server))
    assert not left()


def test_the_log_says_why_it_died_of_what_it_was_told(script, tmp_path):
    (tmp_path / "modules" / "told.py").write_text("raise RuntimeError('as told')")
    done = script(TELL + "multiprocessing.get_context('forkserver').Process(target=print).start()")
    assert done.returncode == 1
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
        (["backend.threads=1", "++backend.precision=float64"], "tf-cpu"),
        (["backend=tf-cpu,mirrored"], None),
        (["~backend"], None),
        (["+backend@other=tf-cpu"], None),
    ],
)
def test_the_likely_backend_is_the_one_that_will_be_composed(conf, words, likely):
    assert next(backend_guess._find_backend_names(words), None) == likely


@pytest.mark.parametrize("words", [[], ["backend=not-there"], ["experiment=none"], ["backend=tf-cpu,mirrored"]])
def test_nothing_is_imported_where_it_cannot_be_told(conf, words):
    assert not backend_guess.get_likely_modules(words)


def test_what_the_likely_backend_needs_is_imported(conf):
    assert "tensorflow" in backend_guess.get_likely_modules(["model.units=1,2"])


def test_one_that_is_switched_off_is_not_imported(conf, monkeypatch):
    monkeypatch.setenv("EXPFW_DISABLE_PLUGINS", "tf-cpu")
    assert not backend_guess.get_likely_modules(["model.units=1,2"])


def test_one_of_another_distribution_is_not_imported(conf, monkeypatch):
    """It may use its framework when it is imported, and what has done so cannot fork."""
    ours = get_catalogue(()).get("backend", "tf-cpu")
    theirs = dataclasses.replace(ours, name="theirs", distribution="another")
    monkeypatch.setitem(get_catalogue(()).entries, "backend", [ours, theirs])
    monkeypatch.setattr(entry.PluginEntry, "load", lambda self: pytest.fail("imported") if self is theirs else TfCpu)
    assert backend_guess.get_likely_modules(["backend=tf-cpu"]) == TfCpu.preload
    assert not backend_guess.get_likely_modules(["backend=theirs"])
