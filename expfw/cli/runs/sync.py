"""The command `runs sync`: delivers missing records to trackers."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from expfw.api.contracts import Tracker
from expfw.api.run_config import RunConfig, flatten
from expfw.cli.output import Output
from expfw.config.compose import compose
from expfw.config.run_plugins import make_plugins
from expfw.errors import ConfigError, JournalError, NotFoundError
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.redaction import HIDDEN
from expfw.reports.console import make_console
from expfw.system.formatting import pluralize
from expfw.system.json_output import print_json
from expfw.tracking import journal, run_index
from expfw.tracking.run_index import RUNNING, IndexEntry
from expfw.tracking.shipper import delivery
from expfw.tracking.shipper.client import queue_delivery, running_shipper
from expfw.tracking.shipper.process import FULL_CPU_SHARE
from expfw.tracking.workspace import Workspace


def sync(ids_and_overrides: Sequence[str], workspace: Workspace, redeliver: bool, output: Output) -> int:
    """`expfw runs sync`.

    Args:
        ids_and_overrides: IDs of runs and sweeps, all if there are no IDs; and overrides of `tracker`, for other
            destinations.
        workspace: the runs folder and the plugins.
        redeliver: whether to deliver everything again, for a tracker that lost its data.
        output: output format.

    Returns:
        The exit code: 1 if a journal could not be delivered, otherwise 0.

    Raises:
        ConfigError: if an override is not about trackers, or a secret is missing.
        NotFoundError: if there are no runs, or an ID matches none.
    """
    overrides = [word for word in ids_and_overrides if "=" in word]
    for word in overrides:
        if not word.lstrip("+").startswith("tracker"):
            raise ConfigError(f"invalid override {word}; expected a tracker: tracker=[NAME] or tracker.NAME.KEY=VALUE")
    entries = _select_entries([word for word in ids_and_overrides if "=" not in word], workspace)
    for entry in entries:
        if entry.status == RUNNING:
            print(f"{entry.id} is running and delivers its records itself; sync it after it has ended", file=sys.stderr)
    batches = make_batches([e for e in entries if e.status != RUNNING], overrides, workspace)
    for batch in batches:
        if not batch.config.tracker:
            print(_format_no_tracker_message(batch.entries, workspace), file=sys.stderr)
    counts = [batch.deliver(redeliver) for batch in batches if batch.config.tracker]
    delivered, undelivered_count = (sum(count[n] for count in counts) for n in (0, 1))
    remove_delivered_notes(workspace.runs_dir.absolute())
    running = [entry.id for entry in entries if entry.status == RUNNING]
    if output.is_json:
        print_json({"delivered": delivered, "undelivered": undelivered_count, "running": running})
        return 1 if undelivered_count else 0
    ended_note = " for ended runs" if running else ""
    print(
        f"{pluralize(delivered, 'journal')} delivered"
        + (f", {undelivered_count} not delivered" if undelivered_count else f"; nothing left to deliver{ended_note}")
    )
    return 1 if undelivered_count else 0


@dataclass
class JournalBatch:
    """Journals for the same trackers.

    Attributes:
        config: configuration with these trackers.
        catalogue: all plugins, including these trackers.
        entries: runs and sweeps, oldest first, a sweep before its trials.
    """

    config: RunConfig
    catalogue: Catalogue
    entries: list[IndexEntry] = field(default_factory=list)

    def deliver(self, redeliver: bool) -> tuple[int, int]:
        """Delivers missing records; returns the number of journals delivered and not delivered."""
        plugins = make_plugins(self.config, self.catalogue, kinds=("tracker",))
        runs_dir = Path(self.config.runs_dir)
        destinations = {plugin.name: plugin.destination(runs_dir) for plugin in plugins if isinstance(plugin, Tracker)}
        undelivered = [entry for entry in self.entries if redeliver or not _is_delivered(entry, destinations)]
        if not undelivered:
            return 0, 0
        console = make_console(stderr=True)
        message = f"delivering {pluralize(len(undelivered), 'journal')} to {', '.join(destinations)}"
        status = console.status(message) if console.is_terminal else nullcontext()
        with (
            status,
            running_shipper(
                self.config, self.catalogue.files, FULL_CPU_SHARE, redeliver, timeout_seconds=None
            ) as notes_folder,
        ):
            for entry in undelivered:
                queue_delivery(notes_folder, entry.id, entry.folder)
        delivered = sum(_is_delivered(entry, destinations) for entry in undelivered)
        return delivered, len(undelivered) - delivered


def remove_delivered_notes(runs_dir: Path) -> None:
    """Deletes notes of earlier commands about journals that are now delivered."""
    for notes_folder in (runs_dir / ".delivery").glob("*"):
        folders = [Path(note.read_text()) for note in notes_folder.iterdir() if not note.name.startswith(".")]
        if folders and all(_is_delivered_or_deleted(folder) for folder in folders):
            shutil.rmtree(notes_folder, ignore_errors=True)


def _is_delivered_or_deleted(folder: Path) -> bool:
    return not (folder / journal.NAME).exists() or set(delivery.describe_progress(folder).values()) == {
        delivery.COMPLETE
    }


def _is_delivered(entry: IndexEntry, destinations: Mapping[str, str]) -> bool:
    return all(delivery.is_complete(entry.folder, name, destination) for name, destination in destinations.items())


def _select_entries(ids: Sequence[str], workspace: Workspace) -> list[IndexEntry]:
    """Returns the entries, oldest first; a sweep includes its trials, and a trial its sweep."""
    entries = [*workspace.list_sweeps(), *workspace.list_runs()]
    if ids:
        selected_ids = {
            run_index.find_entry(iter(entries), id_prefix, "run", workspace.runs_dir).id for id_prefix in ids
        }
        sweep_ids = {entry.first.get("sweep_id") for entry in entries if entry.id in selected_ids}
        entries = [e for e in entries if e.id in selected_ids | sweep_ids or e.first.get("sweep_id") in selected_ids]
    if not entries:
        raise NotFoundError(f"no runs in folder {workspace.runs_dir}; to start one: expfw run")
    return sorted(entries, key=lambda entry: float(entry.first["time"]))


def make_batches(
    entries: Sequence[IndexEntry],
    overrides: Sequence[str],
    workspace: Workspace,
) -> list[JournalBatch]:
    """Groups the journals by their trackers: the recorded trackers, or the trackers of the overrides."""
    overriding_trackers = compose(overrides, workspace.catalogue).tracker if overrides else None
    batches: dict[str, JournalBatch] = {}
    for entry in entries:
        setup_record = _read_setup_record(entry)
        recorded = setup_record["config"]["tracker"] if "config" in setup_record else setup_record["tracker"]
        trackers = recorded if overriding_trackers is None else overriding_trackers
        if hidden := [key for key, value in flatten(trackers).items() if HIDDEN in str(value)]:
            raise ConfigError(
                f"tracker.{hidden[0]} is a secret and not in the record of {entry.id}; add it to the "
                f"command: tracker=[{hidden[0].partition('.')[0]}] tracker.{hidden[0]}=..."
            )
        all_files = tuple(dict.fromkeys([*setup_record["files"], *workspace.catalogue.files]))
        batch = JournalBatch(RunConfig(tracker=trackers, runs_dir=str(workspace.runs_dir)), get_catalogue(all_files))
        batches.setdefault(json.dumps([trackers, all_files], sort_keys=True), batch).entries.append(entry)
    return list(batches.values())


def _read_setup_record(entry: IndexEntry) -> journal.Record:
    """Returns the last record with the setup."""
    try:
        records, _ = journal.read_records(entry.folder / journal.NAME)
    except JournalError:
        return entry.first  # the delivery reports the error
    return next((r for r in reversed(records) if r["kind"] in ("run_resumed", "sweep_resumed")), entry.first)


def _format_no_tracker_message(entries: Sequence[IndexEntry], workspace: Workspace) -> str:
    ids = " ".join(entry.id for entry in entries[:3]) + (" ..." if len(entries) > 3 else "")
    return (
        f"{pluralize(len(entries), 'journal')} recorded without a tracker; to deliver them: "
        f"expfw runs sync {ids} 'tracker=[mlflow]'{workspace.runs_dir_option}"
    )
