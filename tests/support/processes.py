"""Commands of expfw in new processes, and waiting for a condition."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

HOST = "127.0.0.1"


def make_expfw_command(*arguments: str, python: str = sys.executable) -> list[str]:
    return [python, "-m", "expfw", *arguments]


def make_environment(**variables: str) -> dict[str, str]:
    """Returns the environment variables of this process without a tracking server, and additional ones."""
    return {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"} | variables


def run_expfw(
    folder: Path, *arguments: str, python: str = sys.executable, check: bool = False, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command in a folder; with `check`, it must succeed."""
    command, environment = make_expfw_command(*arguments, python=python), make_environment(**variables)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert not check or done.returncode == 0, done.stderr
    return done


def start_expfw(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Starts a command in a folder; its stdout and stderr are one pipe."""
    command, environment = make_expfw_command(*arguments), make_environment(**variables)
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_for(condition, seconds=60):
    """Returns the first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError("the condition was not true in time")
