"""MLflow's tables in a new SQLite file: all of them, or no file."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

_SQLITE_PREFIX = "sqlite:///"
_TEMPORARY_FOLDER = ".mlflow.unfinished"


def get_sqlite_file(uri: str) -> Path | None:
    """The file of a plain SQLite address; None for any other one."""
    return Path(uri.removeprefix(_SQLITE_PREFIX)) if uri.startswith(_SQLITE_PREFIX) and "?" not in uri else None


def make_tables(uri: str) -> None:
    """Makes the file of a SQLite store, with its tables, where it is absent; one process at a time.

    MLflow makes them one by one. A process that is killed meanwhile would leave some of them, and no MLflow could use
    that file any more. So they are made in another one, and a copy of it, which nobody has open, gets the name at once.
    """
    path = get_sqlite_file(uri)
    if path is None or path.exists() or not path.parent.is_dir():
        return  # whatever is wrong there, MLflow says it
    from mlflow import MlflowClient

    temporary_folder = path.parent / _TEMPORARY_FOLDER
    shutil.rmtree(temporary_folder, ignore_errors=True)
    temporary_folder.mkdir()
    new_database, complete_database = temporary_folder / "made.db", temporary_folder / "whole.db"
    MlflowClient(f"{_SQLITE_PREFIX}{new_database.absolute()}").search_experiments(max_results=1)
    with closing(sqlite3.connect(new_database)) as source, closing(sqlite3.connect(complete_database)) as copy:
        source.backup(copy)
    if not path.exists():  # by now an MLflow server may have made it
        complete_database.rename(path)
    shutil.rmtree(temporary_folder, ignore_errors=True)
