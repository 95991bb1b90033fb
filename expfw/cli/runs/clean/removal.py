"""Deletion of runs and sweeps in an order that a kill cannot break.

First the folder is renamed to `.deleted-...`: the run disappears from all lists at once. Then it is deleted from the
trackers, then from the disk. If the process is killed in between, the next `expfw runs clean` finishes the deletion.
"""

from __future__ import annotations

import logging
import shutil
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from expfw.api import checkpoints
from expfw.api.contracts import Tracker
from expfw.api.result import KILLED
from expfw.cli.runs.clean.selection import CleanRequest, Removal
from expfw.cli.runs.sync import JournalBatch, make_batches, remove_delivered_notes
from expfw.config.run_plugins import make_plugins
from expfw.errors import ExpfwError, JournalError, RunsFolderError, to_one_line
from expfw.plugins.manager import make_manager
from expfw.reports.console import make_console
from expfw.system import atomic_files, process_lock
from expfw.tracking import journal
from expfw.tracking.ledger import WAITING, Ledger
from expfw.tracking.recorded_run import INTERRUPTED, RUNNING, RecordedRun, make_damaged_run, read_run
from expfw.tracking.run_folders import DELETED_PREFIX
from expfw.tracking.shipper import delivery

log = logging.getLogger("expfw")


@dataclass
class CleanResult:
    """Result of the command.

    Attributes:
        removals: deleted runs and sweeps.
        tracker_names: names of the trackers from which they were deleted.
        failures: reason of each failed deletion, by ID.
        notes: additional lines for the user.
    """

    removals: list[Removal] = field(default_factory=list)
    tracker_names: set[str] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_unfinished(root: Path) -> list[Path]:
    """Finds folders of deletions that were not completed."""
    patterns = (
        f"*/{DELETED_PREFIX}*",
        f"*/*/trials/{DELETED_PREFIX}*",
        f"*/*/{DELETED_PREFIX}{checkpoints.FOLDER}",
        f"*/*/trials/*/{DELETED_PREFIX}{checkpoints.FOLDER}",
    )
    paths = (path for pattern in patterns for path in root.glob(pattern))
    return sorted(path for path in paths if not path.is_symlink() and not path.parent.is_symlink())


def delete(removals: Sequence[Removal], unfinished: Sequence[Path], request: CleanRequest) -> CleanResult:
    """Deletes runs and sweeps, and completes unfinished deletions.

    Raises:
        ConfigError: if a secret of a tracker must be given again; nothing has been deleted.
    """
    result = CleanResult()
    marked = {path: _read_marked_entry(path) for path in unfinished}
    known_entries = [entry for entry in marked.values() if entry is not None]
    batches = []
    if not request.no_tracker:
        batches = _make_tracker_batches([*known_entries, *(r.entry for r in removals if r.is_whole_folder)], request)
    for entry in known_entries:
        _remove_folder_from_ledger(entry)  # in case a killed process did not
    for removal in removals:
        try:
            _ = removal.size_bytes  # measured before the deletion
            path = _mark_deleted(removal)
        except RunsFolderError as error:
            result.failures[removal.entry.id] = str(error)
            continue
        marked[path] = replace(removal.entry, folder=path) if removal.is_whole_folder else None
        result.removals.append(removal)
    if batches:
        with make_console(stderr=True).status("deleting from the trackers"):
            marked_by_id = {entry.id: entry for entry in marked.values() if entry is not None}
            for batch in batches:
                _delete_in_trackers(batch, marked_by_id, result)
    tracker_failures = set(result.failures)
    for path, marked_entry in marked.items():
        try:
            must_wait = marked_entry is not None and marked_entry.id in tracker_failures
            if path.exists():  # not inside a deleted sweep
                _remove_folder(path, [journal.NAME, "tracking"] if must_wait else [])
        except OSError as error:
            result.failures[path.name] = f"cannot delete {path}: {error.strerror}; to try again: expfw runs clean --yes"
    remove_delivered_notes(request.workspace.runs_dir.absolute())
    return result


def _read_marked_entry(path: Path) -> RecordedRun | None:
    """Returns the run or sweep of a renamed folder; None if it was deleted from the trackers or has no journal."""
    try:
        return read_run(path)
    except JournalError:
        return make_damaged_run(path) if (path / journal.NAME).exists() else None


def _mark_deleted(removal: Removal) -> Path:
    """Renames the folder to `.deleted-...`; the ledger of a remaining sweep keeps the result of its trial.

    Raises:
        RunsFolderError: if another process writes or delivers the folder, or it cannot be renamed.
    """
    marked_path = removal.path.with_name(f"{DELETED_PREFIX}{removal.path.name}")
    try:
        with ExitStack() as locks:
            if removal.sweep is not None:
                locks.enter_context(process_lock.lock_folder(removal.sweep.folder))
            for entry in (removal.entry, *removal.trials):
                locks.enter_context(process_lock.lock_folder(entry.folder))
                for progress in (entry.folder / "tracking").glob("*.json"):
                    locks.enter_context(FileLock(progress.with_suffix(".lock")).acquire(timeout=0))
            removal.path.rename(marked_path)
            atomic_files.sync_to_disk(marked_path.parent)
            if removal.is_whole_folder:
                _remove_folder_from_ledger(replace(removal.entry, folder=marked_path))
    except Timeout as error:
        folder = Path(error.lock_file).parent.parent
        raise RunsFolderError(f"{folder} is being delivered to a tracker; try again after the delivery") from error
    except OSError as error:
        raise RunsFolderError(f"cannot delete {removal.path}: {error.strerror}") from error
    return marked_path


def _remove_folder_from_ledger(marked_entry: RecordedRun) -> None:
    """Removes a trial's folder from its sweep's ledger; keeps its result, or resets an unfinished trial to WAITING."""
    ledger = Ledger(marked_entry.folder.parent.parent)
    with suppress(JournalError):
        for trial in ledger.read_trials():
            if trial.run_id == marked_entry.id and trial.folder is not None:
                state = replace(trial, folder=str(marked_entry.folder)).read_current_state()
                if state.status in (RUNNING, INTERRUPTED, KILLED):  # not running: its lock was free
                    state = replace(state, status=WAITING, run_id=None)
                ledger.write(replace(state, folder=None))


def get_tracker_names(entry: RecordedRun) -> set[str]:
    """Returns the names of trackers that may contain a run or sweep."""
    recorded = entry.first["config"]["tracker"] if "config" in entry.first else entry.first.get("tracker", {})
    return {*recorded, *(path.stem for path in (entry.folder / "tracking").glob("*.json"))}


def _make_tracker_batches(entries: Sequence[RecordedRun], request: CleanRequest) -> list[JournalBatch]:
    """Returns batches by recorded tracker, then by trackers that received the records later, with default options."""
    tracked = [entry for entry in entries if get_tracker_names(entry)]
    batches = make_batches(tracked, request.overrides, request.workspace)
    if request.overrides:
        return batches
    known = {(entry.id, name) for batch in batches for entry in batch.entries for name in batch.config.tracker}
    others: dict[str, list[RecordedRun]] = defaultdict(list)
    for entry in tracked:
        for name in get_tracker_names(entry):
            if (entry.id, name) not in known:
                others[name].append(entry)
    for name in sorted(others):
        batches += make_batches(others[name], [f"tracker=[{name}]"], request.workspace)
    return batches


def _delete_in_trackers(batch: JournalBatch, marked_by_id: dict[str, RecordedRun], result: CleanResult) -> None:
    """Deletes the renamed runs and sweeps of a batch; it is no error if a tracker does not contain them."""
    entries = [marked_by_id[entry.id] for entry in batch.entries if entry.id in marked_by_id]
    ids, runs_dir = [entry.id for entry in entries], Path(batch.config.runs_dir)
    for name, options in batch.config.tracker.items() if entries else ():
        try:
            config = replace(batch.config, tracker={name: options})
            (tracker,) = make_plugins(config, batch.catalogue, kinds=("tracker",))
            assert isinstance(tracker, Tracker)
            answer = make_manager([tracker], report=log.warning).hook.expfw_delete(runs_dir=runs_dir, ids=ids)
        except (Exception, SystemExit) as error:  # a tracker may raise anything
            error_type = "" if isinstance(error, (ConnectionError, ExpfwError)) else f"{type(error).__name__}: "
            result.failures |= dict.fromkeys(ids, f"{name}: {to_one_line(f'{error_type}{error}')}")
            continue
        if answer is None:
            result.notes.append(f"tracker {name} cannot delete runs; it still contains {' '.join(ids[:3])}")
            continue
        result.tracker_names.add(name)
        destination = tracker.destination(runs_dir)
        for entry in entries:
            earlier = delivery.read_progress(entry.folder, name).get("destination", destination)
            if earlier != destination:
                result.notes.append(f"{entry.id} was deleted from {destination}; its earlier copy in {earlier} remains")


def _remove_folder(marked_path: Path, kept_names: Sequence[str]) -> None:
    """Deletes a folder except these files, its journal first: without a journal, the trackers are not asked again."""
    for path in sorted(marked_path.iterdir(), key=lambda path: path.name != journal.NAME):
        if path.name in kept_names:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not kept_names:
        marked_path.rmdir()
        with suppress(OSError):  # the folder of the day contains other runs
            marked_path.parent.rmdir()
