"""Taking deleted runs and sweeps out of the trackers that have them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from expfw.api.contracts import Tracker
from expfw.cli.runs.sync import JournalBatch, make_batches
from expfw.config.run_plugins import make_plugins
from expfw.errors import ExpfwError, to_one_line
from expfw.plugins import manager
from expfw.tracking.run_index import IndexEntry
from expfw.tracking.shipper import delivery
from expfw.tracking.workspace import Workspace

log = logging.getLogger("expfw")


@dataclass
class TrackerResult:
    """What became of it.

    Attributes:
        tracker_names: names of the trackers that have nothing of what they were asked for any more.
        failures: the ids that some tracker still has, each with the reason.
        notes: what else is to be known, a line each.
    """

    tracker_names: set[str] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def get_tracker_names(entry: IndexEntry) -> set[str]:
    """The trackers that may have something of a run or sweep."""
    recorded = entry.first["config"]["tracker"] if "config" in entry.first else entry.first.get("tracker", {})
    return {*recorded, *_read_delivered_names(entry)}


def _read_delivered_names(entry: IndexEntry) -> set[str]:
    return {path.stem for path in (entry.folder / "tracking").glob("*.json")}


def check_secrets(
    entries: Sequence[IndexEntry],
    overrides: Sequence[str],
    workspace: Workspace,
) -> None:
    """That all is said that it takes to ask the trackers of these.

    Raises:
        ConfigError: the record of a tracker has a secret that must be given again.
    """
    list(_make_tracker_batches(entries, overrides, workspace))


def delete_entries(
    entries: Sequence[IndexEntry],
    overrides: Sequence[str],
    workspace: Workspace,
) -> TrackerResult:
    """Deletes what trackers have of these; who is absent there already is no matter.

    Args:
        entries: runs, and sweeps, which stand for their trials.
        overrides: of `tracker`, where it is another one than the record says.
    """
    result = TrackerResult()
    for batch in _make_tracker_batches(entries, overrides, workspace):
        for name, options in batch.config.tracker.items():
            tracker_batch = replace(batch, config=replace(batch.config, tracker={name: options}))
            _delete_in_tracker(name, tracker_batch, result)
    return result


def _make_tracker_batches(
    entries: Sequence[IndexEntry],
    overrides: Sequence[str],
    workspace: Workspace,
) -> Iterator[JournalBatch]:
    """By the trackers that their records name; what was delivered to another one later, by that one's defaults."""
    tracked_entries = [entry for entry in entries if get_tracker_names(entry)]
    yield from make_batches(tracked_entries, overrides, workspace)
    if not overrides:
        for name in sorted({name for entry in tracked_entries for name in _read_delivered_names(entry)}):
            others = [
                e for e in tracked_entries if name in _read_delivered_names(e) and name not in _read_recorded_names(e)
            ]
            if others:
                yield from make_batches(others, [f"tracker=[{name}]"], workspace)


def _read_recorded_names(entry: IndexEntry) -> set[str]:
    return get_tracker_names(replace(entry, folder=entry.folder / "nothing was delivered"))


def _delete_in_tracker(name: str, batch: JournalBatch, result: TrackerResult) -> None:
    ids = [entry.id for entry in batch.entries]
    runs_dir = Path(batch.config.runs_dir)
    try:
        (tracker,) = make_plugins(batch.config, batch.catalogue, kinds=("tracker",))
        assert isinstance(tracker, Tracker)
        hook = manager.make_manager([tracker], report=log.warning).hook
        answer = hook.expfw_delete(runs_dir=runs_dir, ids=ids)
    except (Exception, SystemExit) as error:  # whatever a tracker raises
        error_type = "" if isinstance(error, (ConnectionError, ExpfwError)) else f"{type(error).__name__}: "
        result.failures.update(dict.fromkeys(ids, f"{name}: {to_one_line(f'{error_type}{error}')}"))
        return
    if answer is None:
        result.notes.append(f"tracker {name} cannot delete; what it has of {' '.join(ids[:3])} stays there")
        return
    result.tracker_names.add(name)
    destination = tracker.destination(runs_dir)
    for entry in batch.entries:
        earlier_destination = delivery.read_progress(entry.folder, name).get("destination", destination)
        if earlier_destination != destination:
            result.notes.append(
                f"{entry.id} was delivered to {earlier_destination}, and stays there; it was deleted in {destination}"
            )
