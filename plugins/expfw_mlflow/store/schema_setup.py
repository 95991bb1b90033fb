"""Creates MLflow's tables in a new SQLite file, atomically."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

_SQLITE_PREFIX = "sqlite:///"
_TEMPORARY_FOLDER = ".mlflow.unfinished"


def get_sqlite_file(uri: str) -> Path | None:
    """Returns the file of a plain SQLite address; None for any other address."""
    return Path(uri.removeprefix(_SQLITE_PREFIX)) if uri.startswith(_SQLITE_PREFIX) and "?" not in uri else None


def make_tables(uri: str) -> None:
    """Creates the file of a SQLite store with its tables if it does not exist; call it from one process at a time.

    MLflow creates the tables one by one. A process that is killed in between would leave a file that MLflow cannot use.
    The tables are therefore created in a temporary file, and a closed copy of it is renamed.
    """
    path = get_sqlite_file(uri)
    if path is None or path.exists() or not path.parent.is_dir():
        return  # MLflow reports other problems
    from mlflow import MlflowClient

    temporary_folder = path.parent / _TEMPORARY_FOLDER
    shutil.rmtree(temporary_folder, ignore_errors=True)
    temporary_folder.mkdir()
    new_database, complete_database = temporary_folder / "new.db", temporary_folder / "complete.db"
    MlflowClient(f"{_SQLITE_PREFIX}{new_database.absolute()}").search_experiments(max_results=1)
    with closing(sqlite3.connect(new_database)) as source, closing(sqlite3.connect(complete_database)) as copy:
        source.backup(copy)
    if not path.exists():  # an MLflow server may have created it in the meantime
        complete_database.rename(path)
    shutil.rmtree(temporary_folder, ignore_errors=True)
