"""A queue with one trial, for tests in a trial process."""

from __future__ import annotations

from dataclasses import dataclass

from expfw.runs.request import Request


@dataclass
class SingleTrialQueue:
    """A queue with one trial.

    Attributes:
        pending_requests: request of the trial, until it starts.
        exit_description: description of how the trial process ended; None while it runs.
    """

    pending_requests: list[Request]
    exit_description: str | None = None

    def next_request(self) -> Request | None:
        return self.pending_requests.pop() if self.pending_requests else None

    def mark_trial_started(self, request: Request) -> None:
        """Does nothing."""

    def mark_trial_ended(self, request: Request, reason: str | None) -> None:
        self.exit_description = reason

    def check_running_trials(self) -> None:
        """Does nothing."""
