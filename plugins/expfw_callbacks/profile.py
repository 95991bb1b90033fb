"""Time profile of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import expfw
from expfw_callbacks.plots.profile_tables import format_operations, format_stages


class Profile(expfw.Callback):
    """Prints the time in each stage of the run, and traces some steps.

    The table and TensorFlow's trace are artifacts in `profile/` of the run folder. TensorBoard shows the trace if its
    plugin is installed (`pip install tensorboard-plugin-profile`).
    """

    @dataclass
    class Config:
        trace: bool = expfw.option(True, help="trace some steps with TensorFlow's profiler")
        after: int = expfw.option(10, help="steps before the trace starts; the first steps are slower", at_least=1)
        steps: int = expfw.option(50, help="steps to trace", at_least=1)
        rows: int = expfw.option(10, help="operations in the table, slowest first", at_least=1)

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.start_step: int | None = None
        self.traced_steps = 0

    @expfw.hookimpl
    def expfw_run_started(self, run: expfw.Run) -> None:
        if self.config.trace:
            run.call_hooks_at(run.step + 1)  # the number of steps is known then

    @expfw.hookimpl
    def expfw_steps_ended(self, run: expfw.Run) -> None:
        if not self.config.trace or self.traced_steps:
            return
        first_step = run.resumed_at or 0
        if self.start_step is None:
            trace_begin = first_step + min(self.config.after, ((run.total_steps or 2) - first_step) // 2)
            if run.step < trace_begin:
                run.call_hooks_at(trace_begin)
            elif run.step != run.total_steps:
                self._start_trace(run)
        elif run.step >= self.start_step + self.config.steps:
            self._stop_trace(run)

    def _start_trace(self, run: expfw.Run) -> None:
        import tensorflow as tf

        tf.profiler.experimental.start(str(self._get_folder(run)))
        self.start_step = run.step
        run.call_hooks_at(run.step + self.config.steps)

    def _stop_trace(self, run: expfw.Run) -> None:
        import tensorflow as tf

        assert self.start_step is not None
        tf.profiler.experimental.stop()
        self.traced_steps = run.step - self.start_step

    @expfw.hookimpl(wrapper=True)
    def expfw_fit(self, run: expfw.Run) -> Iterator[None]:
        try:
            return (yield)
        finally:
            if self.start_step is not None and not self.traced_steps:
                self._stop_trace(run)

    @expfw.hookimpl
    def expfw_run_ended(self, run: expfw.Run) -> None:
        folder = self._get_folder(run)
        folder.mkdir(exist_ok=True)
        text = format_stages(run)
        if self.traced_steps:
            text += "\n\n" + format_operations(folder, self.traced_steps, self.config.rows)
        (folder / "table.txt").write_text(text + "\n")
        run.add_artifact(folder)
        if not run.config.quiet:
            print(text)

    def _get_folder(self, run: expfw.Run) -> Path:
        return run.folder / "profile"
