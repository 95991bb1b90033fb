"""The command `runs sync`: delivers missing records to trackers."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from expfw.api.contracts import Tracker
from expfw.api.run_config import RunConfig, flatten
from expfw.config.compose import compose
from expfw.config.run_plugins import make_plugins
from expfw.errors import ConfigError, ExpfwError, JournalError, NotFoundError
from expfw.plugins.catalogue import Catalogue
from expfw.redaction import HIDDEN, redact_text
from expfw.reports.console import make_console
from expfw.system.formatting import join_some, pluralize
from expfw.system.json_output import print_json
from expfw.system.temporary_folders import is_used, remove_abandoned
from expfw.tracking import journal, run_index
from expfw.tracking.recorded_run import RUNNING, RecordedRun
from expfw.tracking.run_index import Workspace
from expfw.tracking.shipper import delivery
from expfw.tracking.shipper.process import (
    DELIVERY_FOLDER,
    FULL_CPU_SHARE,
    RESULT_FILE,
    queue_delivery,
    running_shipper,
)


def sync(ids_and_overrides: Sequence[str], redeliver: bool, workspace: Workspace, as_json: bool) -> int:
    """Delivers missing records, of all runs if there are no IDs; returns 1 if a journal could not be delivered."""
    ids = [value for value in ids_and_overrides if "=" not in value]
    overrides = [value for value in ids_and_overrides if "=" in value]
    for override in overrides:
        if not override.lstrip("+").startswith("tracker"):
            raise ConfigError(
                f"invalid override {override}; expected a tracker: tracker=[NAME] or tracker.NAME.KEY=VALUE"
            )
    runs = run_index.list_all(workspace.runs_dir)[::-1]
    if ids:  # a sweep includes its trials, and a trial its sweep
        selected_ids = {run_index.find_recorded(runs, run_id, "run", workspace.runs_dir).id for run_id in ids}
        sweep_ids = {run.first.get("sweep_id") for run in runs if run.id in selected_ids}
        runs = [run for run in runs if run.id in selected_ids | sweep_ids or run.first.get("sweep_id") in selected_ids]
    if not runs:
        raise NotFoundError(f"no runs in folder {workspace.runs_dir}; to start one: expfw run")
    running = [run.id for run in runs if run.status == RUNNING]
    for run_id in running:
        print(f"{run_id} is running and delivers its records itself; sync it after it has ended", file=sys.stderr)
    delivered = undelivered = 0
    unusable: dict[str, ExpfwError] = {}
    for batch in make_batches([run for run in runs if run.status != RUNNING], overrides, workspace, unusable):
        if batch.config.tracker:
            delivered_now, undelivered_now = batch.deliver(redeliver)
            delivered, undelivered = delivered + delivered_now, undelivered + undelivered_now
        else:
            print(
                f"{pluralize(len(batch.runs), 'journal')} recorded without a tracker; to deliver them: expfw runs "
                f"sync {' '.join(run.id for run in batch.runs)} 'tracker=[mlflow]'{workspace.runs_dir_option}",
                file=sys.stderr,
            )
    remove_delivered_notes(workspace.runs_dir.absolute())
    undelivered += len(unusable)
    if as_json:
        print_json({"delivered": delivered, "undelivered": undelivered, "running": running})
    else:
        nothing_left = "nothing left to deliver" + (" for ended runs" if running else "")
        rest = f", {undelivered} not delivered" if undelivered else f"; {nothing_left}"
        print(f"{pluralize(delivered, 'journal')} delivered{rest}")
    if unusable:
        first_error, *other_errors = unusable.values()
        if other_errors:
            others = join_some([*unusable][1:])
            first_error.add_note(f"({pluralize(len(other_errors), 'more run')} not delivered: {others})")
        first_error.exit_code = 1
        raise first_error
    return 1 if undelivered else 0


@dataclass
class JournalBatch:
    """Journals for the same trackers.

    Attributes:
        config: configuration with these trackers.
        catalogue: all plugins, including these trackers.
        runs: runs and sweeps, oldest first, a sweep before its trials.
    """

    config: RunConfig
    catalogue: Catalogue
    runs: list[RecordedRun] = field(default_factory=list)

    def deliver(self, redeliver: bool) -> tuple[int, int]:
        """Delivers missing records; returns the number of journals delivered and not delivered."""
        plugins = make_plugins(self.config, self.catalogue, kinds=("tracker",))
        runs_dir = Path(self.config.runs_dir)
        destinations = {
            plugin.name: redact_text(plugin.destination(runs_dir)) for plugin in plugins if isinstance(plugin, Tracker)
        }

        def is_delivered(run: RecordedRun) -> bool:
            return all(delivery.is_complete(run.folder, *destination) for destination in destinations.items())

        missing = [run for run in self.runs if redeliver or not is_delivered(run)]
        if not missing:
            return 0, 0
        message = f"delivering {pluralize(len(missing), 'journal')} to {', '.join(destinations)}"
        with (
            make_console(stderr=True).status(message),
            running_shipper(
                self.config, self.catalogue.files, FULL_CPU_SHARE, redeliver, timeout_seconds=None
            ) as notes_folder,
        ):
            for run in missing:
                queue_delivery(notes_folder, run.id, run.folder)
        delivered = sum(map(is_delivered, missing))
        return delivered, len(missing) - delivered


def remove_delivered_notes(runs_dir: Path) -> None:
    """Deletes notes of earlier commands about journals that are now delivered or deleted."""
    delivery_folder = runs_dir / DELIVERY_FOLDER
    if delivery_folder.is_symlink():  # nothing outside of the runs folder is deleted
        return
    remove_abandoned(delivery_folder, prefix="", is_needed=lambda folder: (folder / RESULT_FILE).exists())
    for notes_folder in delivery_folder.glob("*/"):
        notes = [note for note in notes_folder.iterdir() if not note.name.startswith(".") and note.is_file()]
        folders = [Path(os.fsdecode(note.read_bytes())) for note in notes]
        journals = [folder for folder in folders if (folder / journal.NAME).exists()]
        is_delivered = all({*delivery.describe_progress(f).values()} == {delivery.COMPLETE} for f in journals)
        if folders and is_delivered and not is_used(notes_folder):
            shutil.rmtree(notes_folder, ignore_errors=True)


def make_batches(
    runs: Sequence[RecordedRun],
    overrides: Sequence[str],
    workspace: Workspace,
    unusable: dict[str, ExpfwError] | None = None,
) -> list[JournalBatch]:
    """Groups the journals by their trackers: the recorded trackers, or the trackers of the overrides.

    A run whose trackers cannot be used is added to `unusable`, by ID, with the error.

    Raises:
        ExpfwError: if there is no `unusable`.
        ConfigError: if a secret of a tracker must be given again.
    """
    overriding_trackers = compose(overrides, workspace.catalogue).tracker if overrides else None
    batches: dict[str, JournalBatch] = {}
    for run in runs:
        try:
            # A copy of the run, so that its records do not stay in memory.
            setup = [run.first, *replace(run).starts][-1]
        except JournalError:
            setup = run.first  # the delivery reports the error
        recorded_trackers = setup["config"]["tracker"] if "config" in setup else setup["tracker"]
        trackers = recorded_trackers if overriding_trackers is None else overriding_trackers
        if hidden := [key for key, value in flatten(trackers).items() if HIDDEN in str(value)]:
            raise ConfigError(
                f"tracker.{hidden[0]} is a secret and not in the record of {run.id}; add it to the "
                f"command: tracker=[{hidden[0].partition('.')[0]}] tracker.{hidden[0]}=..."
            )
        config = RunConfig(tracker=trackers, runs_dir=str(workspace.runs_dir))
        names = [("tracker", node["plugin"]) for node in trackers.values()]
        try:
            catalogue = workspace.trust.make_catalogue(f"run {run.id}", setup["files"], names)
            make_plugins(config, catalogue, kinds=("tracker",))
        except ExpfwError as error:
            if unusable is None or overriding_trackers is not None:
                raise
            unusable[run.id] = error
            continue
        key = json.dumps([trackers, catalogue.files], sort_keys=True)
        batches.setdefault(key, JournalBatch(config, catalogue)).runs.append(run)
    return list(batches.values())
