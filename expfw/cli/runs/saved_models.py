"""The saved model of a run that the user names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expfw.api.result import FAILED, FINISHED, PRUNED
from expfw.errors import ConfigError, NotFoundError
from expfw.runs.saved_model import ModelDescription, SavedModel, load_model, read_description
from expfw.system import formatting, redirection
from expfw.tracking import ranking
from expfw.tracking.ledger import Ledger
from expfw.tracking.run_index import RUNNING, IndexEntry
from expfw.tracking.workspace import Workspace


def find_run_with_model(run_id: str, workspace: Workspace) -> IndexEntry:
    """Returns a run that has a saved model.

    Args:
        run_id: ID of the run or its first characters.
        workspace: the runs folder.

    Raises:
        NotFoundError: if no run matches, several match, or the ID is that of a sweep.
        ConfigError: if the run has no saved model.
    """
    try:
        entry = workspace.find_run(run_id)
    except NotFoundError as error:
        sweeps = [sweep for sweep in workspace.list_sweeps() if run_id and sweep.id.startswith(run_id)]
        if len(sweeps) != 1 or "is ambiguous" in str(error):
            raise
        raise NotFoundError(_format_sweep_message(sweeps[0], workspace)) from error
    if not (entry.folder / "model").is_dir():
        raise ConfigError(_format_missing_model_message(entry, workspace))
    return entry


def _format_sweep_message(sweep: IndexEntry, workspace: Workspace) -> str:
    best = ranking.find_best_trial(Ledger(sweep.folder).read_trials(), sweep.first["objective"]["mode"])
    if best is None:
        status_command = f"`expfw sweeps status {sweep.id}{workspace.runs_dir_option}`"
        return f"{sweep.id} is a sweep without a finished trial; see {status_command}"
    value = "" if best.objective is None else f", {best.objective_metric} {formatting.format_number(best.objective)}"
    return f"{sweep.id} is a sweep; expected one of its runs. The best is {best.run_id} ({best.name}{value})"


def _format_missing_model_message(entry: IndexEntry, workspace: Workspace) -> str:
    runs_dir_option = workspace.runs_dir_option
    if entry.status in (FINISHED, PRUNED):
        return (
            f"run {entry.id} is {entry.status}, but its folder {entry.folder / 'model'} is missing; to train it again "
            f"as a new run: expfw runs rerun {entry.id}{runs_dir_option}"
        )
    message = f"run {entry.id} is {entry.status} and has no saved model; the model is saved at the end of training"
    if entry.status == RUNNING:
        return f"{message}; to see its progress: expfw runs show {entry.id}{runs_dir_option}"
    if entry.status == FAILED:
        return f"{message}; to see the error: expfw runs show {entry.id}{runs_dir_option}"
    return f"{message}; to resume: expfw runs resume {entry.id}{runs_dir_option}"


@contextmanager
def silenced_frameworks() -> Iterator[None]:
    """Keeps the output of frameworks off the screen."""
    with redirection.redirect_noise(Path(os.devnull)):
        yield


def get_description(entry: IndexEntry) -> ModelDescription:
    """Returns the description of the run's saved model."""
    return read_description(entry.folder / "model")


def load_saved_model(entry: IndexEntry) -> SavedModel:
    """Loads the run's saved model; raises the errors of `load_model`."""
    return load_model(entry.folder / "model")
