"""Where the time of a run goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import expfw
from expfw_callbacks.plots.profile_tables import operations, stages


class Profile(expfw.Callback):
    """Tells at the end, in a table, what the run spent its time with; TensorFlow's profiler looks at some of its steps.

    Table and trace are artifacts, in `profile/` of the run's folder; TensorBoard shows the trace where its plugin is
    installed (`pip install tensorboard-plugin-profile`).
    """

    @dataclass
    class Config:
        trace: bool = expfw.option(True, help="whether TensorFlow's profiler looks at some steps")
        after: int = expfw.option(10, help="steps before it begins; the first ones are not like the others")
        steps: int = expfw.option(50, help="steps that it looks at")
        rows: int = expfw.option(10, help="operations in the table, those first that took longest")

        def __post_init__(self) -> None:
            for name in ("after", "steps", "rows"):
                if getattr(self, name) < 1:
                    raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.began: int | None = None
        self.traced = 0

    @expfw.hookimpl
    def expfw_run_started(self, run: expfw.Run) -> None:
        if self.config.trace:
            run.wake_at(run.step + 1)  # then it is known how many there will be

    @expfw.hookimpl
    def expfw_steps_ended(self, run: expfw.Run) -> None:
        if not self.config.trace or self.traced:
            return
        first = run.resumed_at or 0
        if self.began is None:
            begin = first + min(self.config.after, ((run.total_steps or 2) - first) // 2)
            if run.step < begin:
                run.wake_at(begin)
            elif run.step != run.total_steps:
                self._begin(run)
        elif run.step >= self.began + self.config.steps:
            self._end(run)

    def _begin(self, run: expfw.Run) -> None:
        import tensorflow as tf

        tf.profiler.experimental.start(str(self._folder(run)))
        self.began = run.step
        run.wake_at(run.step + self.config.steps)

    def _end(self, run: expfw.Run) -> None:
        import tensorflow as tf

        assert self.began is not None
        tf.profiler.experimental.stop()
        self.traced = run.step - self.began

    @expfw.hookimpl(wrapper=True)
    def expfw_fit(self, run: expfw.Run) -> Iterator[None]:
        try:
            return (yield)
        finally:
            if self.began is not None and not self.traced:
                self._end(run)

    @expfw.hookimpl
    def expfw_run_ended(self, run: expfw.Run) -> None:
        folder = self._folder(run)
        folder.mkdir(exist_ok=True)
        text = stages(run)
        if self.traced:
            text += "\n\n" + operations(folder, self.traced, self.config.rows)
        (folder / "table.txt").write_text(text + "\n")
        run.add_artifact(folder)
        if not run.config.quiet:
            print(text)

    def _folder(self, run: expfw.Run) -> Path:
        return run.folder / "profile"
