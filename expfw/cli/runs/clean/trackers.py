"""Deletion of runs and sweeps from trackers."""

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
    """Result of deletions from trackers.

    Attributes:
        tracker_names: names of the trackers that deleted runs.
        failures: reason of each failed deletion, by ID.
        notes: additional lines for the user.
    """

    tracker_names: set[str] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def get_tracker_names(entry: IndexEntry) -> set[str]:
    """Returns the names of trackers that may contain a run or sweep."""
    recorded = entry.first["config"]["tracker"] if "config" in entry.first else entry.first.get("tracker", {})
    return {*recorded, *_read_delivered_names(entry)}


def _read_delivered_names(entry: IndexEntry) -> set[str]:
    return {path.stem for path in (entry.folder / "tracking").glob("*.json")}


def check_secrets(
    entries: Sequence[IndexEntry],
    overrides: Sequence[str],
    workspace: Workspace,
) -> None:
    """Checks that all secrets for the trackers of these entries are given.

    Raises:
        ConfigError: if a secret of a tracker must be given again.
    """
    list(_make_tracker_batches(entries, overrides, workspace))


def delete_entries(
    entries: Sequence[IndexEntry],
    overrides: Sequence[str],
    workspace: Workspace,
) -> TrackerResult:
    """Deletes runs and sweeps from their trackers; it is no error if a tracker does not contain them.

    Args:
        entries: runs and sweeps; a sweep includes its trials.
        overrides: overrides of `tracker`, if it differs from the recorded tracker.
        workspace: the runs folder and the plugins.
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
    """Yields batches by recorded tracker, then by trackers that received the records later, with default options."""
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
    except (Exception, SystemExit) as error:  # a tracker may raise anything
        error_type = "" if isinstance(error, (ConnectionError, ExpfwError)) else f"{type(error).__name__}: "
        result.failures.update(dict.fromkeys(ids, f"{name}: {to_one_line(f'{error_type}{error}')}"))
        return
    if answer is None:
        result.notes.append(f"tracker {name} cannot delete runs; it still contains {' '.join(ids[:3])}")
        return
    result.tracker_names.add(name)
    destination = tracker.destination(runs_dir)
    for entry in batch.entries:
        earlier_destination = delivery.read_progress(entry.folder, name).get("destination", destination)
        if earlier_destination != destination:
            result.notes.append(
                f"{entry.id} was deleted from {destination}; its earlier copy in {earlier_destination} remains"
            )
