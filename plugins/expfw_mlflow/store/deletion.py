"""Deletes runs and sweeps in MLflow: permanently in a database, marked as deleted on a tracking server."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from expfw_mlflow.store.database import ARTIFACTS_FOLDER, get_sqlite_file, parse_file_address
from expfw_mlflow.store.uri import disable_retries, translate_store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger("expfw")
_PAGE_SIZE = 1000
_MIN_FREE_FRACTION = 0.1
"""Minimum free fraction of a database file before it is compacted."""


def delete_from_store(uri: str, ids: Sequence[str], artifacts_folder: Path | None) -> None:
    """Deletes the runs with these IDs, and the parents and children of sweeps with these IDs; ignores unknown IDs.

    In a database, runs and artifacts are deleted permanently, as by `mlflow gc`, and its file is compacted. A tracking
    server marks runs and models as deleted; `mlflow gc` there frees its disk space.

    Args:
        uri: tracking URI of the store.
        ids: IDs of runs and sweeps.
        artifacts_folder: artifacts folder of this runs folder; artifacts of another runs folder are not deleted.

    Raises:
        ConnectionError: if the store does not respond.
    """
    path = get_sqlite_file(uri)
    if path is not None and not path.exists():
        return  # connecting would create it
    disable_retries()
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a retry is not relevant to the user
    from mlflow import MlflowClient

    with translate_store_errors(uri):
        client = MlflowClient(uri)
        experiments = [experiment.experiment_id for experiment in _iterate_pages(client.search_experiments)]
        for expfw_id in ids:
            for run in _find_runs(client, experiments, expfw_id):
                _delete_run(client, experiments, run, artifacts_folder)
        if ids and not hasattr(client._tracking_client.store, "_hard_delete_run"):
            log.warning("the tracking server has marked them as deleted; to free disk space, run there: mlflow gc")
    if path is not None:
        _shrink_database(path)


def _iterate_pages(search: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(max_results=_PAGE_SIZE, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _find_runs(client: MlflowClient, experiments: list[str], expfw_id: str) -> list[Run]:
    """Returns the runs, also those deleted in MLflow; children first, so that an interrupted deletion can resume."""
    from mlflow.entities import ViewType

    runs_by_id: dict[str, Run] = {}
    for tag in ("expfw.run_id", "expfw.sweep_id"):
        search = partial(client.search_runs, experiments, f"tags.`{tag}` = '{expfw_id}'", ViewType.ALL)
        runs_by_id |= {run.info.run_id: run for run in _iterate_pages(search)}
    return sorted(runs_by_id.values(), key=lambda run: run.data.tags.get("expfw.sweep") == "parent")


def _delete_run(client: MlflowClient, experiments: list[str], run: Run, artifacts_folder: Path | None) -> None:
    store = client._tracking_client.store  # the public client only marks as deleted
    can_hard_delete = hasattr(store, "_hard_delete_run")
    search_models = partial(client.search_logged_models, experiments, f"source_run_id = '{run.info.run_id}'")
    models = list(_iterate_pages(search_models))
    versions = client.search_model_versions(f"run_id = '{run.info.run_id}'") if models else []
    for model in models:
        sources = (f"models:/{model.model_id}", model.model_id, model.artifact_location)
        if version := next((version for version in versions if version.source in sources), None):
            registered_name = f"{version.name} version {version.version}"
            log.warning("a model of %s is registered as %s and stays in MLflow", run.info.run_name, registered_name)
            continue
        if can_hard_delete:  # immediately, because a search does not find models that are marked as deleted
            _delete_artifacts(model.artifact_location, model.model_id, artifacts_folder)
            store._hard_delete_logged_model(model.model_id)
        else:
            client.delete_logged_model(model.model_id)
    if run.info.lifecycle_stage == "active":
        client.delete_run(run.info.run_id)
    if can_hard_delete:
        _delete_artifacts(run.info.artifact_uri, run.info.run_id, artifacts_folder)
        store._hard_delete_run(run.info.run_id)


def _delete_artifacts(address: str, mlflow_id: str, artifacts_folder: Path | None) -> None:
    """Deletes the artifacts at an address; on this machine, also the parent folder with the ID of the run or model."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if urlsplit(address).scheme not in ("", "file"):
        get_artifact_repository(address).delete_artifacts()
        return
    folder = parse_file_address(address)
    parents = folder.resolve().parents
    is_in_runs_folder = ARTIFACTS_FOLDER in [parent.name for parent in parents]
    if artifacts_folder is not None and is_in_runs_folder and artifacts_folder.resolve() not in parents:
        log.warning("%s is in another runs folder and is not deleted", folder)
        return
    mlflow_folder = folder.parent if folder.parent.name == mlflow_id else folder
    if mlflow_folder.is_dir() and not mlflow_folder.is_symlink():
        shutil.rmtree(mlflow_folder)


def _shrink_database(path: Path) -> None:
    """Compacts a SQLite file if enough of it is free; skipped with a warning while the file is in use."""
    with closing(sqlite3.connect(path, timeout=5.0)) as connection:
        ((free_pages,),) = connection.execute("PRAGMA freelist_count")
        ((page_count,),) = connection.execute("PRAGMA page_count")
        if free_pages < _MIN_FREE_FRACTION * page_count:
            return
        try:
            connection.execute("VACUUM")
        except sqlite3.OperationalError as error:
            log.warning("cannot compact %s now (%s); its free space will be reused", path, error)
