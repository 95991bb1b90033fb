"""From what a user types to the saved model of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expfw.api.run import FAILED, FINISHED, PRUNED
from expfw.errors import ConfigError, NotFoundError
from expfw.runs.saved_model import ModelDescription, SavedModel, load_model, read_description
from expfw.system import formatting, redirection
from expfw.tracking import ranking
from expfw.tracking.ledger import Ledger
from expfw.tracking.run_index import RUNNING, IndexEntry
from expfw.tracking.workspace import Workspace


def find_run_with_model(run_id: str, workspace: Workspace) -> IndexEntry:
    """The run whose id begins so; it has a saved model.

    Raises:
        NotFoundError: there is none, more than one, or it is a sweep.
        ConfigError: it has no saved model.
    """
    try:
        entry = workspace.find_run(run_id)
    except NotFoundError as error:
        sweeps = [sweep for sweep in workspace.list_sweeps() if run_id and sweep.id.startswith(run_id)]
        if len(sweeps) != 1 or "could be any of" in str(error):
            raise
        raise NotFoundError(_format_sweep_message(sweeps[0], workspace)) from error
    if not (entry.folder / "model").is_dir():
        raise ConfigError(_format_missing_model_message(entry, workspace))
    return entry


def _format_sweep_message(sweep: IndexEntry, workspace: Workspace) -> str:
    best = ranking.find_best_trial(Ledger(sweep.folder).read_trials(), sweep.first["objective"]["mode"])
    if best is None:
        status_command = f"`expfw sweeps status {sweep.id}{workspace.runs_dir_option}`"
        return f"{sweep.id} is a sweep, and none of its trials has come to a good end; see {status_command}"
    value = "" if best.objective is None else f", {best.objective_metric} {formatting.format_number(best.objective)}"
    return f"{sweep.id} is a sweep; give one of its runs. The best is {best.run_id} ({best.name}{value})"


def _format_missing_model_message(entry: IndexEntry, workspace: Workspace) -> str:
    runs_dir_option = workspace.runs_dir_option
    if entry.status in (FINISHED, PRUNED):
        return (
            f"run {entry.id} is {entry.status}, but its folder {entry.folder / 'model'} is missing; to make it again, "
            f"as a new run: expfw runs rerun {entry.id}{runs_dir_option}"
        )
    message = f"run {entry.id} is {entry.status} and has no saved model, which is written at the end of training"
    if entry.status == RUNNING:
        return f"{message}; `expfw runs show {entry.id}{runs_dir_option}` shows how far it is"
    if entry.status == FAILED:
        return f"{message}; `expfw runs show {entry.id}{runs_dir_option}` shows what went wrong"
    return f"{message}; to go on with it: expfw runs resume {entry.id}{runs_dir_option}"


@contextmanager
def silenced_frameworks() -> Iterator[None]:
    """What frameworks write while they work does not reach the screen."""
    with redirection.redirect_noise(Path(os.devnull)):
        yield


def get_description(entry: IndexEntry) -> ModelDescription:
    """What the run's saved model says of itself."""
    return read_description(entry.folder / "model")


def load_saved_model(entry: IndexEntry) -> SavedModel:
    """The run's saved model; see `load_model` for what it raises."""
    return load_model(entry.folder / "model")
