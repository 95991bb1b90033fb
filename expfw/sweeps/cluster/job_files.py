"""Files of jobs on other machines, in the sweep folder, which all machines share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from expfw.api.run_config import to_plain
from expfw.config.freeze import build_config
from expfw.plugins import disabling
from expfw.runs.request import Request
from expfw.runs.restore import ResumePoint
from expfw.system import atomic_files

FOLDER_NAME = "requests"


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


@dataclass(frozen=True)
class JobFiles:
    """Request file of a job, and mark files next to it that record that its trial has begun and ended.

    Attributes:
        path: request file. If it is removed, a running trial stops, and a job that has not begun does nothing.
    """

    path: Path

    @property
    def begun_mark(self) -> Path:
        return self.path.with_suffix(".begun")

    @property
    def ended_mark(self) -> Path:
        return self.path.with_suffix(".ended")

    def write_request(self, request: Request) -> None:
        """Writes the request. Only the owner can read the file, because the configuration may contain a password."""
        self.path.parent.mkdir(exist_ok=True)
        self.path.touch(mode=0o600)
        values = {"request": to_plain(request), "directory": Path.cwd(), "environment": disabling.get_variables()}
        self.path.write_text(json.dumps(values, default=str))

    def read_request(self) -> tuple[Request, Path, dict[str, str]]:
        """Returns the request, the sweep's working directory, and environment variables that disable plugins."""
        values = json.loads(self.path.read_text())
        fields = values["request"]
        for name in ("sweep_folder", "delivery_folder"):
            fields[name] = None if fields[name] is None else Path(fields[name])
        if (point := fields["resume_point"]) is not None:
            fields["resume_point"] = ResumePoint(**{**point, "folder": Path(point["folder"])})
        for name in ("overrides", "files"):
            fields[name] = tuple(fields[name])
        request = Request(**{**fields, "config": build_config(fields["config"])})
        return request, Path(values["directory"]), values["environment"]

    def write_end(self, end: JobEnd) -> None:
        """Marks the trial as ended."""
        atomic_files.write_text(self.ended_mark, json.dumps(vars(end)))

    def read_end(self) -> JobEnd:
        """Reads how the trial has ended."""
        return JobEnd(**json.loads(self.ended_mark.read_text()))
