"""The hooks of a run as its backend and callbacks call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from expfw.api.hookspecs import Observers
from expfw.api.run import Run
from expfw.tracking.journal import Journal

_TELL_NOTHING = ("expfw_run_started", "expfw_settled")


class Relay:
    """Calls hooks; after an observing one the journal goes to disk.

    Points logged while a hook goes on are for the next one, so that everybody sees the same, wherever in the order. The
    hooks in which a checkpoint is made, or gone on from, tell of none: what waits then is told once, by the next one. A
    hook called within a hook changes nothing.
    """

    def __init__(self, hook: Any, run: Run, record: Journal) -> None:
        self._hook, self._run, self._record = hook, run, record
        self._within = self._said = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._hook, name)
        if self._within or not hasattr(Observers, name):
            return call  # type: ignore[no-any-return]

        def observe(**arguments: Any) -> None:
            if name not in _TELL_NOTHING:
                self._run.recent, self._run.coming = self._run.coming, []
            self._within = True
            with self._run.stage("callbacks"):
                try:
                    call(**arguments)
                finally:
                    self._within = False
                self._run.recent = []
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
