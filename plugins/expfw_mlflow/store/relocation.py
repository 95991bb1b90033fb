"""Corrects the absolute artifact addresses in MLflow's database after a runs folder was moved or copied."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

ARTIFACTS_FOLDER = "mlartifacts"
_ADDRESS_COLUMNS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Tables and columns in which MLflow stores the addresses; MLflow has no function to change them."""


def list_old_addresses(database: Path) -> list[str]:
    """Returns the artifact addresses of the experiments that are in another runs folder than the database."""
    with closing(sqlite3.connect(database)) as connection:
        return list(_find_old_addresses(connection, database.absolute().parent / ARTIFACTS_FOLDER))


def correct_addresses(database: Path) -> None:
    """Corrects all addresses of another runs folder in a database.

    An address stays if its artifacts exist only in the other runs folder. No file is moved.

    Raises:
        ConnectionError: if the database cannot be written now.
    """
    artifacts_folder = database.absolute().parent / ARTIFACTS_FOLDER
    try:
        with closing(sqlite3.connect(database, timeout=30.0)) as connection:
            for old_address in [*_find_old_addresses(connection, artifacts_folder)]:
                with connection:  # one transaction
                    _correct_address(connection, old_address, artifacts_folder)
    except sqlite3.OperationalError as error:
        raise ConnectionError(f"{database} is not available: {error}") from error


def parse_file_address(address: str) -> Path:
    """Returns the local folder of a file address."""
    return Path(unquote(urlsplit(address).path))


def _find_old_addresses(connection: sqlite3.Connection, artifacts_folder: Path) -> Iterator[str]:
    for (address,) in connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall():
        is_artifacts_address = str(address).startswith("file:") and parse_file_address(address).name == ARTIFACTS_FOLDER
        if is_artifacts_address and parse_file_address(address).resolve() != artifacts_folder.resolve():
            yield address


def _correct_address(connection: sqlite3.Connection, old_address: str, artifacts_folder: Path) -> None:
    for table, column in _ADDRESS_COLUMNS.items():
        query = f"SELECT rowid, {column} FROM {table} WHERE {column} = ? OR substr({column}, 1, ?) = ?"
        for row, address in connection.execute(
            query, (old_address, len(old_address) + 1, f"{old_address}/")
        ).fetchall():
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
