"""Callbacks that the contracts add to a run: interruption, and records of states and hook calls."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from expfw.api.contracts import Callback, hookimpl
from expfw.api.data import Splits
from expfw.api.model_state import ModelState
from expfw.api.result import Result
from expfw.api.run import Run


class RunInterrupter(Callback):
    """Interrupts a run at a step like Ctrl-C; steps after the newest checkpoint are lost."""

    kind = "observer"

    def __init__(self, step: int) -> None:
        super().__init__(None, "leave")
        self.step = step

    @hookimpl
    def expfw_run_started(self, run: Run) -> None:
        run.call_hooks_at(self.step)

    @hookimpl
    def expfw_safe_point(self, run: Run) -> None:
        if run.step >= self.step:
            raise KeyboardInterrupt


class StateRecorder(Callback):
    """Records some training samples, the predictions of the trained model for them, and restored states.

    Attributes:
        data: data of the run.
        samples: the recorded training samples.
        outputs: predictions for `samples` when the model was saved.
        checkpoint_states: in a resumed run, the states of callbacks in the checkpoint.
        restored_states: in a resumed run, the states of callbacks after `restore`.
    """

    kind = "observer"

    def __init__(self) -> None:
        super().__init__(None, "keep")
        self.data: Splits | None = None
        self.samples: Any = None
        self.outputs: Any = None
        self.checkpoint_states: Mapping[str, Any] = {}
        self.restored_states: Mapping[str, Any] = {}
        self._run: Run | None = None

    @hookimpl
    def expfw_run_started(self, run: Run, data: Splits) -> None:
        self._run, self.data, self.samples = run, data, data.train.take(slice(8)).in_memory().x

    @hookimpl(wrapper=True)
    def expfw_save(self, model: Any, training: bool) -> Generator[None, ModelState, ModelState]:
        state = yield
        if not training and self._run is not None:
            self.outputs = self._run.hook.expfw_predict(model=model, x=self.samples)
        return state

    @hookimpl(wrapper=True)
    def expfw_fit(self, run: Run, model: Any) -> Generator[None, Result, Result]:
        if run.checkpoint is not None:
            self.checkpoint_states, self.restored_states = run.checkpoint.plugins, run.snapshot(model).plugins
        return (yield)


class HookRecorder(Callback):
    """Records the observing hooks of a run, and may stop it."""

    kind = "observer"

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__(None, "watch")
        self.stop_at = stop_at
        self.calls: list[tuple[str, int]] = []

    def _record_call(self, name: str, run: Run) -> None:
        self.calls.append((name, run.step))

    @hookimpl
    def expfw_run_started(self, run: Run) -> None:
        run.call_hooks_at(self.stop_at or 3)
        self._record_call("run_started", run)

    @hookimpl
    def expfw_steps_ended(self, run: Run) -> None:
        self._record_call("steps_ended", run)
        if self.stop_at is not None and run.step >= self.stop_at:
            run.request_stop("requested by the contract")

    @hookimpl
    def expfw_evaluated(self, run: Run) -> None:
        self._record_call("evaluated", run)

    @hookimpl
    def expfw_epoch_ended(self, run: Run) -> None:
        self._record_call("epoch_ended", run)

    @hookimpl
    def expfw_safe_point(self, run: Run) -> None:
        self._record_call("safe_point", run)

    @hookimpl
    def expfw_run_ended(self, run: Run, result: Result) -> None:
        self._record_call("run_ended", run)
