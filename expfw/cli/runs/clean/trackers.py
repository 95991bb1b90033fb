"""Taking deleted runs and sweeps out of the trackers that have them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from expfw.api.contracts import Tracker
from expfw.cli.runs.sync import Batch, batches
from expfw.config.freeze import make_plugins
from expfw.errors import ExpfwError, one_line
from expfw.plugins import manager
from expfw.plugins.catalogue import catalogue
from expfw.tracking.run_index import Entry
from expfw.tracking.shipper import delivery

log = logging.getLogger("expfw")


@dataclass
class Outcome:
    """What became of it.

    Attributes:
        done: names of the trackers that have nothing of what they were asked for any more.
        left: the ids that some tracker still has, each with the reason.
        notes: what else is to be known, a line each.
    """

    done: set[str] = field(default_factory=set)
    left: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def names(entry: Entry) -> set[str]:
    """The trackers that may have something of a run or sweep."""
    recorded = entry.first["config"]["tracker"] if "config" in entry.first else entry.first.get("tracker", {})
    return {*recorded, *_delivered_to(entry)}


def _delivered_to(entry: Entry) -> set[str]:
    return {path.stem for path in (entry.folder / "tracking").glob("*.json")}


def check(entries: Sequence[Entry], overrides: Sequence[str], runs_dir: Path, files: tuple[str, ...]) -> None:
    """That all is said that it takes to ask the trackers of these.

    Raises:
        ConfigError: the record of a tracker has a secret that must be given again.
    """
    list(_batches(entries, overrides, runs_dir, files))


def forget(entries: Sequence[Entry], overrides: Sequence[str], runs_dir: Path, files: tuple[str, ...]) -> Outcome:
    """Deletes what trackers have of these; who is absent there already is no matter.

    Args:
        entries: runs, and sweeps, which stand for their trials.
        overrides: of `tracker`, where it is another one than the record says.
    """
    outcome = Outcome()
    for batch in _batches(entries, overrides, runs_dir, files):
        for name, options in batch.config.tracker.items():
            one = replace(batch, config=replace(batch.config, tracker={name: options}))
            _forget_in(name, one, outcome)
    return outcome


def _batches(
    entries: Sequence[Entry], overrides: Sequence[str], runs_dir: Path, files: tuple[str, ...]
) -> Iterator[Batch]:
    """By the trackers that their records name; what was delivered to another one later, by that one's defaults."""
    having = [entry for entry in entries if names(entry)]
    yield from batches(having, overrides, runs_dir, files)
    if not overrides:
        for name in sorted({name for entry in having for name in _delivered_to(entry)}):
            others = [e for e in having if name in _delivered_to(e) and name not in _recorded(e)]
            if others:
                yield from batches(others, [f"tracker=[{name}]"], runs_dir, files)


def _recorded(entry: Entry) -> set[str]:
    return names(replace(entry, folder=entry.folder / "nothing was delivered"))


def _forget_in(name: str, batch: Batch, outcome: Outcome) -> None:
    ids = [entry.id for entry in batch.entries]
    runs_dir = Path(batch.config.runs_dir)
    try:
        (tracker,) = make_plugins(batch.config, catalogue(batch.files), kinds=("tracker",))
        assert isinstance(tracker, Tracker)
        hook = manager.manager([tracker], report=log.warning).hook
        answer = hook.expfw_delete(runs_dir=runs_dir, ids=ids)
    except (Exception, SystemExit) as error:  # whatever a tracker raises
        kind = "" if isinstance(error, (ConnectionError, ExpfwError)) else f"{type(error).__name__}: "
        outcome.left.update(dict.fromkeys(ids, f"{name}: {one_line(f'{kind}{error}')}"))
        return
    if answer is None:
        outcome.notes.append(f"tracker {name} cannot delete; what it has of {' '.join(ids[:3])} stays there")
        return
    outcome.done.add(name)
    here = tracker.destination(runs_dir)
    for entry in batch.entries:
        before = delivery.kept(entry.folder, name).get("destination", here)
        if before != here:
            outcome.notes.append(f"{entry.id} was delivered to {before}, and stays there; it was deleted in {here}")
