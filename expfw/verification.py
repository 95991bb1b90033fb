"""A proof that going on with a run is exact: it is done again from an old checkpoint, aside, and compared."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expfw import checkpoints, comparison, journal, resume, run_record
from expfw.api import Plugin, hookimpl
from expfw.checkpoints import Snapshot
from expfw.comparison import Comparison
from expfw.errors import ConfigError
from expfw.folders import Entry
from expfw.one_run import execute
from expfw.resume import Recorded
from expfw.run_state import Run

_NOT_COMPARED = ("spent", "stop_reason", "warnings", "recent", "_wake_steps")


def verify(found: Recorded) -> Comparison:
    """Goes on from the oldest checkpoint of a run to its newest, in a folder aside that is thrown away.

    Compared are every metric in between and the whole state at the newest: weights, optimizer, random states, what
    callbacks remember.

    Raises:
        ConfigError: there are not two checkpoints.
    """
    folder = found.entry.folder
    good = list(checkpoints.good(folder, report=print))
    if len(good) < 2:
        raise ConfigError(
            f"run {found.entry.id} has {len(good)} checkpoints that can be read, and two are needed: one to begin at, "
            "one to compare with. Run it with callback.checkpoint.every.steps=... more often"
        )
    newest, oldest = good[0], good[-1]
    with tempfile.TemporaryDirectory(prefix="expfw-") as root:
        aside = Path(root) / "day" / folder.name
        _copy(folder, aside, oldest)
        entry = dataclasses.replace(found.entry, folder=aside, status="INTERRUPTED")
        execute(_request(found, entry, Path(root)), [_Until(newest.step)])
        again = checkpoints.read_checkpoint(checkpoints.of_step(aside, newest.step))
        points = [_between(folder, oldest, newest), _between(aside, oldest, again)]
    differences = [
        *comparison.other_points(*points),
        *comparison.other_arrays(newest.model.arrays, again.model.arrays),
        *_other_values(_values(newest), _values(again)),
    ]
    return Comparison(
        f"run {found.entry.id} from step {oldest.step} to {newest.step}: {comparison.counted(points[0])}, "
        f"{len(newest.model.arrays)} arrays and what callbacks remember",
        tuple(differences),
    )


def _copy(folder: Path, aside: Path, begin: Snapshot) -> None:
    """What it takes to go on from a checkpoint, and nothing that was recorded later."""
    checkpoint = checkpoints.of_step(folder, begin.step)
    shutil.copytree(checkpoint, checkpoints.of_step(aside, begin.step))
    for name in (run_record.CONFIG, run_record.ENVIRONMENT):
        shutil.copy(folder / name, aside / name)
    (aside / journal.NAME).write_bytes((folder / journal.NAME).read_bytes()[: begin.journal])


def _request(found: Recorded, entry: Entry, root: Path) -> Any:
    made = resume.to_go_on(dataclasses.replace(found, entry=entry), root)
    return dataclasses.replace(made, config=dataclasses.replace(made.config, tracker={}, quiet=True, cache_gib=0.0))


class _Until(Plugin):
    """Ends a run at a step, with a checkpoint."""

    kind = "display"

    def __init__(self, step: int) -> None:
        super().__init__(config=None, name="until")
        self.step = step

    @hookimpl
    def expfw_run_started(self, run: Run) -> None:
        run.wake_at(self.step)

    @hookimpl
    def expfw_steps_ended(self, run: Run) -> None:
        if run.step == self.step:
            run.request_stop("as far as was recorded")


def _between(folder: Path, begin: Snapshot, end: Snapshot) -> dict[tuple[str, int], list[float]]:
    """The points that the journal holds between two checkpoints."""
    data = (folder / journal.NAME).read_bytes()[begin.journal : end.journal]
    return comparison.points_of(journal.points_in(data, folder / journal.NAME, begin.journal))


def _values(snapshot: Snapshot) -> dict[str, Any]:
    run = {name: value for name, value in snapshot.run.items() if name not in _NOT_COMPARED}
    return {"run": run, **snapshot.plugins, "model": snapshot.model.values}


def _other_values(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [f"the state of {name} differs" for name in one if repr(one[name]) != repr(other.get(name))]
