"""The fork server: its early start, its instructions, and the modules that it imports."""

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

START = """
import multiprocessing, os, signal, sys, time
from multiprocessing import forkserver
from pathlib import Path
from expfw.sweeps.local import fork_server

log = Path("log.txt")
fork_server.start_early(["backend=nonsense"])
server = forkserver._forkserver._forkserver_pid
print(server, flush=True)
"""

INSTRUCT = """
fork_server.ensure_running(["preloaded", "missing"], log)
"""

USE = """
import preloaded
process = multiprocessing.get_context("forkserver").Process(target=preloaded.report)
process.start()
process.join()
"""

KILL = """
os.kill(server, signal.SIGKILL)
os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
"""

PRELOADED = """
import os
IMPORTED_BY = os.getpid()
print("output of an import", flush=True)

def report():
    open("report.txt", "w").write(f"{IMPORTED_BY} {os.getpid()} {os.getppid()}")
"""


@pytest.fixture
def script(tmp_path):
    """Runs START and then a script in a folder, with logged imports; returns the completed process."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "preloaded.py").write_text(PRELOADED)

    def call(script: str, path: str = str(modules)):
        options = ["-X", "importtime", "-c", START + script]  # the server logs all its imports
        environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": path}
        return subprocess.run(
            [sys.executable, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )

    return call


@pytest.fixture
def server_folders(tmp_path):
    """Returns a function that lists the remaining folders of servers."""
    return lambda: list(tmp_path.glob("expfw-server-*"))


def has_ended(process):
    """Returns whether the process has ended."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def check_imported_before_fork(tmp_path):
    """Checks that the server imported the module and then forked a process; returns the server's process ID."""
    imported_by, process, server = (tmp_path / "report.txt").read_text().split()
    assert imported_by == server != process
    return server


def test_modules_are_imported_before_the_fork_and_all_output_goes_to_the_log(script, tmp_path, server_folders):
    done = script(INSTRUCT + USE)
    assert done.returncode == 0, done.stderr
    assert check_imported_before_fork(tmp_path) == done.stdout.splitlines()[0]
    log = (tmp_path / "log.txt").read_text()
    assert log.count("output of an import") == 1
    assert log.index("expfw.plugins.catalogue") < log.index("output of an import"), "the early output is missing"
    assert not server_folders()


@pytest.mark.parametrize("killed_at", ["before", "after"])
def test_a_killed_server_is_started_again_with_the_same_modules(script, tmp_path, killed_at):
    (tmp_path / "safetensors.py").write_text("raise RuntimeError('imported from the working directory')")
    steps = KILL + INSTRUCT + USE if killed_at == "before" else INSTRUCT + USE + KILL + INSTRUCT + USE
    done = script(steps, path=str(tmp_path / "modules"))
    assert done.returncode == 0, done.stderr
    assert check_imported_before_fork(tmp_path) != done.stdout.splitlines()[0]
    assert "output of an import" in (tmp_path / "log.txt").read_text()
    assert done.stdout.count("output of an import") == 1, "expected only the output of the script, not of the server"


def test_the_server_starts_with_its_instructions_if_no_pipe_can_be_created(script, tmp_path):
    (tmp_path / "modules" / "sitecustomize.py").write_text(
        "import os\ndef no(path): raise PermissionError(path)\nos.mkfifo = no"
    )
    done = script(INSTRUCT + USE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "None"
    check_imported_before_fork(tmp_path)


@pytest.mark.parametrize(
    ("end", "code"),
    [("os.kill(os.getpid(), signal.SIGKILL)", -9), ("sys.exit(2)", 2), ("fork_server.dismiss_early(); os._exit(0)", 0)],
)
def test_a_server_without_instructions_ends_with_its_main_process(script, server_folders, end, code):
    done = script(end)
    assert done.returncode == code
    server = int(done.stdout)
    wait_for(lambda: has_ended(server))
    assert not server_folders()


def test_the_log_has_the_error_if_an_import_kills_the_server(script, tmp_path):
    (tmp_path / "modules" / "preloaded.py").write_text("raise RuntimeError('broken on purpose')")
    done = script(INSTRUCT + "multiprocessing.get_context('forkserver').Process(target=print).start()")
    assert done.returncode == 1
    assert "RuntimeError: broken on purpose" in (tmp_path / "log.txt").read_text()


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """Creates a working directory with experiments."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "gpu.yaml").write_text("# @package _global_\ndefaults:\n  - override /backend: tf-gpu\n")
    (folder / "none.yaml").write_text("# @package _global_\ndefaults:\n  - override /backend: not-there\n")
    (folder / "plain.yaml").write_text("# @package _global_\ntrain: {epochs: 2}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("overrides", "likely"),
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
def test_the_likely_backend_is_the_composed_backend(conf, overrides, likely):
    assert next(backend_guess._find_backend_names(overrides), None) == likely


@pytest.mark.parametrize("overrides", [[], ["backend=not-there"], ["experiment=none"], ["backend=tf-cpu,mirrored"]])
def test_nothing_is_imported_if_the_backend_cannot_be_guessed(conf, overrides):
    assert not backend_guess.get_likely_modules(overrides)


def test_the_modules_of_the_likely_backend_are_imported(conf):
    assert "tensorflow" in backend_guess.get_likely_modules(["model.units=1,2"])


def test_a_disabled_backend_is_not_imported(conf, monkeypatch):
    monkeypatch.setenv("EXPFW_DISABLE_PLUGINS", "tf-cpu")
    assert not backend_guess.get_likely_modules(["model.units=1,2"])


def test_a_backend_of_another_distribution_is_not_imported(conf, monkeypatch):
    """It may use its framework during the import, and a process that has used it cannot fork."""
    ours = get_catalogue(()).get("backend", "tf-cpu")
    theirs = dataclasses.replace(ours, name="theirs", distribution="another")
    monkeypatch.setitem(get_catalogue(()).entries, "backend", [ours, theirs])
    monkeypatch.setattr(entry.PluginEntry, "load", lambda self: pytest.fail("imported") if self is theirs else TfCpu)
    assert backend_guess.get_likely_modules(["backend=tf-cpu"]) == TfCpu.preload
    assert not backend_guess.get_likely_modules(["backend=theirs"])
