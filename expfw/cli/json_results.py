"""Results of runs and sweeps for `--json`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.plugins.catalogue import Catalogue
from expfw.reports import tables
from expfw.runs.request import Request
from expfw.system import json_output
from expfw.tracking import ranking, run_index

if TYPE_CHECKING:
    from expfw.sweeps.result import SweepResult

_RUN_FIELDS = (
    "metrics",
    "objective",
    "objective_metric",
    "best_step",
    "steps",
    "epochs",
    "seconds",
    "error",
    "warnings",
)


@contextlib.contextmanager
def print_run_at_exit(request: Request, **extra_fields: Any) -> Iterator[dict[str, Any]]:
    """Prints the result of the run as JSON when the run has ended, with any status.

    Prints nothing if the run never started.

    Args:
        request: the run.
        extra_fields: additional fields of the result.

    Yields:
        The additional fields; the caller may add more.
    """
    extra_fields = dict(extra_fields)
    with json_output.reserve_stdout_for_json() as stdout:
        try:
            yield extra_fields
        finally:
            if (folder := _find_run_folder(request)) is not None:
                json_output.print_json({**summarize_run(folder), **extra_fields}, stdout)


def _find_run_folder(request: Request) -> Path | None:
    if request.resume_point is not None:
        return request.resume_point.folder
    return next(Path(request.config.runs_dir).absolute().glob(f"*/*-{request.id}"), None)


def summarize_run(folder: Path) -> dict[str, Any]:
    """Returns the result of a run from its journal."""
    entry = run_index.read_entry(folder)
    fields = {name: entry.last.get(name) for name in _RUN_FIELDS}
    return {"id": entry.id, "name": entry.name, "status": entry.status, "folder": str(folder), **fields}


def summarize_sweep(result: SweepResult, catalogue: Catalogue) -> dict[str, Any]:
    """Returns the result of a sweep, with all its trials and the command that repeats the best one.

    Args:
        result: result of the sweep.
        catalogue: plugins that were available to the sweep.
    """
    mode = result.config.objective.mode
    best_trial = ranking.find_best_trial(result.trials, mode)
    best = best_trial and {
        "trial": best_trial.number,
        "run_id": best_trial.run_id,
        "objective": best_trial.objective,
        "objective_metric": best_trial.objective_metric,
        "command": tables.make_best_command(result.trials, mode, catalogue.plugin_arguments),
    }
    return {
        "id": result.id,
        "status": result.status,
        "folder": str(result.folder),
        "report": str(result.report),
        "objective": {"metric": result.config.objective.metric, "mode": mode},
        "best": best,
        "trials": [tables.serialize_trial(trial) for trial in result.trials],
    }
