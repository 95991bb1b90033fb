"""A runs folder that was moved or copied, with MLflow's database in it, which has absolute addresses of artifacts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

ARTIFACTS = "mlartifacts"
_ADDRESSES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Tables and columns in which MLflow keeps them; there is no function of MLflow's that changes one."""


def before(database: Path) -> list[str]:
    """Where the database says that the artifacts of its experiments are, as far as that is another runs folder."""
    with closing(sqlite3.connect(database)) as connection:
        return list(_before(connection, database.absolute().parent / ARTIFACTS))


def follow(database: Path) -> None:
    """Corrects all addresses in a database that lies in another runs folder than they do.

    Of a run whose artifacts are only there, where the folder was before, they stay. No file is touched.

    Raises:
        ConnectionError: the database cannot be written to now.
    """
    here = database.absolute().parent / ARTIFACTS
    try:
        with closing(sqlite3.connect(database, timeout=30.0)) as connection:
            for old in [*_before(connection, here)]:
                with connection:  # one transaction
                    _correct(connection, old, here)
    except sqlite3.OperationalError as error:
        raise ConnectionError(f"{database} cannot do it now: {error}") from error


def folder_of(address: str) -> Path:
    """The folder of this machine that a file address names."""
    return Path(unquote(urlsplit(address).path))


def _before(connection: sqlite3.Connection, here: Path) -> Iterator[str]:
    for (address,) in connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall():
        ours = str(address).startswith("file:") and folder_of(address).name == ARTIFACTS
        if ours and folder_of(address).resolve() != here.resolve():
            yield address


def _correct(connection: sqlite3.Connection, old: str, here: Path) -> None:
    for table, column in _ADDRESSES.items():
        below = f"SELECT rowid, {column} FROM {table} WHERE {column} = ? OR substr({column}, 1, ?) = ?"
        for row, address in connection.execute(below, (old, len(old) + 1, f"{old}/")).fetchall():
            corrected = here.as_uri() + address.removeprefix(old)
            if table == "experiments" or folder_of(corrected).exists() or not folder_of(address).exists():
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (corrected, row))
    runs, now = f"{folder_of(old).parent}/", f"{here.parent}/"
    connection.execute(
        "UPDATE tags SET value = ? || substr(value, ?) WHERE key = 'expfw.folder' AND substr(value, 1, ?) = ?",
        (now, len(runs) + 1, len(runs), runs),
    )
