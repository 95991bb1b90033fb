"""The tables of a profile, as text."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import expfw

_OPERATION = re.compile(r"([^: ]+):(\w+)")
_COLUMNS = 79
_LOOP = re.compile(r"while/body/_\d+/|while/")


def stages(run: expfw.Run) -> str:
    """What the run was doing for how long; with the throughput of the steps."""
    spent = run.stages.spent()
    whole = sum(spent.values()) or 1.0
    lines = [f"where the {whole:.1f} s of {run.name} went"]
    unnamed = next(iter(spent))  # what no stage is said of, is there from the beginning
    for name, seconds in [*((n, s) for n, s in spent.items() if n != unnamed), (unnamed, spent[unnamed])]:
        lines.append(f"  {name:<22}{seconds:>9.3f} s {100 * seconds / whole:>5.1f} %{_rate(name, seconds, run)}")
    return "\n".join(lines)


def _rate(name: str, seconds: float, run: expfw.Run) -> str:
    if name != "training" or not seconds:
        return ""
    rate = run.step / seconds
    return f"   {rate:,.0f} steps/s, {rate * run.config.train.batch_size:,.0f} samples/s"


def operations(folder: Path, steps: int, rows: int) -> str:
    """The operations that took longest in TensorFlow's trace, over all threads.

    Args:
        folder: that the profiler was told to write to.
        steps: that it looked at.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    calls: dict[tuple[str, str], int] = defaultdict(int)
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for path in folder.rglob("*.xplane.pb"):
        for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
            names = {key: _operation(plane.name, one.name) for key, one in plane.event_metadata.items()}
            for event in (event for line in plane.lines for event in line.events):
                if (name := names[event.metadata_id]) is not None:
                    calls[name] += 1
                    seconds[name] += event.duration_ps / 1e12
    whole = sum(seconds.values()) or 1.0
    lines = [f"the operations of {steps} step{'' if steps == 1 else 's'}, {whole:.3f} s over all threads"]
    for name in sorted(seconds, key=lambda name: -seconds[name])[:rows]:
        share = 100 * seconds[name] / whole
        line = f"  {1000 * seconds[name]:>9.2f} ms {share:>5.1f} % {calls[name]:>6} x  {name[1]}  "
        lines.append((line + _end(name[0], _COLUMNS - len(line)))[:_COLUMNS].rstrip())
    return "\n".join(lines)


def _end(path: str, room: int) -> str:
    """The last parts of a path, as many as there is room for."""
    while len(path) > room and path:
        path = path.partition("/")[2]
    return path


def _operation(plane: str, event: str) -> tuple[str, str] | None:
    """Name and kind of an operation; None where the event is none but something that operations are within."""
    found = _OPERATION.fullmatch(event)
    if found is not None:
        return _LOOP.sub("", found[1]), found[2]
    return ("", event) if plane.startswith("/device:GPU") else None
