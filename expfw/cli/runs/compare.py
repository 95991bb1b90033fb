"""`expfw runs compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expfw.errors import RunsFolderError
from expfw.reports import console
from expfw.reports.comparison import table
from expfw.reports.comparison.collected import Collected, Compared, collect
from expfw.system.json_output import print_json


def compare(
    ids: Sequence[str], runs_dir: Path, metrics: Sequence[str], everything: bool, as_json: bool, page: Path | None
) -> None:
    """Prints a table, JSON, or writes a page and prints where it is.

    Args:
        metrics: those that are wanted; by default all.
        everything: also parameters that are the same.
        page: where the page is written; an empty one stands for a file in the runs folder.

    Raises:
        RunsFolderError: the page cannot be written; for others see `collect`.
    """
    found = collect(ids, runs_dir, metrics)
    if page is not None:
        from expfw.reports.comparison.page import made

        path = page if page.name else runs_dir.absolute() / _name(found.runs)
        try:
            path.write_bytes(made(found, runs_dir).encode("utf-8", "replace"))
        except OSError as error:
            raise RunsFolderError(f"{path} cannot be written ({error.strerror}); give another --html FILE") from error
        if not as_json:
            print(path)
    if as_json:
        print_json(_as_json(found))
    elif page is None:
        table.show(console.screen(), found, everything)


def _name(runs: Sequence[Compared]) -> str:
    ids = [run.id for run in runs]
    return f"compare-{'-'.join(ids[:3])}{f'-and-{len(ids) - 3}-more' if len(ids) > 3 else ''}.html"


def _as_json(found: Collected) -> dict[str, Any]:
    differ, same = found.params
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
                "metrics": {name: run.metrics.get(name) for name in found.metrics},
            }
            for run in found.runs
        ],
        "best": {
            name: [run.id for run, is_best in zip(found.runs, found.best(name), strict=True) if is_best]
            for name in found.metrics
        },
        "parameters": {"differ": differ, "same": same},
        "surroundings": found.surroundings,
    }
