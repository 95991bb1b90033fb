"""Requests for jobs on other machines, as files in the sweep's folder, which all machines see.

A trial runs as long as its request is there: whoever removes it ends the trial, and a job that leaves its queue later
finds nothing to do. Marks next to it tell how far the trial is.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expfw.api.run_config import to_plain
from expfw.config.freeze import build_config
from expfw.plugins import disabling
from expfw.runs.request import Request
from expfw.runs.restore import ResumePoint
from expfw.system import atomic_files
from expfw.tracking import run_folders

FOLDER_NAME = "orders"
BEGUN_SUFFIX, ENDED_SUFFIX = ".begun", ".ended"


@dataclass(frozen=True)
class JobRequest:
    """One trial to make.

    Attributes:
        working_directory: which the sweep was started in; paths that the user gave begin there.
        environment: variables that the trial's process is to have, those that say which plugins are left out.
    """

    path: Path
    request: Request
    working_directory: Path
    environment: Mapping[str, str]

    @property
    def end_file(self) -> Path:
        """Where `JobEnd` is written."""
        return self.path.with_suffix(ENDED_SUFFIX)

    @property
    def sweep_folder(self) -> Path:
        return self.path.parent.parent

    @property
    def trial_number(self) -> int:
        """The trial's."""
        assert self.request.trial is not None
        return self.request.trial

    @property
    def run_folder(self) -> Path:
        """The run's."""
        return run_folders.get_trial_folder(self.sweep_folder, self.trial_number, self.request.id)


@dataclass(frozen=True)
class JobEnd:
    """How a trial's process ended.

    Attributes:
        exit_description: in words, for a run that left none; None: it had to leave, and can go on.
        reason: it had to leave, or could not go on; None: the sweep wanted it so.
    """

    exit_description: str | None = None
    reason: str | None = None


class JobFiles:
    """Those of one batch, known by a name, by its jobs' numbers from 0."""

    def __init__(self, sweep_folder: Path, name: str | None = None) -> None:
        self.folder = sweep_folder / FOLDER_NAME
        self.name = name or secrets.token_hex(4)

    def get_path(self, job: int) -> Path:
        """The file of a request."""
        return self.folder / f"{self.name}-{job:06d}.json"

    def write_request(self, job: int, request: Request) -> None:
        """Writes a request. Its configuration may hold a password, so nobody else can read it."""
        self.folder.mkdir(exist_ok=True)
        path = self.get_path(job)
        path.touch(mode=0o600)
        values = {"request": to_plain(request), "directory": Path.cwd(), "environment": disabling.get_variables()}
        path.write_text(json.dumps(values, default=str))

    def list_marks(self) -> set[str]:
        """The names of all files, orders and marks."""
        return {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()

    def read_end(self, job: int) -> JobEnd:
        """What was written at the end of a job."""
        return JobEnd(**json.loads(self.get_path(job).with_suffix(ENDED_SUFFIX).read_text()))

    def withdraw_requests(self) -> None:
        """Takes all orders away; marks stay."""
        for path in self.folder.glob("*.json"):
            path.unlink(missing_ok=True)


def remove_job_files(sweep_folder: Path) -> None:
    """Takes all orders and marks of a sweep away."""
    shutil.rmtree(sweep_folder / FOLDER_NAME, ignore_errors=True)


def read_job_request(path: Path) -> JobRequest:
    """A request as it was written."""
    values = json.loads(path.read_text())
    return JobRequest(path, _parse_request(values["request"]), Path(values["directory"]), values["environment"])


def write_end(job_path: Path, end: JobEnd) -> None:
    """Marks the end of a trial's process."""
    atomic_files.write_text(job_path.with_suffix(ENDED_SUFFIX), json.dumps(vars(end)))


def _parse_request(values: Mapping[str, Any]) -> Request:
    resume_point, shipper_folder = values["resume_point"], values["announce_to"]
    fields = {
        "config": build_config(values["config"]),
        "overrides": tuple(values["overrides"]),
        "files": tuple(values["files"]),
        "sweep_folder": Path(values["sweep_folder"]),
        "announce_to": None if shipper_folder is None else Path(shipper_folder),
        "resume_point": None
        if resume_point is None
        else ResumePoint(**{**resume_point, "folder": Path(resume_point["folder"])}),
    }
    return Request(**{**values, **fields})
