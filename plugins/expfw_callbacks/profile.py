"""Time profile of a run."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import expfw


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

    start_step: int | None = None
    traced_steps = 0

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
                import tensorflow as tf

                tf.profiler.experimental.start(str(run.folder / "profile"))
                self.start_step = run.step
                run.call_hooks_at(run.step + self.config.steps)
        elif run.step >= self.start_step + self.config.steps:
            self._stop_trace(run)

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
        folder = run.folder / "profile"
        folder.mkdir(exist_ok=True)
        text = format_stages(run)
        if self.traced_steps:
            text += "\n\n" + format_operations(folder, self.traced_steps, self.config.rows)
        (folder / "table.txt").write_text(text + "\n")
        run.add_artifact(folder)
        if not run.config.quiet:
            print(text)


_OPERATION_PATTERN = re.compile(r"([^: ]+):(\w+)")
_LINE_WIDTH = 79
_LOOP_PATTERN = re.compile(r"while/body/_\d+/|while/")


def format_stages(run: expfw.Run) -> str:
    """Formats the time in each stage of the run and the training throughput."""
    other_stage, *stages = run.stages.get_seconds_by_stage().items()  # the first is all time outside the named stages
    stages.append(other_stage)
    total_seconds = sum(seconds for _, seconds in stages) or 1.0
    lines = [f"time of {run.name}: {total_seconds:.1f} s"]
    for name, seconds in stages:
        rate = ""
        if name == "training" and seconds:
            steps = run.step / seconds
            rate = f"   {steps:,.0f} steps/s, {steps * run.config.train.batch_size:,.0f} samples/s"
        lines.append(f"  {name:<22}{seconds:>9.3f} s {100 * seconds / total_seconds:>5.1f} %{rate}")
    return "\n".join(lines)


def format_operations(folder: Path, steps: int, rows: int) -> str:
    """Formats the slowest operations of TensorFlow's trace, summed over all threads.

    Args:
        folder: output folder of the profiler.
        steps: number of traced steps.
        rows: largest number of operations to list.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    seconds_by_operation: dict[tuple[str, str], list[float]] = defaultdict(list)
    for path in folder.rglob("*.xplane.pb"):
        for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
            operations_by_id = {
                key: _parse_operation(plane.name, metadata.name) for key, metadata in plane.event_metadata.items()
            }
            for event in (event for line in plane.lines for event in line.events):
                if (operation := operations_by_id[event.metadata_id]) is not None:
                    seconds_by_operation[operation].append(event.duration_ps / 1e12)
    total_seconds = sum(map(sum, seconds_by_operation.values())) or 1.0
    lines = [f"operations of {steps} step{'' if steps == 1 else 's'}, {total_seconds:.3f} s over all threads"]
    for (location, kind), calls in sorted(seconds_by_operation.items(), key=lambda item: -sum(item[1]))[:rows]:
        share = f"{1000 * sum(calls):>9.2f} ms {100 * sum(calls) / total_seconds:>5.1f} % {len(calls):>6} x"
        line = f"  {share}  {kind}  "
        while len(line + location) > _LINE_WIDTH and location:  # its first parts do not fit
            location = location.partition("/")[2]
        lines.append((line + location)[:_LINE_WIDTH].rstrip())
    return "\n".join(lines)


def _parse_operation(plane: str, event: str) -> tuple[str, str] | None:
    """Returns name and kind of an operation; None if the event is not an operation but contains operations."""
    match = _OPERATION_PATTERN.fullmatch(event)
    if match is not None:
        return _LOOP_PATTERN.sub("", match[1]), match[2]
    return ("", event) if plane.startswith("/device:GPU") else None
