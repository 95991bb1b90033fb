"""Files of jobs on other machines, in the sweep folder, which all machines share.

Each trial has a request file. If the file is removed, a running trial stops, and a job that has not begun does nothing.
Mark files next to the request record that the trial has begun and ended.
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

FOLDER_NAME = "requests"
BEGUN_SUFFIX, ENDED_SUFFIX = ".begun", ".ended"


@dataclass(frozen=True)
class JobRequest:
    """Request to run one trial as a job.

    Attributes:
        path: file of the request.
        request: request of the run.
        working_directory: working directory of the sweep; relative paths of the user start there.
        environment: environment variables for the trial process, which disable plugins.
    """

    path: Path
    request: Request
    working_directory: Path
    environment: Mapping[str, str]

    @property
    def end_file(self) -> Path:
        """File for `JobEnd`."""
        return self.path.with_suffix(ENDED_SUFFIX)

    @property
    def sweep_folder(self) -> Path:
        return self.path.parent.parent

    @property
    def trial_number(self) -> int:
        """Number of the trial."""
        assert self.request.trial is not None
        return self.request.trial

    @property
    def run_folder(self) -> Path:
        """Run folder of the trial."""
        return run_folders.get_trial_folder(self.sweep_folder, self.trial_number, self.request.id)


@dataclass(frozen=True)
class JobEnd:
    """End of a trial process.

    Attributes:
        exit_description: description of the exit, for a run that recorded no end; None if the process was stopped and
            the run can be resumed.
        reason: reason why the process was stopped or could not resume; None if the sweep stopped it.
    """

    exit_description: str | None = None
    reason: str | None = None


class JobFiles:
    """Files of one batch of jobs, by job number from 0.

    Args:
        sweep_folder: folder of the sweep.
        name: name of the batch; random by default.
    """

    def __init__(self, sweep_folder: Path, name: str | None = None) -> None:
        self.folder = sweep_folder / FOLDER_NAME
        self.name = name or secrets.token_hex(4)

    def get_path(self, job: int) -> Path:
        """Returns the file of a request."""
        return self.folder / f"{self.name}-{job:06d}.json"

    def write_request(self, job: int, request: Request) -> None:
        """Writes a request. Only the owner can read the file, because the configuration may contain a password."""
        self.folder.mkdir(exist_ok=True)
        path = self.get_path(job)
        path.touch(mode=0o600)
        values = {"request": to_plain(request), "directory": Path.cwd(), "environment": disabling.get_variables()}
        path.write_text(json.dumps(values, default=str))

    def list_marks(self) -> set[str]:
        """Returns the names of all request and mark files."""
        return {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()

    def read_end(self, job: int) -> JobEnd:
        """Reads the end of a job."""
        return JobEnd(**json.loads(self.get_path(job).with_suffix(ENDED_SUFFIX).read_text()))

    def withdraw_requests(self) -> None:
        """Removes all request files; mark files stay."""
        for path in self.folder.glob("*.json"):
            path.unlink(missing_ok=True)


def remove_job_files(sweep_folder: Path) -> None:
    """Removes all request and mark files of a sweep."""
    shutil.rmtree(sweep_folder / FOLDER_NAME, ignore_errors=True)


def read_job_request(path: Path) -> JobRequest:
    """Reads a request."""
    values = json.loads(path.read_text())
    return JobRequest(path, _parse_request(values["request"]), Path(values["directory"]), values["environment"])


def write_end(job_path: Path, end: JobEnd) -> None:
    """Writes the end of a trial process."""
    atomic_files.write_text(job_path.with_suffix(ENDED_SUFFIX), json.dumps(vars(end)))


def _parse_request(values: Mapping[str, Any]) -> Request:
    resume_point, shipper_folder = values["resume_point"], values["delivery_folder"]
    fields = {
        "config": build_config(values["config"]),
        "overrides": tuple(values["overrides"]),
        "files": tuple(values["files"]),
        "sweep_folder": Path(values["sweep_folder"]),
        "delivery_folder": None if shipper_folder is None else Path(shipper_folder),
        "resume_point": None
        if resume_point is None
        else ResumePoint(**{**resume_point, "folder": Path(resume_point["folder"])}),
    }
    return Request(**{**values, **fields})
