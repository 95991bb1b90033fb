"""What the contracts put into a run to see it from inside."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from expfw.api.contracts import Callback, hookimpl
from expfw.api.data import Splits
from expfw.api.model_state import ModelState
from expfw.api.run import Result, Run


class RunInterrupter(Callback):
    """Ends a run at a step as Ctrl-C does; what came behind the newest checkpoint is lost."""

    kind = "display"

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
    """Keeps some training samples, what the trained model predicts for them when it is saved, and restored states.

    Attributes:
        checkpoint_states, restored_states: of a run that goes on, the states of callbacks in the checkpoint, and behind
            `restore`.
    """

    kind = "display"

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
    """Writes down the observing hooks of a run, and may ask for its end."""

    kind = "display"

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
            run.request_stop("the contract asks for it")

    @hookimpl
    def expfw_evaluated(self, run: Run) -> None:
        self._record_call("evaluated", run)

    @hookimpl
    def expfw_epoch_ended(self, run: Run) -> None:
        self._record_call("epoch_ended", run)

    @hookimpl
    def expfw_safe_point(self, run: Run) -> None:
        self._record_call("settled", run)

    @hookimpl
    def expfw_run_ended(self, run: Run, result: Result) -> None:
        self._record_call("run_ended", run)
