"""Execution of one run in a trial process."""

from __future__ import annotations

from pathlib import Path

from expfw.api.run_config import Sweep
from expfw.runs.request import PreparedRun, Request
from expfw.sweeps.local.slots import make_slots
from expfw.sweeps.local.supervisor import Supervisor, list_server_modules
from expfw.sweeps.runner import TrialQueue
from expfw.system.signals import raise_on_signals

TIMEOUT_SECONDS = 300.0


def run_in_trial_process(prepared: PreparedRun, log: Path) -> str | None:
    """Executes a run in a process forked from the fork server of a sweep; returns a description of its end."""
    queue, plugins = _SingleTrial(prepared.request), prepared.plugins
    with raise_on_signals():
        slots = make_slots(1, on_gpus=plugins.backend.on_gpus)
        Supervisor(slots, list_server_modules(plugins), log, Sweep(timeout=TIMEOUT_SECONDS)).run(queue)
    return queue.exit_description


class _SingleTrial(TrialQueue):
    exit_description: str | None = None

    def __init__(self, request: Request) -> None:
        self._pending_requests = [request]

    def next_request(self) -> Request | None:
        return self._pending_requests.pop() if self._pending_requests else None

    def mark_trial_ended(self, request: Request, reason: str | None) -> None:
        self.exit_description = reason
