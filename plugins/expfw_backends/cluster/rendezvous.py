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

_PAUSE = 0.1
_GREETING = 2.0  # seconds for a greeting, once somebody has come
_LONGEST = 1_000_000  # bytes of a line


class Connections:
    """What keeps this process in touch with the others: to all of them at the chief, to the chief elsewhere."""

    def __init__(self, sockets: dict[str, socket.socket]) -> None:
        self._sockets = sockets

    def gone(self, seconds: float = 0.0) -> list[str]:
        """Waits so long, and says who has ended meanwhile."""
        readable, _, _ = select.select(list(self._sockets.values()), [], [], seconds)
        return [task for task, one in self._sockets.items() if one in readable]

    def close(self) -> None:
        """Ends the connection; the others notice."""
        for one in self._sockets.values():
            one.close()


def facts_of(config: RunConfig) -> dict[str, str]:
    """What the configurations of all processes must have in common, by dotted key."""
    facts = {"tensorflow": version("tensorflow"), "seed": str(config.seed)}

    def add(key: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                add(f"{key}.{name}", inner)
        else:
            facts[key] = str(value)

    for kind in ("model", "dataset"):
        add(kind, getattr(config, kind))
    add("train", asdict(config.train))
    facts.pop("dataset.path", None)  # may lie elsewhere on another machine
    return facts


def gather(address: tuple[str, int], tasks: Sequence[str], facts: dict[str, str], seconds: float) -> Connections:
    """At the chief: waits for the others.

    Args:
        address: where to listen.
        tasks: who must come.
        facts: what must be the same for all of them, by what it is.
        seconds: how long to wait.

    Raises:
        TrainingError: somebody did not come.
        ConfigError: somebody came with other facts, or the address cannot be used.
    """
    come: dict[str, socket.socket] = {}
    until = time.monotonic() + seconds
    with ExitStack() as to_close:
        listener = to_close.enter_context(_listen(address))
        while missing := [task for task in tasks if task not in come]:
            listener.settimeout(max(0.01, until - time.monotonic()))
            try:
                one, _ = listener.accept()
            except TimeoutError:
                problem = (
                    f"{', '.join(missing)} did not come within {seconds:g} s; start the same command there with "
                    "another place in the cluster, or wait longer with backend.timeout"
                )
                _tell(come, problem)
                raise TrainingError(problem) from None
            to_close.callback(one.close)
            greeting = _read(one, time.monotonic() + _GREETING)
            if greeting is None or greeting.get("task") not in tasks:
                continue  # somebody who has nothing to do with us
            come[str(greeting["task"])] = one
            if problem := _difference(greeting, facts):
                _tell(come, problem)
                raise ConfigError(problem)
        _tell(come, "")
        to_close.pop_all()
        listener.close()
    return Connections(come)


def join(address: tuple[str, int], task: str, facts: dict[str, str], seconds: float) -> Connections:
    """Elsewhere: greets the chief, and waits until all have come.

    Raises:
        TrainingError: the chief did not answer, or somebody did not come.
        ConfigError: this process has other facts than the chief.
    """
    until = time.monotonic() + seconds
    absent = TrainingError(
        f"the chief at {address[0]}:{address[1]} did not answer within {seconds:g} s; start it with the same command, "
        "or wait longer with backend.timeout"
    )
    while True:
        try:
            one = socket.create_connection(address, timeout=max(0.01, until - time.monotonic()))
            break
        except OSError:
            if time.monotonic() + _PAUSE > until:
                raise absent from None
            time.sleep(_PAUSE)
    one.sendall(json.dumps({"task": task, "facts": facts}).encode() + b"\n")
    answer = _read(one, until + 5)  # the chief's own bound comes first, and it says who is missing
    if answer is None:
        one.close()
        raise absent
    if answer["problem"]:
        one.close()
        raise TrainingError(f"the chief says: {answer['problem']}")
    return Connections({"the chief": one})


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


def _difference(greeting: dict[str, object], facts: dict[str, str]) -> str:
    theirs = greeting.get("facts")
    for name, value in facts.items():
        if not isinstance(theirs, dict) or theirs.get(name) != value:
            other = theirs.get(name) if isinstance(theirs, dict) else None
            return f"{greeting['task']} has another {name} ({other}) than the chief ({value}); expected the same"
    return ""


def _tell(come: dict[str, socket.socket], problem: str) -> None:
    for one in come.values():
        try:
            one.sendall(json.dumps({"problem": problem}).encode() + b"\n")
        except OSError:
            continue  # it has ended already; its own error says why


def _read(one: socket.socket, until: float) -> dict[str, object] | None:
    """A line of JSON; None where none came."""
    line = b""
    try:
        while not line.endswith(b"\n") and len(line) < _LONGEST:
            one.settimeout(max(0.01, until - time.monotonic()))
            if not (part := one.recv(65536)):  # nobody says more than one line
                return None
            line += part
        read = json.loads(line)
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) else None
