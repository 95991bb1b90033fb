"""Bit-for-bit comparison of two runs, or of a run with its own resume."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from expfw.api import checkpoints
from expfw.api.checkpoints import Snapshot
from expfw.api.contracts import Plugin, hookimpl
from expfw.api.model_state import read_arrays
from expfw.api.result import Point
from expfw.api.run import Run
from expfw.errors import ConfigError
from expfw.runs import resume
from expfw.runs.one_run import execute
from expfw.runs.request import PreparedRun
from expfw.system.formatting import pluralize
from expfw.tracking import journal
from expfw.tracking.recorded_run import INTERRUPTED, RecordedRun, read_run

_IGNORED_STATE_FIELDS = (
    *("spent", "stop_reason", "warnings", "recent", "_hook_steps"),
    *("result_step", "result_metrics", "_metric_steps"),  # follow from the points
)
_MAX_LISTED_DIFFERENCES = 5
_WEIGHTS = Path("model") / "weights.safetensors"


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison: what was compared, for messages, and one line for each difference."""

    subject: str
    differences: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        return not self.differences

    @property
    def text(self) -> str:
        """Readable text of the result."""
        if self.is_exact:
            return f"{self.subject} are bit-identical"
        lines = [f"{self.subject} have {pluralize(len(self.differences), 'difference')}:", *self.differences]
        if (unlisted_count := len(self.differences) - _MAX_LISTED_DIFFERENCES) > 0:
            lines[-unlisted_count:] = [f"and {unlisted_count} more"]
        return "\n  ".join(lines)


def compare_runs(first: Path, second: Path, end_steps: Sequence[int] = ()) -> Comparison:
    """Compares every metric at every step, and the trained weights, of two run folders.

    The first run had ended at `end_steps` before it was trained longer; its earlier test metrics are skipped.
    """
    points = [group_points(read_run(folder).points) for folder in (first, second)]
    if end_steps:
        for key in [key for key in points[0] if key[0].startswith("test/") and key not in points[1]]:
            points[0].pop(key)
    weights = [read_arrays(f / _WEIGHTS) if (f / _WEIGHTS).exists() else {} for f in (first, second)]
    differences = [*compare_points(*points), *compare_arrays(*weights)]
    return Comparison(f"{format_counts(points[0])} and {len(weights[0])} arrays of weights", tuple(differences))


def group_points(points: Iterable[Point]) -> dict[tuple[str, int], list[float]]:
    """Returns the values of each metric at each step; several values if it was logged several times."""
    values_by_key: dict[tuple[str, int], list[float]] = {}
    for point in points:
        for name, value in point.values.items():
            values_by_key.setdefault((name, point.step), []).append(value)
    return values_by_key


def format_counts(points: Mapping[tuple[str, int], list[float]]) -> str:
    """Returns the number of values and metrics as text."""
    values, metrics = sum(map(len, points.values())), len({name for name, _ in points})
    return f"{pluralize(values, 'value')} of {pluralize(metrics, 'metric')}"


def compare_points(
    first: Mapping[tuple[str, int], list[float]], second: Mapping[tuple[str, int], list[float]]
) -> Iterable[str]:
    """Yields one line for each point that differs."""
    for name, step in sorted(first.keys() | second.keys(), key=lambda key: (key[1], key[0])):
        a, b = first.get((name, step), []), second.get((name, step), [])
        if not np.array_equal(a, b, equal_nan=True):
            a_text, b_text = (", ".join(map(repr, values)) or "absent" for values in (a, b))
            yield f"{name} at step {step}: {a_text} and {b_text}"


def compare_arrays(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> Iterable[str]:
    """Yields one line for each array that differs in any bit."""
    for name in sorted(first.keys() | second.keys()):
        if name not in first or name not in second:
            yield f"array {name} exists in only one of them"
            continue
        a, b = first[name], second[name]
        if a.dtype != b.dtype or a.shape != b.shape:
            yield f"array {name} is {a.dtype} {a.shape} and {b.dtype} {b.shape}"
        elif a.tobytes() != b.tobytes():
            yield f"array {name} differs in {np.count_nonzero(a != b)} of {a.size} elements"


def verify_resume(
    recorded_run: RecordedRun, secret_overrides: Sequence[str] = (), accept_differences: bool = False
) -> Comparison:
    """Resumes a run from its oldest checkpoint to its newest, in a temporary folder, and compares the results.

    It compares every metric between the two checkpoints, and the complete state at the newest one: weights, optimizer,
    random states and the state of callbacks.
    """
    folder = recorded_run.folder
    snapshots = list(checkpoints.read_usable_checkpoints(folder, print, (folder / journal.NAME).stat().st_size))
    if len(snapshots) < 2:
        raise ConfigError(
            f"run {recorded_run.id} has {pluralize(len(snapshots), 'usable checkpoint')}; expected 2 or more: "
            "one to resume from, one to compare with; save checkpoints more often: callback.checkpoint.every.steps=..."
        )
    newest, oldest = snapshots[0], snapshots[-1]
    unfinished_run = dataclasses.replace(recorded_run, status=INTERRUPTED)
    prepared = resume.prepare_resume(unfinished_run, secret_overrides, accept_differences)  # first: it checks the files
    with tempfile.TemporaryDirectory(prefix="expfw-") as root:
        new_folder = Path(root) / "day" / folder.name
        oldest_folder = checkpoints.get_checkpoint_folder(folder, oldest.step)
        shutil.copytree(oldest_folder, checkpoints.get_checkpoint_folder(new_folder, oldest.step))
        (new_folder / journal.NAME).write_bytes((folder / journal.NAME).read_bytes()[: oldest.journal])
        assert prepared.request.resume_point is not None
        # In another folder, without trackers, cache and replay.
        config = dataclasses.replace(prepared.config, runs_dir=root, tracker={}, quiet=True, cache_gib=0.0)
        resume_point = dataclasses.replace(prepared.request.resume_point, folder=new_folder, skip_comparison=True)
        request = dataclasses.replace(prepared.request, config=config, resume_point=resume_point)
        execute(PreparedRun(request, prepared.plugins.drop_kind("tracker")), [_StopAtStep(newest.step)])
        new_snapshot = checkpoints.read_checkpoint(checkpoints.get_checkpoint_folder(new_folder, newest.step))
        path = new_folder / journal.NAME
        new_data = path.read_bytes()[oldest.journal : new_snapshot.journal]
        new_points = group_points(journal.select_points(journal.parse_records(path, new_data, oldest.journal)))
    recorded_points = group_points(recorded_run.points)
    expected_keys = new_points.keys() | {
        (name, step)
        for name, step in recorded_points
        if oldest.step < step < newest.step
        and not (name.startswith("test/") and recorded_run.end_steps)  # it was trained longer afterwards
    }
    states, new_states = _collect_states(newest), _collect_states(new_snapshot)
    differences = [
        *compare_points({key: recorded_points.get(key, []) for key in expected_keys}, new_points),
        *compare_arrays(newest.model.arrays, new_snapshot.model.arrays),
        *(f"the state of {name} differs" for name in states if repr(states[name]) != repr(new_states.get(name))),
    ]
    subject = f"run {recorded_run.id} from step {oldest.step} to {newest.step}"
    counts = f"{format_counts(new_points)}, {len(newest.model.arrays)} arrays"
    return Comparison(f"{subject}: {counts} and the state of callbacks", tuple(differences))


def _collect_states(snapshot: Snapshot) -> dict[str, Any]:
    run = {name: value for name, value in snapshot.run.items() if name not in _IGNORED_STATE_FIELDS}
    return {"run": run, **snapshot.plugins, "model": snapshot.model.values}


class _StopAtStep(Plugin):
    """Stops a run at a step, with a checkpoint."""

    kind = "observer"

    def __init__(self, step: int) -> None:
        super().__init__(config=None, name="until")
        self.step = step

    @hookimpl
    def expfw_run_started(self, run: Run) -> None:
        run.call_hooks_at(self.step)

    @hookimpl
    def expfw_steps_ended(self, run: Run) -> None:
        if run.step == self.step:
            run.request_stop("reached the newest recorded checkpoint")
