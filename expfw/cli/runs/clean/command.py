"""`expfw runs clean`: lists the runs to delete and, with `--yes`, deletes them."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.cli.runs.clean.removal import CleanResult, delete, find_unfinished, get_tracker_names
from expfw.cli.runs.clean.selection import Removal, Selection, measure_size
from expfw.errors import ConfigError, NotFoundError
from expfw.reports.console import make_console
from expfw.reports.table import Column, Table
from expfw.system.formatting import format_size, join_some, pluralize
from expfw.system.json_output import print_json
from expfw.tracking.recorded_run import DAMAGED
from expfw.tracking.run_index import Workspace

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
    """Lists or deletes runs and sweeps; see `Selection` for the arguments. Returns 1 if a deletion failed."""
    ids = [value for value in ids_and_overrides if "=" not in value]
    overrides = None if no_tracker else [value for value in ids_and_overrides if "=" in value]
    selection = Selection(workspace.runs_dir, ids, keep_best, older_than, statuses, checkpoints_only)
    # Unfinished deletions wait for the trackers.
    unfinished = [] if no_tracker and selection.has_rules else find_unfinished(workspace.runs_dir)
    if not selection.has_rules and not unfinished:
        raise ConfigError(
            "no runs selected; expected IDs of runs or sweeps, --keep-best N, --older-than 30d, --status failed or "
            "--checkpoints-only; nothing is deleted without --yes"
        )
    if not (selection.all_recorded or unfinished):
        raise NotFoundError(f"no runs in folder {workspace.runs_dir}; for another one: --runs-dir FOLDER")
    result = delete(selection.removals, unfinished, overrides, workspace) if yes else CleanResult()
    if as_json:
        print_json(_to_json(selection, result, unfinished, yes))
    else:
        for line in [*(f"not deleted: {line}" for line in _group_by_reason(selection.spare_reasons)), *result.notes]:
            print(line)
        if yes:
            _print_result(result, len(unfinished))
        else:
            _print_plan(selection, unfinished, no_tracker)
    return 1 if result.failures else 0


def _group_by_reason(reasons: Mapping[str, str]) -> list[str]:
    """Returns a line for each reason, with the IDs to which it applies."""
    ids_by_reason: dict[str, list[str]] = defaultdict(list)
    for run_id, reason in reasons.items():
        ids_by_reason[reason].append(run_id)
    return [f"{join_some(ids)}: {reason}" for reason, ids in ids_by_reason.items()]


def _print_plan(selection: Selection, unfinished: Sequence[Path], no_tracker: bool) -> None:
    groups: dict[str, list[Removal]] = defaultdict(list)  # deleted trials of a remaining sweep share a row
    for removal in selection.removals:
        groups[(removal.sweep or removal.recorded).id].append(removal)
    rows = [_make_row(group) for group in groups.values()]
    rows += [[path.name, "interrupted deletion", None, None, measure_size(path)] for path in unfinished]
    columns = [
        Column("checkpoints of" if selection.checkpoints_only else "would delete"),
        Column("kind"),
        Column("last used", "code", lambda seconds: time.strftime("%Y-%m-%d", time.localtime(seconds))),
        Column("status", "code"),
        Column("size", "code", format_size),
    ]
    if rows:
        make_console().print(Table(columns, rows[:_MAX_ROWS]))
    if len(rows) > _MAX_ROWS:
        print(f"and {len(rows) - _MAX_ROWS} more; for all: --json")
    sweeps = sum(recorded.is_sweep for recorded in selection.kept)
    counts = f"{pluralize(len(selection.kept) - sweeps, 'run')}, {pluralize(sweeps, 'sweep')}"
    top_folders = {recorded.folder for recorded in selection.all_recorded if recorded.folder.parent.name != "trials"}
    kept_bytes = sum(map(measure_size, top_folders)) - sum(removal.size_bytes for removal in selection.removals)
    print(f"remaining: {counts}, {format_size(kept_bytes)}")
    if not rows:
        print("nothing to delete by these rules")
        return
    tracked = [removal.recorded for removal in selection.removals if removal.is_whole_folder and not no_tracker]
    tracker_names = sorted({name for recorded in tracked for name in get_tracker_names(recorded)})
    tracker_note = f" and deletes the copies in {', '.join(tracker_names)}" if tracker_names else ""
    freed_size = format_size(sum(row[-1] for row in rows))
    print(f"\nfrees {freed_size}{tracker_note}. Nothing is deleted yet; to delete, add --yes")


def _make_row(group: Sequence[Removal]) -> list[Any]:
    recorded, sweep = group[0].recorded, group[0].sweep
    kind = "no readable journal" if recorded.status == DAMAGED else "run"
    kind = f"sweep, {pluralize(len(group[0].trials), 'trial')}" if recorded.is_sweep else kind
    return [
        join_some([removal.recorded.id for removal in group], 3),
        kind if sweep is None else f"{pluralize(len(group), 'trial')} of sweep {sweep.id}",
        max(removal.recorded.last["time"] for removal in group),
        " ".join(dict.fromkeys(removal.recorded.status for removal in group)),
        sum(removal.size_bytes for removal in group),
    ]


def _print_result(result: CleanResult, unfinished_count: int) -> None:
    sweeps = sum(removal.recorded.is_sweep for removal in result.removals)
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
    removals = [
        {
            "id": removal.recorded.id,
            "kind": "sweep" if removal.recorded.is_sweep else "run" if removal.sweep is None else "trial",
            "sweep": removal.sweep and removal.sweep.id,
            "trials": [trial.id for trial in removal.trials],
            "status": removal.recorded.status,
            "path": str(removal.path),
            "bytes": removal.size_bytes,
            "done": removal in result.removals,
        }
        for removal in selection.removals
    ]
    return {
        "deleted": is_confirmed,
        "delete": removals,
        "not_deleted": selection.spare_reasons,
        "keep": [recorded.id for recorded in selection.kept],
        "bytes": sum(removal.size_bytes for removal in selection.removals),
        "unfinished": [str(path) for path in unfinished],
        "trackers": sorted(result.tracker_names),
        "failed": result.failures,
        "notes": result.notes,
    }
