"""A proof that going on with a run is exact: it is done again from an old checkpoint, aside, and compared."""

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
from expfw.runs import comparison, resume
from expfw.runs.comparison import Comparison
from expfw.runs.one_run import execute
from expfw.runs.request import Request
from expfw.runs.resume import Recorded
from expfw.system.formatting import many
from expfw.tracking import journal

_NOT_COMPARED = ("spent", "stop_reason", "warnings", "recent", "_wake_steps")


def verify(found: Recorded, secrets: Sequence[str] = (), accept: bool = False) -> Comparison:
    """Goes on from the oldest checkpoint of a run to its newest, in a folder aside that is thrown away.

    Compared are every metric in between and the whole state at the newest: weights, optimizer, random states, what
    callbacks remember.

    Args:
        secrets: `key=value` of what is not in the record.
        accept: whether machine and packages may be others than when the run began.

    Raises:
        ConfigError: there are not two checkpoints.
    """
    folder = found.entry.folder
    good = list(checkpoints.good(folder, print, (folder / journal.NAME).stat().st_size))
    if len(good) < 2:
        raise ConfigError(
            f"run {found.entry.id} has {many(len(good), 'checkpoint')} that can be read, and two are needed: "
            "one to begin at, one to compare with. Run it with callback.checkpoint.every.steps=... more often"
        )
    newest, oldest = good[0], good[-1]
    with tempfile.TemporaryDirectory(prefix="expfw-") as root:
        aside = Path(root) / "day" / folder.name
        _copy(folder, aside, oldest)
        entry = dataclasses.replace(found.entry, folder=aside, status="INTERRUPTED")
        made = resume.to_go_on(dataclasses.replace(found, entry=entry), Path(root), secrets, accept)
        execute(_aside(made), [_Until(newest.step)])
        again = checkpoints.read_checkpoint(checkpoints.of_step(aside, newest.step))
        points = _logged(aside, oldest.journal, again.journal)
    recorded = comparison.points_of(journal.points(folder / journal.NAME))
    tests = {key for key in recorded if key[0].startswith("test/") and key[1] in found.ends}  # at an end that was moved
    there = ({key for key in recorded if oldest.step < key[1] < newest.step} - tests) | points.keys()
    differences = [
        *comparison.other_points({key: recorded.get(key, []) for key in there}, points),
        *comparison.other_arrays(newest.model.arrays, again.model.arrays),
        *_other_values(_values(newest), _values(again)),
    ]
    return Comparison(
        f"run {found.entry.id} from step {oldest.step} to {newest.step}: {comparison.counted(points)}, "
        f"{len(newest.model.arrays)} arrays and what callbacks remember",
        tuple(differences),
    )


def _copy(folder: Path, aside: Path, begin: Snapshot) -> None:
    """What it takes to go on from a checkpoint, and nothing that was recorded later."""
    checkpoint = checkpoints.of_step(folder, begin.step)
    shutil.copytree(checkpoint, checkpoints.of_step(aside, begin.step))
    (aside / journal.NAME).write_bytes((folder / journal.NAME).read_bytes()[: begin.journal])


def _aside(made: Request) -> Request:
    assert made.continues is not None
    config = dataclasses.replace(made.config, tracker={}, quiet=True, cache_gib=0.0)
    return dataclasses.replace(made, config=config, continues=dataclasses.replace(made.continues, alone=True))


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


def _logged(folder: Path, begin: int, end: int) -> dict[tuple[str, int], list[float]]:
    """The points in a part of a journal."""
    path = folder / journal.NAME
    return comparison.points_of(journal.points_in(path.read_bytes()[begin:end], path, begin))


def _values(snapshot: Snapshot) -> dict[str, Any]:
    run = {name: value for name, value in snapshot.run.items() if name not in _NOT_COMPARED}
    return {"run": run, **snapshot.plugins, "model": snapshot.model.values}


def _other_values(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [f"the state of {name} differs" for name in one if repr(one[name]) != repr(other.get(name))]
