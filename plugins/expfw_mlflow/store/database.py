"""MLflow's SQLite file: creates its tables atomically, and corrects its absolute artifact addresses after a move."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

ARTIFACTS_FOLDER = "mlartifacts"
_SQLITE_PREFIX = "sqlite:///"
_ADDRESS_COLUMNS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Tables and columns in which MLflow stores the addresses; MLflow has no function to change them."""


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

    temporary_folder = path.parent / ".mlflow.unfinished"
    shutil.rmtree(temporary_folder, ignore_errors=True)
    temporary_folder.mkdir()
    new_database, complete_database = temporary_folder / "new.db", temporary_folder / "complete.db"
    MlflowClient(f"{_SQLITE_PREFIX}{new_database.absolute()}").search_experiments(max_results=1)
    with closing(sqlite3.connect(new_database)) as source, closing(sqlite3.connect(complete_database)) as copy:
        source.backup(copy)
    if not path.exists():  # an MLflow server may have created it in the meantime
        complete_database.rename(path)
    shutil.rmtree(temporary_folder, ignore_errors=True)


def list_old_addresses(database: Path, timeout: float = 5.0) -> list[str]:
    """Returns the artifact addresses of the experiments that are in another runs folder than the database."""
    artifacts_folder = (database.absolute().parent / ARTIFACTS_FOLDER).resolve()
    with closing(sqlite3.connect(database, timeout=timeout)) as connection:
        rows = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
    folders = {address: parse_file_address(address) for (address,) in rows if str(address).startswith("file:")}
    return [
        address
        for address, folder in folders.items()
        if folder.name == ARTIFACTS_FOLDER and folder.resolve() != artifacts_folder
    ]


def correct_addresses(database: Path) -> None:
    """Corrects all addresses of another runs folder in a database.

    An address stays if its artifacts exist only in the other runs folder. No file is moved.

    Raises:
        ConnectionError: if the database cannot be written now.
    """
    artifacts_folder = database.absolute().parent / ARTIFACTS_FOLDER
    try:
        for old_address in list_old_addresses(database, timeout=30.0):
            with closing(sqlite3.connect(database, timeout=30.0)) as connection, connection:  # one transaction
                _correct_address(connection, old_address, artifacts_folder)
    except sqlite3.OperationalError as error:
        raise ConnectionError(f"{database} is not available: {error}") from error


def parse_file_address(address: str) -> Path:
    """Returns the local folder of a file address."""
    return Path(unquote(urlsplit(address).path))


def _correct_address(connection: sqlite3.Connection, old_address: str, artifacts_folder: Path) -> None:
    for table, column in _ADDRESS_COLUMNS.items():
        query = f"SELECT rowid, {column} FROM {table} WHERE {column} = ? OR substr({column}, 1, ?) = ?"
        rows = connection.execute(query, (old_address, len(old_address) + 1, f"{old_address}/")).fetchall()
        for row, address in rows:
            corrected = artifacts_folder.as_uri() + address.removeprefix(old_address)
            if (
                table == "experiments"
                or parse_file_address(corrected).exists()
                or not parse_file_address(address).exists()
            ):
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (corrected, row))
    old_prefix, new_prefix = f"{parse_file_address(old_address).parent}/", f"{artifacts_folder.parent}/"
    connection.execute(
        "UPDATE tags SET value = ? || substr(value, ?) WHERE key = 'expfw.folder' AND substr(value, 1, ?) = ?",
        (new_prefix, len(old_prefix) + 1, len(old_prefix), old_prefix),
    )
