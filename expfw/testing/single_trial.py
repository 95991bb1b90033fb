"""A queue with one trial, for a plugin that is tested in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass

from expfw.runs.request import Request


@dataclass
class SingleTrialQueue:
    """A queue of one trial.

    Attributes:
        pending_requests: the request, until it is handed out.
        exit_description: how the process of the trial ended; None as long as it runs.
    """

    pending_requests: list[Request]
    exit_description: str | None = None

    def next_request(self) -> Request | None:
        return self.pending_requests.pop() if self.pending_requests else None

    def mark_trial_started(self, request: Request) -> None:
        """Nothing is kept."""

    def mark_trial_ended(self, request: Request, reason: str | None) -> None:
        self.exit_description = reason

    def check_running_trials(self) -> None:
        """Nothing is checked."""
