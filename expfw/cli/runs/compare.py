"""`expfw runs compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expfw.cli.output import Output
from expfw.errors import RunsFolderError
from expfw.reports import console
from expfw.reports.comparison import table
from expfw.reports.comparison.compared_runs import ComparedRun, RunComparison, compare_runs
from expfw.system.json_output import print_json
from expfw.tracking.workspace import Workspace


def compare(
    ids: Sequence[str],
    workspace: Workspace,
    metrics: Sequence[str],
    all_parameters: bool,
    output: Output,
    html_path: Path | None,
) -> None:
    """Prints a table, JSON, or writes a page and prints where it is.

    Args:
        metrics: those that are wanted; by default all.
        all_parameters: also parameters that are the same.
        html_path: where the page is written; an empty one stands for a file in the runs folder.

    Raises:
        RunsFolderError: the page cannot be written; for others see `compare_runs`.
    """
    comparison = compare_runs(ids, workspace, metrics)
    if html_path is not None:
        from expfw.reports.comparison.page import render_comparison_page

        path = html_path if html_path.name else workspace.runs_dir.absolute() / _make_file_name(comparison.runs)
        try:
            path.write_bytes(render_comparison_page(comparison, workspace).encode("utf-8", "replace"))
        except OSError as error:
            raise RunsFolderError(f"{path} cannot be written ({error.strerror}); give another --html FILE") from error
        if not output.is_json:
            print(path)
    if output.is_json:
        print_json(_to_json(comparison))
    elif html_path is None:
        table.print_comparison(console.make_console(), comparison, all_parameters)


def _make_file_name(runs: Sequence[ComparedRun]) -> str:
    ids = [run.id for run in runs]
    return f"compare-{'-'.join(ids[:3])}{f'-and-{len(ids) - 3}-more' if len(ids) > 3 else ''}.html"


def _to_json(comparison: RunComparison) -> dict[str, Any]:
    differ, same = comparison.params
    return {
        "runs": [
            {
                "id": run.id,
                "name": run.entry.name,
                "status": run.entry.status,
                "folder": str(run.entry.folder),
                "sweep": run.entry.first.get("sweep_id"),
                "seconds": run.seconds,
                "objective": {"metric": run.metric, "mode": run.mode, "value": run.objective},
                "metrics": {name: run.metrics.get(name) for name in comparison.metrics},
            }
            for run in comparison.runs
        ],
        "best": {
            name: [
                run.id for run, is_best in zip(comparison.runs, comparison.mark_best_runs(name), strict=True) if is_best
            ]
            for name in comparison.metrics
        },
        "parameters": {"differ": differ, "same": same},
        "surroundings": comparison.environment,
    }
