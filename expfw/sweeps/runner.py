"""Queue of trials, from which a runner takes them."""

from __future__ import annotations

from expfw.runs.request import Request


class TrialQueue:
    """Queue of trials for a runner, which reports the start and end of each trial.

    A runner has a method `run(queue)`, which returns when the queue has no more requests, and raises `TrainingError` if
    the fork server or the launcher fails.
    """

    def next_request(self) -> Request | None:
        """Returns the next request; None if there is none until a running trial ends."""
        raise NotImplementedError

    def mark_trial_started(self, request: Request) -> None:
        """Called when the trial is about to begin or has begun, on any machine."""

    def mark_trial_ended(self, request: Request, reason: str | None) -> None:
        """Called when the process of the trial has ended.

        Args:
            request: request of the trial.
            reason: reason why the process ended; None if it was interrupted.
        """

    def check_running_trials(self) -> None:
        """Called at short intervals while trials run."""
