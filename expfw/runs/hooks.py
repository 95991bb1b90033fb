"""Hook calls of a run, by its backend and callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from expfw.api.hookspecs import Observers
from expfw.api.run import Run
from expfw.tracking.journal import Journal

_HOOKS_WITHOUT_POINTS = ("expfw_run_started", "expfw_safe_point")


class RunHooks:
    """Calls hooks; flushes the journal after each observing hook.

    Points that are logged during a hook are passed to the next hook, so that all plugins get the same points in any
    call order. `expfw_run_started` and `expfw_safe_point`, in which checkpoints are restored or saved, get no points;
    the next hook gets them. A hook call inside a hook changes nothing.
    """

    def __init__(self, hook: Any, run: Run, run_journal: Journal) -> None:
        self._hook, self._run, self._journal = hook, run, run_journal
        self._is_inside_hook = self._has_warned = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._hook, name)
        if self._is_inside_hook or not hasattr(Observers, name):
            return call  # type: ignore[no-any-return]

        def observe(**arguments: Any) -> None:
            if name not in _HOOKS_WITHOUT_POINTS:
                self._run.recent_points, self._run.next_points = self._run.next_points, []
            self._is_inside_hook = True
            with self._run.stage("callbacks"):
                try:
                    call(**arguments)
                finally:
                    self._is_inside_hook = False
                self._run.recent_points = []
                self._journal.flush()
                error = self._journal.write_error
                if error is not None and not self._has_warned:
                    self._run.warn(
                        f"cannot write the journal: {error.strerror}; the run continues and keeps its records in "
                        f"memory; free some space on the disk of {self._run.folder}"
                    )
                self._has_warned = error is not None

        return observe
