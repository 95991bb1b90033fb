"""Queue of trials, from which a runner takes them."""

from __future__ import annotations

from collections.abc import Sequence

from expfw.runs.request import Request


class TrialQueue:
    """Queue of trials for a runner, which reports the start and end of each trial.

    A runner has a method `run(queue)`, which returns when the queue has no more requests, and raises `TrainingError` if
    the fork server or the launcher fails. This class hands out the given requests; the scheduler of a sweep overrides
    it.

    Attributes:
        reasons: reason why the process of each trial has ended, by run ID; None if it was interrupted.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = list(requests)
        self.reasons: dict[str, str | None] = {}

    def next_request(self) -> Request | None:
        """Returns the next request; None if there is none until a running trial ends."""
        return self.requests.pop(0) if self.requests else None

    def mark_trial_started(self, request: Request) -> None:
        """Called when the trial is about to begin or has begun, on any machine."""

    def mark_trial_ended(self, request: Request, reason: str | None) -> None:
        """Called when the process of the trial has ended; `reason` is None if it was interrupted."""
        self.reasons[request.id] = reason

    def check_running_trials(self) -> None:
        """Called at short intervals while trials run."""
