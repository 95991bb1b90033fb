"""What a run or a sweep came to, for `--json`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.reports import tables
from expfw.runs.request import Request
from expfw.system import json_output
from expfw.tracking import ranking, run_index

if TYPE_CHECKING:
    from expfw.sweeps.result import SweepResult

_OF_A_RUN = ("metrics", "objective", "objective_metric", "best_step", "steps", "epochs", "seconds", "error", "warnings")


@contextlib.contextmanager
def run_as_json(made: Request, **further: Any) -> Iterator[dict[str, Any]]:
    """Prints what the run came to when it has ended, however it did; nothing where it never began.

    Yields:
        what else there is to say, to be filled in.
    """
    further = dict(further)
    with json_output.people_on_stderr() as stdout:
        try:
            yield further
        finally:
            if (folder := _folder(made)) is not None:
                json_output.print_json({**of_run(folder), **further}, stdout)


def _folder(made: Request) -> Path | None:
    if made.continues is not None:
        return made.continues.folder
    return next(Path(made.config.runs_dir).absolute().glob(f"*/*-{made.id}"), None)


def of_run(folder: Path) -> dict[str, Any]:
    """What its journal says at its end."""
    entry = run_index.entry(folder)
    known = {name: entry.last.get(name) for name in _OF_A_RUN}
    return {"id": entry.id, "name": entry.name, "status": entry.status, "folder": str(folder), **known}


def of_sweep(result: SweepResult, files: Sequence[str]) -> dict[str, Any]:
    """The same of a sweep, with all trials, and the command that makes the best one again.

    Args:
        files: what stands behind `-p`.
    """
    mode = result.config.objective.mode
    found = ranking.best(result.trials, mode)
    best = found and {
        "trial": found.number,
        "run_id": found.run_id,
        "objective": found.objective,
        "objective_metric": found.objective_metric,
        "command": tables.best_command(result.trials, mode, files),
    }
    return {
        "id": result.id,
        "status": result.status,
        "folder": str(result.folder),
        "report": str(result.report),
        "objective": {"metric": result.config.objective.metric, "mode": mode},
        "best": best,
        "trials": [tables.as_json(trial) for trial in result.trials],
    }
