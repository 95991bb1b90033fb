"""`expfw runs clean`: lists the runs to delete and, with `--yes`, deletes them."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.cli.runs.clean.removal import CleanResult, delete, find_unfinished, get_tracker_names
from expfw.cli.runs.clean.selection import CleanRequest, Removal, Selection, measure_size
from expfw.errors import ConfigError, NotFoundError
from expfw.reports.console import make_console
from expfw.reports.table import Column, Table
from expfw.system.formatting import format_size, join_some, pluralize
from expfw.system.json_output import print_json
from expfw.tracking.recorded_run import DAMAGED
from expfw.tracking.workspace import Workspace

_MAX_ROWS = 40


def clean(
    ids_and_overrides: Sequence[str],
    keep_best: int | None,
    older_than: float | None,
    statuses: Sequence[str],
    checkpoints_only: bool,
    no_tracker: bool,
    yes: bool,
    workspace: Workspace,
    as_json: bool,
) -> int:
    """Lists or deletes runs and sweeps; see `CleanRequest` for the arguments. Returns 1 if a deletion failed."""
    ids = [value for value in ids_and_overrides if "=" not in value]
    overrides = [value for value in ids_and_overrides if "=" in value]
    request = CleanRequest(workspace, ids, keep_best, older_than, statuses, checkpoints_only, overrides, no_tracker)
    # Unfinished deletions wait for the trackers.
    unfinished = [] if no_tracker and request.has_rules else find_unfinished(workspace.runs_dir.absolute())
    if not request.has_rules and not unfinished:
        raise ConfigError(
            "no runs selected; expected IDs of runs or sweeps, --keep-best N, --older-than 30d, --status failed or "
            "--checkpoints-only; nothing is deleted without --yes"
        )
    selection = Selection(request)
    if not (selection.entries or unfinished):
        raise NotFoundError(f"no runs in folder {workspace.runs_dir}; for another one: --runs-dir FOLDER")
    result = delete(selection.removals, unfinished, request) if yes else CleanResult()
    if as_json:
        print_json(_to_json(selection, result, unfinished, yes))
        return 1 if result.failures else 0
    for line in [*(f"not deleted: {line}" for line in _group_by_reason(selection.spare_reasons)), *result.notes]:
        print(line)
    if yes:
        _print_result(result, len(unfinished))
    else:
        _print_plan(selection, unfinished, request)
    return 1 if result.failures else 0


def _group_by_reason(reasons: Mapping[str, str]) -> list[str]:
    """Returns a line for each reason, with the IDs to which it applies."""
    ids_by_reason: dict[str, list[str]] = defaultdict(list)
    for identity, reason in reasons.items():
        ids_by_reason[reason].append(identity)
    return [f"{join_some(ids)}: {reason}" for reason, ids in ids_by_reason.items()]


def _print_plan(selection: Selection, unfinished: Sequence[Path], request: CleanRequest) -> None:
    rows = _make_rows(selection.removals)
    rows += [[path.name, "interrupted deletion", None, None, measure_size(path)] for path in unfinished]
    freed_bytes = sum(row[-1] for row in rows)
    columns = [
        Column("checkpoints of" if request.checkpoints_only else "would delete"),
        Column("kind"),
        Column("last used", "code", lambda seconds: time.strftime("%Y-%m-%d", time.localtime(seconds))),
        Column("status", "code"),
        Column("size", "code", format_size),
    ]
    if rows:
        make_console().print(Table(columns, rows[:_MAX_ROWS]))
    if len(rows) > _MAX_ROWS:
        print(f"and {len(rows) - _MAX_ROWS} more; for all: --json")
    sweeps = sum(entry.is_sweep for entry in selection.kept)
    counts = f"{pluralize(len(selection.kept) - sweeps, 'run')}, {pluralize(sweeps, 'sweep')}"
    print(f"remaining: {counts}, {format_size(selection.measure_kept_bytes())}")
    if not rows:
        print("nothing to delete by these rules")
        return
    entries = [removal.entry for removal in selection.removals if removal.is_whole_folder and not request.no_tracker]
    tracker_names = sorted({name for entry in entries for name in get_tracker_names(entry)})
    tracker_note = f" and deletes the copies in {', '.join(tracker_names)}" if tracker_names else ""
    print(f"\nfrees {format_size(freed_bytes)}{tracker_note}. Nothing is deleted yet; to delete, add --yes")


def _make_rows(removals: Iterable[Removal]) -> list[list[Any]]:
    """Returns a row for each run and sweep; deleted trials of a remaining sweep share a row."""
    groups: dict[str, list[Removal]] = defaultdict(list)
    for removal in removals:
        groups[(removal.sweep or removal.entry).id].append(removal)
    rows = []
    for group in groups.values():
        entry, sweep = group[0].entry, group[0].sweep
        kind = "no readable journal" if entry.status == DAMAGED else "run"
        kind = f"sweep, {pluralize(len(group[0].trials), 'trial')}" if entry.is_sweep else kind
        rows.append(
            [
                join_some([removal.entry.id for removal in group], 3),
                kind if sweep is None else f"{pluralize(len(group), 'trial')} of sweep {sweep.id}",
                max(removal.entry.last["time"] for removal in group),
                " ".join(dict.fromkeys(removal.entry.status for removal in group)),
                sum(removal.size_bytes for removal in group),
            ]
        )
    return rows


def _print_result(result: CleanResult, unfinished_count: int) -> None:
    sweeps = sum(removal.entry.is_sweep for removal in result.removals)
    counts = {"run": len(result.removals) - sweeps, "sweep": sweeps, "partly deleted folder": unfinished_count}
    deleted = " and ".join(pluralize(count, noun) for noun, count in counts.items() if count) or "nothing"
    prefix = "the checkpoints of " if result.removals and not result.removals[0].is_whole_folder else ""
    tracker_note = f", also in {', '.join(sorted(result.tracker_names))}" if result.tracker_names else ""
    freed_size = format_size(sum(removal.size_bytes for removal in result.removals))
    print(f"deleted {prefix}{deleted}{tracker_note}; {freed_size} freed")
    for line in _group_by_reason(result.failures):
        print(f"expfw: {line}", file=sys.stderr)
    if result.failures:
        finish = "finish with: expfw runs clean --yes (--no-tracker leaves the trackers unchanged)"
        print(f"expfw: fix the problem, then {finish}", file=sys.stderr)


def _to_json(
    selection: Selection, result: CleanResult, unfinished: Sequence[Path], is_confirmed: bool
) -> dict[str, Any]:
    return {
        "deleted": is_confirmed,
        "delete": [
            {
                "id": removal.entry.id,
                "kind": "sweep" if removal.entry.is_sweep else "run" if removal.sweep is None else "trial",
                "sweep": removal.sweep and removal.sweep.id,
                "trials": [trial.id for trial in removal.trials],
                "status": removal.entry.status,
                "path": str(removal.path),
                "bytes": removal.size_bytes,
                "done": removal in result.removals,
            }
            for removal in selection.removals
        ],
        "not_deleted": selection.spare_reasons,
        "keep": [entry.id for entry in selection.kept],
        "bytes": sum(removal.size_bytes for removal in selection.removals),
        "unfinished": [str(path) for path in unfinished],
        "trackers": sorted(result.tracker_names),
        "failed": result.failures,
        "notes": result.notes,
    }
