"""From what a user types to the saved model of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expfw.api.run import FAILED, FINISHED, PRUNED
from expfw.errors import ConfigError, NotFoundError
from expfw.runs.saved_model import Description, SavedModel, load_model, read_description
from expfw.system import formatting, output
from expfw.tracking import ranking, run_folders, run_index
from expfw.tracking.ledger import Ledger
from expfw.tracking.run_index import RUNNING, Entry


def find(run_id: str, runs_dir: Path) -> Entry:
    """The run whose id begins so; it has a saved model.

    Raises:
        NotFoundError: there is none, more than one, or it is a sweep.
        ConfigError: it has no saved model.
    """
    try:
        entry = run_index.find_run(runs_dir, run_id)
    except NotFoundError as error:
        sweeps = [sweep for sweep in run_index.sweeps(runs_dir) if run_id and sweep.id.startswith(run_id)]
        if len(sweeps) != 1 or "could be any of" in str(error):
            raise
        raise NotFoundError(_of_sweep(sweeps[0], runs_dir)) from error
    if not (entry.folder / "model").is_dir():
        raise ConfigError(_without_model(entry, runs_dir))
    return entry


def _of_sweep(sweep: Entry, runs_dir: Path) -> str:
    best = ranking.best(Ledger(sweep.folder).trials(), sweep.first["objective"]["mode"])
    if best is None:
        status = f"`expfw sweeps status {sweep.id}{run_folders.option(runs_dir)}`"
        return f"{sweep.id} is a sweep, and none of its trials has come to a good end; see {status}"
    value = "" if best.objective is None else f", {best.objective_metric} {formatting.number(best.objective)}"
    return f"{sweep.id} is a sweep; give one of its runs. The best is {best.run_id} ({best.name}{value})"


def _without_model(entry: Entry, runs_dir: Path) -> str:
    place = run_folders.option(runs_dir)
    if entry.status in (FINISHED, PRUNED):
        return (
            f"run {entry.id} is {entry.status}, but its folder {entry.folder / 'model'} is missing; to make it again, "
            f"as a new run: expfw runs rerun {entry.id}{place}"
        )
    what = f"run {entry.id} is {entry.status} and has no saved model, which is written at the end of training"
    if entry.status == RUNNING:
        return f"{what}; `expfw runs show {entry.id}{place}` shows how far it is"
    if entry.status == FAILED:
        return f"{what}; `expfw runs show {entry.id}{place}` shows what went wrong"
    return f"{what}; to go on with it: expfw runs resume {entry.id}{place}"


@contextmanager
def quietly() -> Iterator[None]:
    """What frameworks write while they work does not reach the screen."""
    with output.noise_to(Path(os.devnull)):
        yield


def described(entry: Entry) -> Description:
    """What the run's saved model says of itself."""
    return read_description(entry.folder / "model")


def load(entry: Entry) -> SavedModel:
    """The run's saved model; see `load_model` for what it raises."""
    return load_model(entry.folder / "model")
