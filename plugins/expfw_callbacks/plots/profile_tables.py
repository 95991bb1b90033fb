"""Tables of a profile, as text."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import expfw

_OPERATION_PATTERN = re.compile(r"([^: ]+):(\w+)")
_LINE_WIDTH = 79
_LOOP_PATTERN = re.compile(r"while/body/_\d+/|while/")


def format_stages(run: expfw.Run) -> str:
    """Formats the time in each stage of the run and the training throughput."""
    seconds_by_stage = run.stages.get_seconds_by_stage()
    total_seconds = sum(seconds_by_stage.values()) or 1.0
    lines = [f"time of {run.name}: {total_seconds:.1f} s"]
    other_stage = next(iter(seconds_by_stage))  # always the first: all time outside the named stages
    for name, seconds in [
        *((n, s) for n, s in seconds_by_stage.items() if n != other_stage),
        (other_stage, seconds_by_stage[other_stage]),
    ]:
        lines.append(
            f"  {name:<22}{seconds:>9.3f} s {100 * seconds / total_seconds:>5.1f} %{_format_rate(name, seconds, run)}"
        )
    return "\n".join(lines)


def _format_rate(name: str, seconds: float, run: expfw.Run) -> str:
    if name != "training" or not seconds:
        return ""
    steps_per_second = run.step / seconds
    return f"   {steps_per_second:,.0f} steps/s, {steps_per_second * run.config.train.batch_size:,.0f} samples/s"


def format_operations(folder: Path, steps: int, rows: int) -> str:
    """Formats the slowest operations of TensorFlow's trace, summed over all threads.

    Args:
        folder: output folder of the profiler.
        steps: number of traced steps.
        rows: largest number of operations to list.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    calls_by_operation: dict[tuple[str, str], int] = defaultdict(int)
    seconds_by_operation: dict[tuple[str, str], float] = defaultdict(float)
    for path in folder.rglob("*.xplane.pb"):
        for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
            operations_by_id = {
                key: _parse_operation(plane.name, metadata.name) for key, metadata in plane.event_metadata.items()
            }
            for event in (event for line in plane.lines for event in line.events):
                if (name := operations_by_id[event.metadata_id]) is not None:
                    calls_by_operation[name] += 1
                    seconds_by_operation[name] += event.duration_ps / 1e12
    total_seconds = sum(seconds_by_operation.values()) or 1.0
    lines = [f"operations of {steps} step{'' if steps == 1 else 's'}, {total_seconds:.3f} s over all threads"]
    for name in sorted(seconds_by_operation, key=lambda name: -seconds_by_operation[name])[:rows]:
        percent = 100 * seconds_by_operation[name] / total_seconds
        line = (
            f"  {1000 * seconds_by_operation[name]:>9.2f} ms {percent:>5.1f} % {calls_by_operation[name]:>6} x  "
            f"{name[1]}  "
        )
        lines.append((line + _shorten_path(name[0], _LINE_WIDTH - len(line)))[:_LINE_WIDTH].rstrip())
    return "\n".join(lines)


def _shorten_path(path: str, max_length: int) -> str:
    """Removes the first parts of a path until it fits."""
    while len(path) > max_length and path:
        path = path.partition("/")[2]
    return path


def _parse_operation(plane: str, event: str) -> tuple[str, str] | None:
    """Returns name and kind of an operation; None if the event is not an operation but contains operations."""
    match = _OPERATION_PATTERN.fullmatch(event)
    if match is not None:
        return _LOOP_PATTERN.sub("", match[1]), match[2]
    return ("", event) if plane.startswith("/device:GPU") else None
