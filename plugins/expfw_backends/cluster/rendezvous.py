"""Connects the processes of a cluster within a time limit; TensorFlow itself would wait without a limit."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from expfw import ConfigError, ExpfwError, RunConfig, TrainingError

_RETRY_SECONDS = 0.1
_GREETING_SECONDS = 2.0  # seconds that a connected process has to send its greeting
_MAX_LINE_CHARACTERS = 1_000_000  # characters of a message


class Connections(dict[str, socket.socket]):
    """Open connections by task, which show the processes that are alive: the chief to all others, they to the chief."""

    def find_lost_tasks(self, timeout_seconds: float) -> list[str]:
        """Waits up to `timeout_seconds` and returns the tasks that have ended."""
        readable, _, _ = select.select(list(self.values()), [], [], timeout_seconds)
        return [task for task, peer in self.items() if peer in readable]

    def close(self) -> None:
        """Closes all connections; the other processes detect this."""
        for peer in self.values():
            peer.close()


def collect_shared_settings(config: RunConfig) -> dict[str, str]:
    """Returns the values that must be equal in all processes, by dotted key."""
    import keras

    sections = {"model": config.model, "dataset": config.dataset, "train": asdict(config.train), "seed": config.seed}
    paths = keras.tree.flatten_with_path({**sections, "tensorflow": version("tensorflow")})
    settings = {".".join(map(str, path)): str(value) for path, value in paths}
    settings.pop("dataset.path", None)  # the path may differ between machines
    return settings


def wait_for_tasks(
    address: tuple[str, int], tasks: Sequence[str], shared_settings: dict[str, str], timeout_seconds: float
) -> Connections:
    """In the chief: waits on this address until all other processes have connected."""
    peers = Connections()
    deadline = time.monotonic() + timeout_seconds
    try:
        family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server(address, family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address[0]}:{address[1]} ({error.strerror}); expected an address of this machine "
            "with a free port"
        ) from error
    with listener, ExitStack() as exit_stack:
        try:
            while missing := [task for task in tasks if task not in peers]:
                listener.settimeout(max(0.01, deadline - time.monotonic()))
                try:
                    peer, _ = listener.accept()
                except TimeoutError:
                    raise TrainingError(
                        f"{', '.join(missing)} did not connect within {timeout_seconds:g} s; start the same command "
                        "there with its own backend.index or backend.task, or increase backend.timeout"
                    ) from None
                exit_stack.callback(peer.close)
                greeting = _read_message(peer, _GREETING_SECONDS)
                task, settings = str(greeting.get("task")), greeting.get("settings")
                if task not in tasks or not isinstance(settings, dict):
                    continue  # not a process of this cluster
                peers[task] = peer
                for name in sorted(shared_settings.keys() | settings.keys()):
                    if (value := settings.get(name)) != (expected := shared_settings.get(name)):
                        raise ConfigError(f"{task} has {name}={value}, the chief has {expected}; expected equal values")
        except ExpfwError as error:
            _send_problem(peers, str(error))
            raise
        _send_problem(peers, "")
        exit_stack.pop_all()
    return peers


def connect_to_chief(
    address: tuple[str, int], task: str, shared_settings: dict[str, str], timeout_seconds: float
) -> Connections:
    """In the other processes: connects to the chief and waits until all processes have connected."""
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
    # The chief's own limit ends first, and its answer names the missing processes.
    answer = _read_message(chief, deadline + 5 - time.monotonic())
    if answer.get("problem") == "":
        return Connections({"the chief": chief})
    chief.close()
    raise TrainingError(f"the chief reports: {answer['problem']}") if "problem" in answer else no_answer_error


def _send_problem(peers: Connections, problem: str) -> None:
    for peer in peers.values():
        with suppress(OSError):  # it has already ended, with its own error
            peer.sendall(json.dumps({"problem": problem}).encode() + b"\n")


def _read_message(peer: socket.socket, timeout_seconds: float) -> dict[str, Any]:
    """Returns a line of JSON; empty if the connection closes, times out or sends something invalid."""
    peer.settimeout(max(0.01, timeout_seconds))
    try:
        with peer.makefile() as lines:
            message = json.loads(lines.readline(_MAX_LINE_CHARACTERS))
    except (OSError, ValueError):
        return {}
    return message if isinstance(message, dict) else {}
