"""MLflow's tables in a new SQLite file: all of them, or no file."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

_SQLITE = "sqlite:///"
_UNFINISHED = ".mlflow.unfinished"


def file_of(uri: str) -> Path | None:
    """The file of a plain SQLite address; None for any other one."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) and "?" not in uri else None


def make_tables(uri: str) -> None:
    """Makes the file of a SQLite store, with its tables, where it is absent; one process at a time.

    MLflow makes them one by one. A process that is killed meanwhile would leave some of them, and no MLflow could use
    that file any more. So they are made in another one, and a copy of it, which nobody has open, gets the name at once.
    """
    path = file_of(uri)
    if path is None or path.exists() or not path.parent.is_dir():
        return  # whatever is wrong there, MLflow says it
    from mlflow import MlflowClient

    unfinished = path.parent / _UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    made, whole = unfinished / "made.db", unfinished / "whole.db"
    MlflowClient(f"{_SQLITE}{made.absolute()}").search_experiments(max_results=1)
    with closing(sqlite3.connect(made)) as source, closing(sqlite3.connect(whole)) as copy:
        source.backup(copy)
    if not path.exists():  # by now an MLflow server may have made it
        whole.rename(path)
    shutil.rmtree(unfinished, ignore_errors=True)
