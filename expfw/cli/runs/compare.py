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
    """Compares runs in a table, as JSON, or on an HTML page.

    Args:
        ids: IDs of runs and sweeps.
        workspace: the runs folder.
        metrics: metrics to compare; all metrics if empty.
        all_parameters: whether to show equal parameters, too.
        output: output format.
        html_path: file of the HTML page; an empty path means a file in the runs folder; None means no page.

    Raises:
        RunsFolderError: if the page cannot be written.
        ExpfwError: see `compare_runs`.
    """
    comparison = compare_runs(ids, workspace, metrics)
    if html_path is not None:
        from expfw.reports.comparison.page import render_comparison_page

        path = html_path if html_path.name else workspace.runs_dir.absolute() / _make_file_name(comparison.runs)
        try:
            path.write_bytes(render_comparison_page(comparison, workspace).encode("utf-8", "replace"))
        except OSError as error:
            raise RunsFolderError(f"cannot write {path}: {error.strerror}; choose another file with --html") from error
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
        "environment": comparison.environment,
    }
