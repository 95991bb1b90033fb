"""Connects the processes of a cluster within a time limit; TensorFlow itself would wait without a limit."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from expfw import ConfigError, RunConfig, TrainingError

_RETRY_SECONDS = 0.1
_GREETING_SECONDS = 2.0  # seconds that a connected process has to send its greeting
_MAX_LINE_BYTES = 1_000_000  # bytes of a message


class Connections:
    """Open connections that show which processes are alive: the chief to all others, each other to the chief."""

    def __init__(self, sockets: dict[str, socket.socket]) -> None:
        self._sockets = sockets

    def find_lost_tasks(self, timeout_seconds: float = 0.0) -> list[str]:
        """Waits up to `timeout_seconds` and returns the tasks that have ended."""
        readable, _, _ = select.select(list(self._sockets.values()), [], [], timeout_seconds)
        return [task for task, peer in self._sockets.items() if peer in readable]

    def close(self) -> None:
        """Closes all connections; the other processes detect this."""
        for peer in self._sockets.values():
            peer.close()


def collect_shared_settings(config: RunConfig) -> dict[str, str]:
    """Returns the values that must be equal in all processes, by dotted key."""
    settings = {"tensorflow": version("tensorflow"), "seed": str(config.seed)}

    def add_setting(key: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, nested_value in value.items():
                add_setting(f"{key}.{name}", nested_value)
        else:
            settings[key] = str(value)

    for kind in ("model", "dataset"):
        add_setting(kind, getattr(config, kind))
    add_setting("train", asdict(config.train))
    settings.pop("dataset.path", None)  # the path may differ between machines
    return settings


def wait_for_tasks(
    address: tuple[str, int], tasks: Sequence[str], shared_settings: dict[str, str], timeout_seconds: float
) -> Connections:
    """In the chief: waits until all other processes have connected.

    Args:
        address: host and port to listen on.
        tasks: the other processes.
        shared_settings: values that must be equal in all processes, by dotted key.
        timeout_seconds: time limit in seconds.

    Raises:
        TrainingError: if a process does not connect in time.
        ConfigError: if the values of a process differ, or the address is not available.
    """
    peers: dict[str, socket.socket] = {}
    deadline = time.monotonic() + timeout_seconds
    with ExitStack() as exit_stack:
        listener = exit_stack.enter_context(_listen(address))
        while missing := [task for task in tasks if task not in peers]:
            listener.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                peer, _ = listener.accept()
            except TimeoutError:
                problem = (
                    f"{', '.join(missing)} did not connect within {timeout_seconds:g} s; start the same command there "
                    "with its own backend.index or backend.task, or increase backend.timeout"
                )
                _send_problem(peers, problem)
                raise TrainingError(problem) from None
            exit_stack.callback(peer.close)
            greeting = _read_message(peer, time.monotonic() + _GREETING_SECONDS)
            if greeting is None or greeting.get("task") not in tasks:
                continue  # not a process of this cluster
            peers[str(greeting["task"])] = peer
            if problem := _describe_difference(greeting, shared_settings):
                _send_problem(peers, problem)
                raise ConfigError(problem)
        _send_problem(peers, "")
        exit_stack.pop_all()
        listener.close()
    return Connections(peers)


def connect_to_chief(
    address: tuple[str, int], task: str, shared_settings: dict[str, str], timeout_seconds: float
) -> Connections:
    """In the other processes: connects to the chief and waits until all processes have connected.

    Raises:
        TrainingError: if the chief does not answer in time, or reports an error.
    """
    deadline = time.monotonic() + timeout_seconds
    no_answer_error = TrainingError(
        f"the chief at {address[0]}:{address[1]} did not answer within {timeout_seconds:g} s; start it with the same "
        "command, or increase backend.timeout"
    )
    while True:
        try:
            chief = socket.create_connection(address, timeout=max(0.01, deadline - time.monotonic()))
            break
        except OSError:
            if time.monotonic() + _RETRY_SECONDS > deadline:
                raise no_answer_error from None
            time.sleep(_RETRY_SECONDS)
    chief.sendall(json.dumps({"task": task, "settings": shared_settings}).encode() + b"\n")
    answer = _read_message(
        chief, deadline + 5
    )  # the chief's own limit ends first, and its answer names the missing processes
    if answer is None:
        chief.close()
        raise no_answer_error
    if answer["problem"]:
        chief.close()
        raise TrainingError(f"the chief reports: {answer['problem']}")
    return Connections({"the chief": chief})


def _listen(address: tuple[str, int]) -> socket.socket:
    try:
        family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server(address, family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address[0]}:{address[1]} ({error.strerror}); expected an address of this machine with "
            "a free port"
        ) from error
    return listener


def _describe_difference(greeting: dict[str, object], shared_settings: dict[str, str]) -> str:
    task_settings = greeting.get("settings")
    for name, value in shared_settings.items():
        if not isinstance(task_settings, dict) or task_settings.get(name) != value:
            task_value = task_settings.get(name) if isinstance(task_settings, dict) else None
            return f"{greeting['task']} has {name}={task_value}, the chief has {value}; expected equal values"
    return ""


def _send_problem(peers: dict[str, socket.socket], problem: str) -> None:
    for peer in peers.values():
        try:
            peer.sendall(json.dumps({"problem": problem}).encode() + b"\n")
        except OSError:
            continue  # it has already ended, with its own error


def _read_message(peer: socket.socket, deadline: float) -> dict[str, object] | None:
    """Returns a line of JSON; None if the connection closes, times out or sends something invalid."""
    line = b""
    try:
        while not line.endswith(b"\n") and len(line) < _MAX_LINE_BYTES:
            peer.settimeout(max(0.01, deadline - time.monotonic()))
            if not (chunk := peer.recv(65536)):  # closed by the peer
                return None
            line += chunk
        message = json.loads(line)
    except (OSError, ValueError):
        return None
    return message if isinstance(message, dict) else None
