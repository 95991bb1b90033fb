"""How the processes of a cluster find each other within a bound, before TensorFlow would wait without one."""

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
_GREETING_SECONDS = 2.0  # seconds for a greeting, once somebody has come
_MAX_LINE_BYTES = 1_000_000  # bytes of a line


class Connections:
    """What keeps this process in touch with the others: to all of them at the chief, to the chief elsewhere."""

    def __init__(self, sockets: dict[str, socket.socket]) -> None:
        self._sockets = sockets

    def find_lost_tasks(self, timeout_seconds: float = 0.0) -> list[str]:
        """Waits so long, and says who has ended meanwhile."""
        readable, _, _ = select.select(list(self._sockets.values()), [], [], timeout_seconds)
        return [task for task, peer in self._sockets.items() if peer in readable]

    def close(self) -> None:
        """Ends the connection; the others notice."""
        for peer in self._sockets.values():
            peer.close()


def collect_shared_settings(config: RunConfig) -> dict[str, str]:
    """What the configurations of all processes must have in common, by dotted key."""
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
    settings.pop("dataset.path", None)  # may lie elsewhere on another machine
    return settings


def wait_for_tasks(
    address: tuple[str, int], tasks: Sequence[str], shared_settings: dict[str, str], timeout_seconds: float
) -> Connections:
    """At the chief: waits for the others.

    Args:
        address: where to listen.
        tasks: who must come.
        shared_settings: what must be the same for all of them, by what it is.
        timeout_seconds: how long to wait.

    Raises:
        TrainingError: somebody did not come.
        ConfigError: somebody came with other facts, or the address cannot be used.
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
                    f"{', '.join(missing)} did not come within {timeout_seconds:g} s; start the same command there "
                    "with another place in the cluster, or wait longer with backend.timeout"
                )
                _send_problem(peers, problem)
                raise TrainingError(problem) from None
            exit_stack.callback(peer.close)
            greeting = _read_message(peer, time.monotonic() + _GREETING_SECONDS)
            if greeting is None or greeting.get("task") not in tasks:
                continue  # somebody who has nothing to do with us
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
    """Elsewhere: greets the chief, and waits until all have come.

    Raises:
        TrainingError: the chief did not answer, or somebody did not come.
        ConfigError: this process has other facts than the chief.
    """
    deadline = time.monotonic() + timeout_seconds
    no_answer_error = TrainingError(
        f"the chief at {address[0]}:{address[1]} did not answer within {timeout_seconds:g} s; start it with the same "
        "command, or wait longer with backend.timeout"
    )
    while True:
        try:
            chief = socket.create_connection(address, timeout=max(0.01, deadline - time.monotonic()))
            break
        except OSError:
            if time.monotonic() + _RETRY_SECONDS > deadline:
                raise no_answer_error from None
            time.sleep(_RETRY_SECONDS)
    chief.sendall(json.dumps({"task": task, "facts": shared_settings}).encode() + b"\n")
    answer = _read_message(chief, deadline + 5)  # the chief's own bound comes first, and it says who is missing
    if answer is None:
        chief.close()
        raise no_answer_error
    if answer["problem"]:
        chief.close()
        raise TrainingError(f"the chief says: {answer['problem']}")
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
    task_settings = greeting.get("facts")
    for name, value in shared_settings.items():
        if not isinstance(task_settings, dict) or task_settings.get(name) != value:
            task_value = task_settings.get(name) if isinstance(task_settings, dict) else None
            return f"{greeting['task']} has another {name} ({task_value}) than the chief ({value}); expected the same"
    return ""


def _send_problem(peers: dict[str, socket.socket], problem: str) -> None:
    for peer in peers.values():
        try:
            peer.sendall(json.dumps({"problem": problem}).encode() + b"\n")
        except OSError:
            continue  # it has ended already; its own error says why


def _read_message(peer: socket.socket, deadline: float) -> dict[str, object] | None:
    """A line of JSON; None where none came."""
    line = b""
    try:
        while not line.endswith(b"\n") and len(line) < _MAX_LINE_BYTES:
            peer.settimeout(max(0.01, deadline - time.monotonic()))
            if not (chunk := peer.recv(65536)):  # nobody says more than one line
                return None
            line += chunk
        message = json.loads(line)
    except (OSError, ValueError):
        return None
    return message if isinstance(message, dict) else None
