"""Deletion of runs and sweeps in an order that a kill cannot break.

First the folder is renamed to `.deleted-...`: the run disappears from all lists at once. Then it is deleted from the
trackers, then from the disk. If the process is killed in between, the next `expfw runs clean` finishes the deletion.

Checkpoints are deleted in place: a resumed run skips those that are damaged.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from expfw.api.contracts import Tracker
from expfw.api.delivery_progress import read_progress
from expfw.api.result import KILLED
from expfw.cli.runs.clean.selection import Removal
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
from expfw.tracking.run_index import Workspace

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


def find_unfinished(runs_dir: Path) -> list[Path]:
    """Finds folders of deletions that were not completed."""
    patterns = (f"*/{DELETED_PREFIX}*", f"*/*/trials/{DELETED_PREFIX}*")
    paths = (path for pattern in patterns for path in runs_dir.absolute().glob(pattern))
    return sorted(path for path in paths if not path.is_symlink() and not path.parent.is_symlink())


def delete(
    removals: Sequence[Removal], unfinished: Sequence[Path], overrides: Sequence[str] | None, workspace: Workspace
) -> CleanResult:
    """Deletes runs and sweeps, and completes unfinished deletions; without overrides (None), not in the trackers.

    Raises:
        ConfigError: if a secret of a tracker must be given again; nothing has been deleted.
    """
    result = CleanResult()
    marked: dict[str, RecordedRun] = {}
    for path in unfinished:
        try:
            recorded = read_run(path)
        except JournalError:
            recorded = make_damaged_run(path)
        marked[recorded.id] = recorded
    deleted = [*marked.values(), *(removal.recorded for removal in removals if removal.is_whole_folder)]
    batches = [] if overrides is None else _make_tracker_batches(deleted, overrides, workspace)
    for recorded in marked.values():
        _remove_folder_from_ledger(recorded)  # in case a killed process did not
    for removal in removals:
        try:
            if (folder := _mark_deleted(removal)) is not None:
                marked[removal.recorded.id] = replace(removal.recorded, folder=folder)
            result.removals.append(removal)
        except RunsFolderError as error:
            result.failures[removal.recorded.id] = str(error)
    with make_console(stderr=True).status("deleting from the trackers") if batches else nullcontext():
        for batch in batches:
            _delete_in_trackers(batch, marked, result)
    for recorded in marked.values():
        kept_names = ["tracking", journal.NAME] if recorded.id in result.failures else []  # for the next command
        try:
            if recorded.folder.exists():  # not inside a deleted sweep
                _remove_folder(recorded.folder, kept_names)
        except OSError as error:
            advice = "to try again: expfw runs clean --yes"
            result.failures[recorded.id] = f"cannot delete {recorded.folder}: {error.strerror}; {advice}"
    remove_delivered_notes(workspace.runs_dir.absolute())
    return result


def _mark_deleted(removal: Removal) -> Path | None:
    """Renames the folder to `.deleted-...`; deletes checkpoints at once, and returns None for them.

    The ledger of a remaining sweep keeps the result of its trial.

    Raises:
        RunsFolderError: if another process writes or delivers the folder, or it cannot be renamed.
    """
    try:
        with ExitStack() as locks:
            if removal.sweep is not None:
                locks.enter_context(process_lock.lock_folder(removal.sweep.folder))
            for recorded in (removal.recorded, *removal.trials):
                locks.enter_context(process_lock.lock_folder(recorded.folder))
                for progress in (recorded.folder / "tracking").glob("*.json"):
                    locks.enter_context(FileLock(progress.with_suffix(".lock")).acquire(timeout=0))
            if not removal.is_whole_folder:
                shutil.rmtree(removal.path)
                return None
            marked_folder = removal.path.rename(removal.path.with_name(f"{DELETED_PREFIX}{removal.path.name}"))
            atomic_files.sync_to_disk(marked_folder.parent)
            _remove_folder_from_ledger(replace(removal.recorded, folder=marked_folder))
            return marked_folder
    except Timeout as error:
        folder = Path(error.lock_file).parent.parent
        raise RunsFolderError(f"{folder} is being delivered to a tracker; try again after the delivery") from error
    except OSError as error:
        raise RunsFolderError(f"cannot delete {removal.path}: {error.strerror}") from error


def _remove_folder_from_ledger(marked_run: RecordedRun) -> None:
    """Removes a trial's folder from its sweep's ledger; keeps its result, or resets an unfinished trial to WAITING."""
    ledger = Ledger(marked_run.folder.parent.parent)
    with suppress(JournalError):
        for trial in ledger.read_trials():
            if trial.run_id == marked_run.id and trial.folder is not None:
                state = replace(trial, folder=str(marked_run.folder)).read_current_state()
                if state.status in (RUNNING, INTERRUPTED, KILLED):  # not running: its lock was free
                    state = replace(state, status=WAITING, run_id=None)
                ledger.write(replace(state, folder=None))


def get_tracker_names(recorded: RecordedRun) -> set[str]:
    """Returns the names of trackers that may contain a run or sweep."""
    start = recorded.first
    recorded_names = start["config"]["tracker"] if "config" in start else start.get("tracker", {})
    return {*recorded_names, *(path.stem for path in (recorded.folder / "tracking").glob("*.json"))}


def _make_tracker_batches(
    recorded_runs: Sequence[RecordedRun], overrides: Sequence[str], workspace: Workspace
) -> list[JournalBatch]:
    """Returns batches by recorded tracker, then by trackers that received the records later, with default options."""
    tracked = [recorded for recorded in recorded_runs if get_tracker_names(recorded)]
    batches = make_batches(tracked, overrides, workspace)
    if not overrides:
        known = {(recorded.id, name) for batch in batches for recorded in batch.runs for name in batch.config.tracker}
        others = [(name, run) for run in tracked for name in get_tracker_names(run) if (run.id, name) not in known]
        for name in sorted({name for name, _ in others}):
            runs = [run for other_name, run in others if other_name == name]
            batches += make_batches(runs, [f"tracker=[{name}]"], workspace)
    return batches


def _delete_in_trackers(batch: JournalBatch, marked: Mapping[str, RecordedRun], result: CleanResult) -> None:
    """Deletes the renamed runs and sweeps of a batch; it is no error if a tracker does not contain them."""
    runs = [marked[recorded.id] for recorded in batch.runs if recorded.id in marked]
    ids, runs_dir = [run.id for run in runs], Path(batch.config.runs_dir)
    for name, options in batch.config.tracker.items() if runs else ():
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
        for run in runs:
            earlier = read_progress(run.folder, name).destination
            if earlier not in ("", destination):
                result.notes.append(f"{run.id} was deleted from {destination}; its earlier copy in {earlier} remains")


def _remove_folder(marked_folder: Path, kept_names: Sequence[str]) -> None:
    """Deletes a folder except these files; first those that name the trackers, so that these are not asked again."""
    for path in sorted(marked_folder.iterdir(), key=lambda path: (path.name != "tracking", path.name != journal.NAME)):
        if path.name in kept_names:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not kept_names:
        marked_folder.rmdir()
        with suppress(OSError):  # the folder of the day contains other runs
            marked_folder.parent.rmdir()
