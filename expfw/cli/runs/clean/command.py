"""`expfw runs clean`: lists the runs to delete and, with `--yes`, deletes them."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expfw.cli.output import Output
from expfw.cli.runs import sync
from expfw.cli.runs.clean import removal, trackers
from expfw.cli.runs.clean.rules import Rules
from expfw.cli.runs.clean.selection import Inventory, Removal, Selection, measure_size
from expfw.errors import ConfigError, NotFoundError, RunsFolderError
from expfw.reports import tables
from expfw.reports.console import make_console
from expfw.system import formatting
from expfw.system.formatting import pluralize
from expfw.system.json_output import print_json
from expfw.tracking.run_index import DAMAGED, IndexEntry
from expfw.tracking.workspace import Workspace

_MAX_ROWS = 40


@dataclass(frozen=True)
class CleanRequest:
    """Arguments of the command.

    Attributes:
        rules: rules that select runs and sweeps.
        workspace: the runs folder and the plugins.
        overrides: overrides of `tracker`, if it differs from the recorded tracker.
        include_trackers: whether to delete from the trackers, too.
        is_confirmed: whether to delete (`--yes`), not only to list.
    """

    rules: Rules
    workspace: Workspace
    overrides: Sequence[str] = ()
    include_trackers: bool = True
    is_confirmed: bool = False

    def format_command(self) -> str:
        """Returns the command that deletes, with `--yes`."""
        file_options = [word for file in self.workspace.catalogue.files for word in ("-p", file)]
        tracker_options = [] if self.include_trackers else ["--no-tracker"]
        rules = self.rules.to_arguments()
        arguments = ["expfw", *file_options, "runs", "clean", *rules, *self.overrides, *tracker_options, "--yes"]
        return shlex.join(arguments) + self.workspace.runs_dir_option


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


def clean(request: CleanRequest, output: Output) -> int:
    """Lists or deletes runs and sweeps; returns the exit code: 1 if a deletion failed, otherwise 0.

    Raises:
        ConfigError: if no rule is given, or a rule is invalid.
        NotFoundError: if there are no runs, or an ID matches none.
    """
    # Unfinished deletions wait for the trackers.
    root = request.workspace.runs_dir.absolute()
    unfinished = removal.find_unfinished(root) if request.include_trackers or request.rules.is_empty else []
    if request.rules.is_empty and not unfinished:
        raise ConfigError(
            "no runs selected; expected IDs of runs or sweeps, --keep-best N, --older-than 30d, --status failed or "
            "--checkpoints-only; nothing is deleted without --yes"
        )
    inventory = Inventory(request.workspace)
    if not (inventory.runs or inventory.sweeps or inventory.damaged_entries or unfinished):
        raise NotFoundError(f"no runs in folder {request.workspace.runs_dir}; for another one: --runs-dir FOLDER")
    selection = Selection() if request.rules.is_empty else inventory.select(request.rules)
    result = _delete_removals(selection.removals, unfinished, request) if request.is_confirmed else CleanResult()
    if output.is_json:
        print_json(_to_json(inventory, selection, result, unfinished, request))
    elif request.is_confirmed:
        _print_result(result, selection, unfinished)
    else:
        _print_plan(inventory, selection, unfinished, request)
    return 1 if result.failures else 0


def _delete_removals(removals: Sequence[Removal], unfinished: Sequence[Path], request: CleanRequest) -> CleanResult:
    result = CleanResult()
    marked_paths = list(unfinished)
    if request.include_trackers:
        entries = [entry for path in unfinished if (entry := removal.read_marked_entry(path)) is not None]
        entries += [target.entry for target in removals if target.is_whole_folder]
        trackers.check_secrets(entries, request.overrides, request.workspace)
    for path in marked_paths:
        removal.complete_ledger(path)
    for target in removals:
        try:
            _ = target.size_bytes  # measured before the deletion
            marked_paths.append(removal.mark_deleted(target))
            result.removals.append(target)
        except RunsFolderError as error:
            result.failures[target.entry.id] = str(error)
    tracker_failures = _delete_in_trackers(marked_paths, request, result)
    for path in marked_paths:
        entry = removal.read_marked_entry(path)
        try:
            if entry is not None and entry.id in tracker_failures:
                removal.reduce_to_journal(path)
            else:
                removal.remove_folder(path)
        except OSError as error:
            result.failures[path.name] = f"cannot delete {path}: {error.strerror}; to try again: expfw runs clean --yes"
    sync.remove_delivered_notes(request.workspace.runs_dir.absolute())
    return result


def _delete_in_trackers(marked_paths: Sequence[Path], request: CleanRequest, result: CleanResult) -> Mapping[str, str]:
    """Deletes the entries from the trackers; returns the reason of each failure, by ID."""
    entries = [entry for path in marked_paths if (entry := removal.read_marked_entry(path)) is not None]
    if not request.include_trackers or not any(trackers.get_tracker_names(entry) for entry in entries):
        return {}
    console = make_console(stderr=True)
    status = console.status("deleting from the trackers") if console.is_terminal else nullcontext()
    with status:
        tracker_result = trackers.delete_entries(entries, request.overrides, request.workspace)
    result.tracker_names, result.notes = tracker_result.tracker_names, tracker_result.notes
    result.failures |= tracker_result.failures
    return tracker_result.failures


def _print_plan(inventory: Inventory, selection: Selection, unfinished: Sequence[Path], request: CleanRequest) -> None:
    rows = _make_rows(selection.removals)
    if rows:
        title = "checkpoints of" if request.rules.checkpoints_only else "would delete"
        header = [title, "kind", "last used", "status", "size"]
        make_console().print(tables.make_plain_table(header, rows[:_MAX_ROWS], no_wrap=header[2:]))
        if len(rows) > _MAX_ROWS:
            print(f"and {len(rows) - _MAX_ROWS} more; for all: --json")
    else:
        print("nothing to delete" + (" by these rules" if not request.rules.is_empty else ""))
    if unfinished:
        print(
            f"to delete, from an interrupted deletion: {pluralize(len(unfinished), 'folder')}, "
            f"{formatting.format_size(sum(map(measure_size, unfinished)))}"
        )
    freed_bytes = sum(target.size_bytes for target in selection.removals) + sum(map(measure_size, unfinished))
    for line in _format_spared(selection):
        print(line)
    print(_format_kept(inventory, selection.removals))
    if rows or unfinished:
        tracker_names = ", ".join(
            sorted(
                {
                    name
                    for target in selection.removals
                    if target.is_whole_folder
                    for name in trackers.get_tracker_names(target.entry)
                }
            )
        )
        tracker_note = (
            f" and deletes the copies in {tracker_names}" if tracker_names and request.include_trackers else ""
        )
        print(
            f"\nfrees {formatting.format_size(freed_bytes)}{tracker_note}. Nothing is deleted yet; to "
            f"delete:\n{request.format_command()}"
        )


def _make_rows(removals: Sequence[Removal]) -> list[list[str]]:
    """Returns a row for each run and sweep; deleted trials of a remaining sweep share a row."""
    rows, targets_by_sweep = [], dict[str, list[Removal]]()
    for target in removals:
        if target.sweep is not None:
            targets_by_sweep.setdefault(target.sweep.id, []).append(target)
            continue
        description = f"sweep, {pluralize(len(target.trials), 'trial')}" if _is_sweep(target.entry) else "run"
        description = "no readable journal" if target.entry.status == DAMAGED else description
        rows.append(
            [
                target.entry.id,
                description,
                _format_last_used(target.entry),
                target.entry.status,
                formatting.format_size(target.size_bytes),
            ]
        )
    for sweep_id, targets in targets_by_sweep.items():
        ids = " ".join(target.entry.id for target in targets[:3]) + (" ..." if len(targets) > 3 else "")
        statuses = dict.fromkeys(target.entry.status for target in targets)
        newest = max((target.entry for target in targets), key=lambda entry: float(entry.last["time"]))
        description = f"{pluralize(len(targets), 'trial')} of sweep {sweep_id}"
        total = formatting.format_size(sum(target.size_bytes for target in targets))
        rows.append([ids, description, _format_last_used(newest), " ".join(statuses), total])
    return rows


def _format_spared(selection: Selection) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for identity, reason in selection.spare_reasons.items():
        reasons.setdefault(reason, []).append(identity)
    return [
        f"not deleted: {' '.join(ids[:5])}{f' and {len(ids) - 5} more' if len(ids) > 5 else ''}: {reason}"
        for reason, ids in reasons.items()
    ]


def _format_kept(inventory: Inventory, removals: Sequence[Removal]) -> str:
    deleted_ids = {
        entry.id for target in removals if target.is_whole_folder for entry in (target.entry, *target.trials)
    }
    sweeps = [entry for entry in inventory.sweeps if entry.id not in deleted_ids]
    runs = [entry for entry in inventory.runs if entry.id not in deleted_ids]
    trials = sum(inventory.get_sweep(run) is not None for run in runs)
    top_folders = [entry.folder for entry in (*sweeps, *runs) if inventory.get_sweep(entry) is None]
    kept_bytes = sum(map(measure_size, top_folders)) - sum(
        target.size_bytes for target in removals if target.sweep is not None or not target.is_whole_folder
    )
    parts = [pluralize(len(runs) - trials, "run")] * (len(runs) > trials)
    parts += [f"{pluralize(len(sweeps), 'sweep')} with {pluralize(trials, 'trial')}"] * bool(sweeps)
    return f"remaining: {', '.join([*parts, formatting.format_size(kept_bytes)]) if parts else 'nothing'}"


def _print_result(result: CleanResult, selection: Selection, unfinished: Sequence[Path]) -> None:
    for line in (*_format_spared(selection), *result.notes):
        print(line)
    runs = sum(not _is_sweep(target.entry) for target in result.removals)
    sweeps = len(result.removals) - runs
    counts = [pluralize(runs, "run")] * bool(runs) + [pluralize(sweeps, "sweep")] * bool(sweeps)
    prefix = "the checkpoints of " if result.removals and not result.removals[0].is_whole_folder else ""
    freed_size = formatting.format_size(sum(target.size_bytes for target in result.removals))
    counts += [f"{pluralize(len(unfinished), 'folder')} from an interrupted deletion"] * bool(unfinished)
    tracker_note = f", also in {', '.join(sorted(result.tracker_names))}" if result.tracker_names else ""
    print(f"deleted {prefix}{' and '.join(counts) or 'nothing'}{tracker_note}; {freed_size} freed")
    for line in dict.fromkeys(result.failures.values()):
        ids = [identity for identity, reason in result.failures.items() if reason == line]
        print(f"expfw: {' '.join(ids[:3])}{' ...' if len(ids) > 3 else ''}: {line}", file=sys.stderr)
    if result.failures:
        print(
            "expfw: fix the problem, then finish with: expfw runs clean --yes "
            "(--no-tracker leaves the trackers unchanged)",
            file=sys.stderr,
        )


def _to_json(
    inventory: Inventory, selection: Selection, result: CleanResult, unfinished: Sequence[Path], request: CleanRequest
) -> dict[str, Any]:
    deleted_ids = {entry.id for target in selection.removals for entry in (target.entry, *target.trials)}
    removed_ids = {target.entry.id for target in result.removals}
    return {
        "deleted": request.is_confirmed,
        "delete": [
            {**_describe_removal(target), "done": target.entry.id in removed_ids} for target in selection.removals
        ],
        "not_deleted": selection.spare_reasons,
        "keep": [entry.id for entry in (*inventory.sweeps, *inventory.runs) if entry.id not in deleted_ids],
        "bytes": sum(target.size_bytes for target in selection.removals),
        "unfinished": [str(path) for path in unfinished],
        "trackers": sorted(result.tracker_names),
        "failed": result.failures,
        "notes": result.notes,
    }


def _describe_removal(target: Removal) -> dict[str, Any]:
    return {
        "id": target.entry.id,
        "kind": "sweep" if _is_sweep(target.entry) else "run" if target.sweep is None else "trial",
        "sweep": None if target.sweep is None else target.sweep.id,
        "trials": [trial.id for trial in target.trials],
        "status": target.entry.status,
        "path": str(target.path),
        "bytes": target.size_bytes,
    }


def _is_sweep(entry: IndexEntry) -> bool:
    return bool(entry.first["kind"] == "sweep_started")


def _format_last_used(entry: IndexEntry) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(entry.last["time"]))
