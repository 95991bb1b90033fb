"""The hooks of a run as its backend and callbacks call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from expfw.hookspecs import Observers
from expfw.journal import Journal
from expfw.run_state import Run


class Relay:
    """Calls hooks; after an observing one the journal goes to disk.

    The points that everybody has seen are then no longer recent, but for `expfw_settled`, which tells of none. Points
    logged while a hook went on stay for the next one; a hook called within a hook changes nothing.
    """

    def __init__(self, hook: Any, run: Run, record: Journal) -> None:
        self._hook, self._run, self._record = hook, run, record
        self._within = self._said = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._hook, name)
        if self._within or not hasattr(Observers, name):
            return call  # type: ignore[no-any-return]

        def observe(**arguments: Any) -> None:
            seen = 0 if name == "expfw_settled" else len(self._run.recent)
            self._within = True
            try:
                call(**arguments)
            finally:
                self._within = False
            del self._run.recent[:seen]
            self._flush()

        return observe

    def _flush(self) -> None:
        self._record.flush()
        trouble = self._record.trouble
        if trouble is not None and not self._said:
            self._run.warn(
                f"the journal cannot be written ({trouble.strerror}); the run goes on and its records wait in memory; "
                f"make room on the disk of {self._run.folder}"
            )
        self._said = trouble is not None
