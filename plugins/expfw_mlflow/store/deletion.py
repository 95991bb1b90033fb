"""Deleting what MLflow has of runs and sweeps: in a database for good, on a server as MLflow's own page does."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from expfw_mlflow.store.relocation import ARTIFACTS, folder_of
from expfw_mlflow.store.schema_setup import file_of
from expfw_mlflow.store.uri import answering, be_impatient

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

log = logging.getLogger("expfw")
_PAGE = 1000
_WORTH_PACKING = 0.1
"""So much of a database's file must be free for it to be written anew."""


def delete(uri: str, ids: Sequence[str], only_below: Path | None = None) -> None:
    """Deletes in the store of that address what `_delete` says, and gives the room back.

    Args:
        only_below: where this runs folder has artifacts; those of another runs folder stay.

    Raises:
        ConnectionError: the store does not answer.
    """
    path = file_of(uri)
    if path is not None and not path.exists():
        return  # it would be made
    be_impatient()
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its second try is no news for a user
    from mlflow import MlflowClient

    with answering(uri):
        _delete(MlflowClient(uri), ids, only_below)
    if path is not None:
        _pack(path)


def _delete(client: MlflowClient, ids: Sequence[str], only_below: Path | None = None) -> None:
    """Deletes the runs with these ids, and parents and children of sweeps with these ids; absent ones are no matter.

    A database has nothing of them afterwards, as after `mlflow gc`, nor has the folder of its artifacts. A tracking
    server marks runs and models as deleted; `mlflow gc` there frees its disk.
    """
    experiments = [one.experiment_id for one in _pages(client.search_experiments)]
    for identity in ids:
        for run in _runs(client, experiments, identity):
            _delete_run(client, experiments, run, only_below)
    store = client._tracking_client.store
    if ids and not hasattr(store, "_hard_delete_run"):
        log.warning("the tracking server has marked them as deleted; to free its disk, there: mlflow gc")


def _runs(client: MlflowClient, experiments: Sequence[str], identity: str) -> Iterator[Run]:
    """Children before their parent, so that what is interrupted is found again; those deleted in MLflow too."""
    from mlflow.entities import ViewType

    seen: dict[str, Run] = {}
    for tag in ("expfw.run_id", "expfw.sweep_id"):
        wanted = f"tags.`{tag}` = '{identity}'"
        found = _pages(lambda wanted=wanted, **page: client.search_runs(experiments, wanted, ViewType.ALL, **page))
        seen |= {run.info.run_id: run for run in found}
    return iter(sorted(seen.values(), key=lambda run: run.data.tags.get("expfw.sweep") == "parent"))


def _pages(search: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(max_results=_PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _delete_run(client: MlflowClient, experiments: Sequence[str], run: Run, only_below: Path | None) -> None:
    store = client._tracking_client.store
    for_good = hasattr(store, "_hard_delete_run")
    wanted = f"source_run_id = '{run.info.run_id}'"
    models = list(_pages(lambda **page: client.search_logged_models(experiments, filter_string=wanted, **page)))
    for model in models:
        if (registered := _registered(client, run, model)) is not None:
            log.warning("a model of %s is registered as %s, and stays in MLflow", run.info.run_name, registered)
            continue
        if for_good:  # at once, since a search does not find models again that are only marked
            _delete_artifacts(model.artifact_location, model.model_id, only_below)
            store._hard_delete_logged_model(model.model_id)
        else:
            client.delete_logged_model(model.model_id)
    if run.info.lifecycle_stage == "active":
        client.delete_run(run.info.run_id)
    if for_good:
        _delete_artifacts(run.info.artifact_uri, run.info.run_id, only_below)
        store._hard_delete_run(run.info.run_id)


def _registered(client: MlflowClient, run: Run, model: LoggedModel) -> str | None:
    """Name and version under which a model is registered; None where it is not."""
    versions = client.search_model_versions(f"run_id = '{run.info.run_id}'")
    sources = (f"models:/{model.model_id}", model.model_id, model.artifact_location)
    return next((f"{one.name} version {one.version}" for one in versions if one.source in sources), None)


def _delete_artifacts(address: str, identity: str, only_below: Path | None) -> None:
    """Those at an address; of a folder of this machine, also the one around it, which has the name of the run."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if urlsplit(address).scheme not in ("", "file"):
        get_artifact_repository(address).delete_artifacts()
        return
    folder = folder_of(address)
    parents = folder.resolve().parents
    if only_below is not None and only_below.resolve() not in parents and ARTIFACTS in [one.name for one in parents]:
        log.warning("%s is in another runs folder, and stays there", folder)
        return
    own = folder.parent if folder.parent.name == identity else folder
    if own.is_dir() and not own.is_symlink():
        shutil.rmtree(own)


def _pack(path: Path) -> None:
    """Gives the room that a SQLite file no longer needs back to the disk; at another time, where it is in use."""
    with closing(sqlite3.connect(path, timeout=5.0)) as connection:
        ((free,),) = connection.execute("PRAGMA freelist_count")
        ((pages,),) = connection.execute("PRAGMA page_count")
        if free < _WORTH_PACKING * pages:
            return
        try:
            connection.execute("VACUUM")
        except sqlite3.OperationalError as error:
            log.warning("%s keeps its size for now (%s); the room in it will be used again", path, error)
