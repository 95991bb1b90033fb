"""`expfw runs compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expfw.errors import RunsFolderError
from expfw.reports import console
from expfw.reports.comparison import table
from expfw.reports.comparison.compared_runs import RunComparison, compare_runs
from expfw.system.json_output import print_json
from expfw.tracking.run_index import Workspace


def compare(
    ids: Sequence[str], metrics: Sequence[str], show_all: bool, page: str | None, workspace: Workspace, as_json: bool
) -> None:
    """Compares runs in a table, as JSON, or on an HTML page; an empty `page` means a file in the runs folder."""
    if page and not page.endswith((".html", ".htm")):  # `--html k3v9 c7pq`: an ID, not a file
        ids, page = (page, *ids), ""
    comparison = compare_runs(ids, workspace, metrics)
    if page is not None:
        from expfw.reports.comparison.page import render_comparison_page

        names = [run.id for run in comparison.runs]
        file_name = f"compare-{'-'.join(names[:3])}{f'-and-{len(names) - 3}-more' if len(names) > 3 else ''}.html"
        path = Path(page) if page else workspace.runs_dir.absolute() / file_name
        try:
            path.write_bytes(render_comparison_page(comparison, workspace).encode("utf-8", "replace"))
        except OSError as error:
            raise RunsFolderError(f"cannot write {path}: {error.strerror}; choose another file with --html") from error
        if not as_json:
            print(path)
    if as_json:
        print_json(_to_json(comparison))
    elif page is None:
        table.print_comparison(console.make_console(), comparison, show_all)


def _to_json(comparison: RunComparison) -> dict[str, Any]:
    differ, same = comparison.params
    return {
        "runs": [
            {
                "id": run.id,
                "name": run.name,
                "status": run.status,
                "folder": str(run.folder),
                "sweep": run.first.get("sweep_id"),
                "seconds": comparison.seconds[index],
                "objective": {"metric": metric, "mode": mode, "value": comparison.objectives[index]},
                "metrics": {name: run.result.metrics.get(name) for name in comparison.metrics},
                "metrics_step": run.result.metrics_step,
                "metrics_epoch": run.result.metrics_epoch,
            }
            for index, (run, (metric, mode)) in enumerate(zip(comparison.runs, comparison.targets, strict=True))
        ],
        "best": {
            name: [
                run.id
                for run, value in zip(comparison.runs, comparison.get_values(name), strict=True)
                if value in comparison.find_best_values(name)
            ]
            for name in comparison.metrics
        },
        "parameters": {"differ": differ, "same": same},
        "environment": comparison.environment,
        "packages": comparison.other_packages,
    }
