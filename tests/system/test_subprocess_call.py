"""Calls in other processes: results, errors, crashes and time limits."""

from __future__ import annotations

import os
import signal
import sys

import psutil
import pytest
from support.called_functions import answer, fail, start_child_and_hang
from support.processes import wait_for

from expfw.errors import ConfigError
from expfw.system.subprocess_call import CallError, call_in_fork, call_in_subprocess, start_call

CALLS = pytest.mark.parametrize("call", [call_in_subprocess, call_in_fork])


@CALLS
def test_a_call_returns_its_result_from_another_process(call):
    large = "x" * 200_000
    result = call(answer, 1, [2.5, None], large, timeout=30)
    assert result["arguments"] == [1, [2.5, None], large]
    assert result["pid"] != os.getpid()
    assert result["path"] == sys.path


@CALLS
@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("user", ConfigError, "wrong value (a note)"),
        ("raise", CallError, "RuntimeError: two lines"),
        ("exit", CallError, "its process ended early with exit code 3 (last words)"),
        ("crash", CallError, "its process ended early with signal 6 (SIGABRT) (last words)"),
        ("hang", CallError, "its process did not end within 2 s (last words)"),
    ],
)
def test_a_failed_call_is_an_error_in_one_line(call, how, kind, text):
    with pytest.raises(kind) as error:
        call(fail, how, timeout=2)
    assert (type(error.value), str(error.value)) == (kind, text)


@pytest.mark.parametrize("kill", [True, False])
def test_a_process_ends_with_its_parent_or_its_context(tmp_path, kill):
    with start_call(start_child_and_hang, tmp_path) as call:
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        if kill:
            call.process.kill()
            child = int((tmp_path / "pid").read_text())
            wait_for(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
    assert call.process.poll() == -signal.SIGKILL


def test_a_call_uses_a_log_an_environment_and_a_working_directory(tmp_path):
    log = tmp_path / "log.txt"
    options = {"log": log, "environment": {"NAME": "value"}, "working_directory": tmp_path, "inherit_path": False}
    with start_call(os.getenv, "NAME", **options) as call:
        assert call.wait_for_result() == "value"
    with start_call(os.getcwd, **options) as call:
        assert call.wait_for_result() == str(tmp_path)
    with start_call(print, "to the log", **options) as call:
        assert call.wait_for_result() is None
    assert log.read_text() == "to the log\n"
