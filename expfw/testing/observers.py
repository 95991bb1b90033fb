"""The callback that the contracts add to a run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from expfw.api.contracts import Callback, hookimpl
from expfw.api.data import Splits
from expfw.api.model_state import ModelState
from expfw.api.result import Result
from expfw.api.run import Run


def interrupt(run: Run) -> None:
    """Interrupts a run like Ctrl-C; steps after the newest checkpoint are lost."""
    raise KeyboardInterrupt


def _record_call(name: str) -> Callable[[RunObserver, Run], None]:
    @hookimpl
    def record(self: RunObserver, run: Run) -> None:
        self.calls.append((name, run.step))

    return record


@dataclass(eq=False)
class RunObserver(Callback):
    """Records hook calls, predictions and restored states, and may act on the run at a step.

    Attributes:
        calls: name and step of each call of an observing hook.
        outputs: predictions for `samples`, some training samples, when the model was saved.
        checkpoint_states: in a resumed run, the states of callbacks in the checkpoint.
        restored_states: in a resumed run, the states of callbacks after `restore`.
    """

    step: int | None = None
    action: Callable[[Run], None] | None = None
    calls: list[tuple[str, int]] = field(default_factory=list)
    samples: Any = None
    preprocessing: Any = None
    outputs: Any = None
    checkpoint_states: Mapping[str, Any] = field(default_factory=dict)
    restored_states: Mapping[str, Any] = field(default_factory=dict)
    _run: Run | None = None
    kind, name = "observer", "contract"

    @hookimpl
    def expfw_run_started(self, run: Run, data: Splits) -> None:
        self.calls.append(("run_started", run.step))
        self._run, self.samples, self.preprocessing = run, data.train.take(slice(8)).x, data.spec.preprocessing
        if self.step is not None:
            run.call_hooks_at(self.step)

    expfw_steps_ended = _record_call("steps_ended")
    expfw_evaluated = _record_call("evaluated")
    expfw_epoch_ended = _record_call("epoch_ended")
    expfw_run_ended = _record_call("run_ended")

    @hookimpl
    def expfw_safe_point(self, run: Run) -> None:
        self.calls.append(("safe_point", run.step))
        if self.action is not None and self.step is not None and run.step >= self.step:
            self.action(run)

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
