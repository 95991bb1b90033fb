"""Orders: what a job on some machine is to do, as files in the sweep's folder, which all machines see.

A trial runs as long as its order is there: who takes that away ends it, and a job that comes out of its queue later
finds nothing to do. Beside it, marks tell how far it is.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expfw.api.plain_values import plain
from expfw.config.freeze import from_plain
from expfw.plugins import disabled
from expfw.runs.continuation import Continuation
from expfw.runs.request import Request
from expfw.system import atomic_files
from expfw.tracking import run_folders

FOLDER = "orders"
BEGUN, ENDED = ".begun", ".ended"


@dataclass(frozen=True)
class Order:
    """One trial to make.

    Attributes:
        directory: which the sweep was started in; paths that the user gave begin there.
        environment: variables that the trial's process is to have, those that say which plugins are left out.
    """

    path: Path
    request: Request
    directory: Path
    environment: Mapping[str, str]

    @property
    def ended(self) -> Path:
        """Where `End` is written."""
        return self.path.with_suffix(ENDED)

    @property
    def sweep_folder(self) -> Path:
        return self.path.parent.parent

    @property
    def number(self) -> int:
        """The trial's."""
        assert self.request.trial is not None
        return self.request.trial

    @property
    def folder(self) -> Path:
        """The run's."""
        return run_folders.trial_folder(self.sweep_folder, self.number, self.request.id)


@dataclass(frozen=True)
class End:
    """How a trial's process ended.

    Attributes:
        how: in words, for a run that left none; None: it had to leave, and can go on.
        why: it had to leave, or could not go on; None: the sweep wanted it so.
    """

    how: str | None = None
    why: str | None = None


class Orders:
    """Those of one batch, known by a name, by its jobs' numbers from 0."""

    def __init__(self, sweep_folder: Path, name: str | None = None) -> None:
        self.folder = sweep_folder / FOLDER
        self.name = name or secrets.token_hex(4)

    def path(self, job: int) -> Path:
        """The file of an order."""
        return self.folder / f"{self.name}-{job:06d}.json"

    def place(self, job: int, request: Request) -> None:
        """Writes an order. Its configuration may hold a password, so nobody else can read it."""
        self.folder.mkdir(exist_ok=True)
        path = self.path(job)
        path.touch(mode=0o600)
        order = {"request": plain(request), "directory": Path.cwd(), "environment": disabled.settings()}
        path.write_text(json.dumps(order, default=str))

    def marks(self) -> set[str]:
        """The names of all files, orders and marks."""
        return {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()

    def end(self, job: int) -> End:
        """What was written at the end of a job."""
        return End(**json.loads(self.path(job).with_suffix(ENDED).read_text()))

    def withdraw(self) -> None:
        """Takes all orders away; marks stay."""
        for path in self.folder.glob("*.json"):
            path.unlink(missing_ok=True)


def clear(sweep_folder: Path) -> None:
    """Takes all orders and marks of a sweep away."""
    shutil.rmtree(sweep_folder / FOLDER, ignore_errors=True)


def read(path: Path) -> Order:
    """An order as it was placed."""
    values = json.loads(path.read_text())
    return Order(path, _request(values["request"]), Path(values["directory"]), values["environment"])


def write_end(order: Path, end: End) -> None:
    """Marks the end of a trial's process."""
    atomic_files.write_text(order.with_suffix(ENDED), json.dumps(vars(end)))


def _request(values: Mapping[str, Any]) -> Request:
    continues, notes = values["continues"], values["announce_to"]
    typed = {
        "config": from_plain(values["config"]),
        "overrides": tuple(values["overrides"]),
        "files": tuple(values["files"]),
        "sweep_folder": Path(values["sweep_folder"]),
        "announce_to": None if notes is None else Path(notes),
        "continues": None if continues is None else Continuation(**{**continues, "folder": Path(continues["folder"])}),
    }
    return Request(**{**values, **typed})
