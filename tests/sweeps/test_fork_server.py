"""The fork server: the modules that it imports, its output and its end."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest
from support.processes import wait_for

START = """
import multiprocessing, os, signal, sys, time
from multiprocessing import forkserver
from pathlib import Path
from expfw.sweeps.local import fork_server

def use():
    context = fork_server.get_context(["missing", "preloaded"], Path("log.txt"))
    import preloaded
    process = context.Process(target=preloaded.report)
    process.start()
    process.join()
    return forkserver._forkserver._forkserver_pid

server = use()
print(server, flush=True)
"""

KILL_AND_USE = """
os.kill(server, signal.SIGKILL)
os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
use()
"""

PRELOADED = """
import gc, os
IMPORTED_BY = os.getpid()
COLLECTS_GARBAGE = gc.isenabled()
print("output of an import", flush=True)

def report():
    collections = f"{COLLECTS_GARBAGE} {gc.isenabled()} {gc.get_freeze_count() > 10_000}"
    open("report.txt", "w").write(f"{IMPORTED_BY} {os.getpid()} {os.getppid()} {collections}")
"""


@pytest.fixture
def run_script(tmp_path):
    """Runs START and then a script in a folder; returns the completed process."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "preloaded.py").write_text(PRELOADED)
    (tmp_path / "safetensors.py").write_text("raise RuntimeError('imported from the working directory')")

    def call(script: str = ""):
        environment = {**os.environ, "PYTHONPATH": str(modules)}
        command = [sys.executable, "-c", START + script]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    return call


def has_ended(process):
    """Returns whether the process has ended."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("script", ["", KILL_AND_USE])
def test_modules_are_imported_before_the_fork_and_all_output_goes_to_the_log(run_script, tmp_path, script):
    done = run_script(script)
    assert done.returncode == 0, done.stderr
    imported_by, process, server, *collections = (tmp_path / "report.txt").read_text().split()
    assert imported_by == server != process
    assert (server == done.stdout.splitlines()[-1]) == (script == "")  # a killed server is started again
    assert collections == ["False", "True", "True"]  # garbage is not collected during the imports, but in trials
    assert (tmp_path / "log.txt").read_text().count("output of an import") == (1 if script == "" else 2)
    assert done.stdout.count("output of an import") == 1, "expected only the output of the script, not of the server"


def test_the_server_ends_with_its_main_process(run_script):
    done = run_script("os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == -9
    wait_for(lambda: has_ended(int(done.stdout.splitlines()[-1])))


def test_the_log_has_the_error_if_an_import_kills_the_server(run_script, tmp_path):
    in_server = "'expfw.sweeps.local.preload_begin' in __import__('sys').modules"
    error = f"if {in_server}: raise RuntimeError('broken on purpose')"
    (tmp_path / "modules" / "preloaded.py").write_text(f"{PRELOADED}\n{error}")
    assert run_script().returncode == 1
    assert "RuntimeError: broken on purpose" in (tmp_path / "log.txt").read_text()
