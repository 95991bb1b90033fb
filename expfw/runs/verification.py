"""Verification that a resume is bit-identical: a run is resumed in a temporary folder and compared."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.api import checkpoints
from expfw.api.checkpoints import Snapshot
from expfw.api.contracts import Plugin, hookimpl
from expfw.api.run import Run
from expfw.errors import ConfigError
from expfw.runs import exact_comparison, resume
from expfw.runs.exact_comparison import Comparison
from expfw.runs.one_run import execute
from expfw.runs.recorded_setup import RecordedSetup
from expfw.runs.request import PreparedRun
from expfw.system.formatting import pluralize
from expfw.tracking import journal

_IGNORED_STATE_FIELDS = ("spent", "stop_reason", "warnings", "recent", "_hook_steps")


def verify_resume(
    recorded_run: RecordedSetup, secret_overrides: Sequence[str] = (), accept_differences: bool = False
) -> Comparison:
    """Resumes a run from its oldest checkpoint to its newest, in a temporary folder, and compares the results.

    It compares every metric between the two checkpoints, and the complete state at the newest one: weights, optimizer,
    random states and the state of callbacks.

    Args:
        recorded_run: recorded setup of the run.
        secret_overrides: `key=value` overrides for secrets, which are not in the record.
        accept_differences: whether machine and packages may differ from the recorded environment.

    Raises:
        ConfigError: if the run has fewer than two usable checkpoints.
    """
    folder = recorded_run.entry.folder
    snapshots = list(checkpoints.read_usable_checkpoints(folder, print, (folder / journal.NAME).stat().st_size))
    if len(snapshots) < 2:
        raise ConfigError(
            f"run {recorded_run.entry.id} has {pluralize(len(snapshots), 'usable checkpoint')}; expected 2 or more: "
            "one to resume from, one to compare with; save checkpoints more often: callback.checkpoint.every.steps=..."
        )
    newest, oldest = snapshots[0], snapshots[-1]
    with tempfile.TemporaryDirectory(prefix="expfw-") as root:
        copy_folder = Path(root) / "day" / folder.name
        _copy_checkpoint(folder, copy_folder, oldest)
        entry = dataclasses.replace(recorded_run.entry, folder=copy_folder, status="INTERRUPTED")
        prepared = resume.prepare_resume(
            dataclasses.replace(recorded_run, entry=entry), Path(root), secret_overrides, accept_differences
        )
        execute(_isolate_run(prepared), [_StopAtStep(newest.step)])
        new_snapshot = checkpoints.read_checkpoint(checkpoints.get_checkpoint_folder(copy_folder, newest.step))
        new_points = _read_points(copy_folder, oldest.journal, new_snapshot.journal)
    recorded_points = exact_comparison.group_points(journal.read_points(folder / journal.NAME))
    moved_tests = {
        key for key in recorded_points if key[0].startswith("test/") and key[1] in recorded_run.end_steps
    }  # the end of the run before it was trained longer
    expected_keys = (
        {key for key in recorded_points if oldest.step < key[1] < newest.step} - moved_tests
    ) | new_points.keys()
    differences = [
        *exact_comparison.compare_points({key: recorded_points.get(key, []) for key in expected_keys}, new_points),
        *exact_comparison.compare_arrays(newest.model.arrays, new_snapshot.model.arrays),
        *_compare_states(_collect_state(newest), _collect_state(new_snapshot)),
    ]
    return Comparison(
        f"run {recorded_run.entry.id} from step {oldest.step} to {newest.step}: "
        f"{exact_comparison.format_counts(new_points)}, "
        f"{len(newest.model.arrays)} arrays and the state of callbacks",
        tuple(differences),
    )


def _copy_checkpoint(folder: Path, target: Path, snapshot: Snapshot) -> None:
    """Copies a checkpoint and the journal up to it."""
    checkpoint = checkpoints.get_checkpoint_folder(folder, snapshot.step)
    shutil.copytree(checkpoint, checkpoints.get_checkpoint_folder(target, snapshot.step))
    (target / journal.NAME).write_bytes((folder / journal.NAME).read_bytes()[: snapshot.journal])


def _isolate_run(prepared: PreparedRun) -> PreparedRun:
    """Returns the same run without trackers, cache and replay."""
    assert prepared.request.resume_point is not None
    config = dataclasses.replace(prepared.config, tracker={}, quiet=True, cache_gib=0.0)
    resume_point = dataclasses.replace(prepared.request.resume_point, skip_comparison=True)
    request = dataclasses.replace(prepared.request, config=config, resume_point=resume_point)
    return PreparedRun(request, prepared.plugins.drop_kind("tracker"))


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


def _read_points(folder: Path, begin_offset: int, end_offset: int) -> dict[tuple[str, int], list[float]]:
    """Returns the points in a part of a journal."""
    path = folder / journal.NAME
    return exact_comparison.group_points(
        journal.parse_points(path.read_bytes()[begin_offset:end_offset], path, begin_offset)
    )


def _collect_state(snapshot: Snapshot) -> dict[str, Any]:
    run = {name: value for name, value in snapshot.run.items() if name not in _IGNORED_STATE_FIELDS}
    return {"run": run, **snapshot.plugins, "model": snapshot.model.values}


def _compare_states(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    return [f"the state of {name} differs" for name in first if repr(first[name]) != repr(second.get(name))]
