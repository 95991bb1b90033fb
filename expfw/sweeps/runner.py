"""What trials there are to run: asked for one after the other, told of what becomes of each."""

from __future__ import annotations

from typing import Protocol

from expfw.runs.request import Request


class TrialQueue(Protocol):
    """What a runner of trials asks and tells, whatever it runs them on."""

    def next_request(self) -> Request | None:
        """What runs next; None: nothing, unless a trial that runs ends."""
        ...

    def mark_trial_started(self, request: Request) -> None:
        """It is about to begin, or has begun, wherever it is."""
        ...

    def mark_trial_ended(self, request: Request, reason: str | None) -> None:
        """Its process has ended.

        Args:
            reason: it ended; None: it was interrupted.
        """
        ...

    def check_running_trials(self) -> None:
        """Called every now and then, while trials run."""
        ...


class TrialRunner(Protocol):
    """Runs trials."""

    def run(self, queue: TrialQueue) -> None:
        """Runs what there is, until there is nothing more.

        Raises:
            TrainingError: whatever runs them gave up.
        """
        ...
