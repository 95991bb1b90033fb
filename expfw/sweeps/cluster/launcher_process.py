"""Process of a Hydra launcher, which isolates its output, its child processes and its errors.

It continues after the main process has ended, as do jobs of a scheduler.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.conf import HydraConf
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from expfw.errors import to_one_line
from expfw.sweeps.cluster.job import JobTask
from expfw.sweeps.cluster.job_files import JobFiles
from expfw.system import atomic_files


@dataclass(frozen=True)
class LaunchSpec:
    """Specification of the jobs to launch.

    Attributes:
        config: Hydra's own part of the configuration, with the launcher and its output folder.
        task: task function of the jobs.
        job_count: number of jobs.
        error_file: file to which the process writes an error of the launcher.
    """

    config: DictConfig
    task: JobTask
    job_count: int
    error_file: Path

    def to_json(self) -> str:
        """Returns it as JSON, for `parse_launch_spec`."""
        job_files = self.task.job_files
        values = {"config": OmegaConf.to_yaml(self.config), "folder": str(job_files.folder), "name": job_files.name}
        return json.dumps({**values, "count": self.job_count, "error_file": str(self.error_file)})


def parse_launch_spec(text: str) -> LaunchSpec:
    """Parses the JSON of `LaunchSpec.to_json`; the result has the types that Hydra requires."""
    values = json.loads(text)
    schema = OmegaConf.structured(HydraConf)
    OmegaConf.set_struct(schema, False)  # Hydra's own values contain undeclared keys
    hydra_config = OmegaConf.merge(schema, OmegaConf.create(values["config"])["hydra"])
    task = JobTask(JobFiles(Path(values["folder"]).parent, values["name"]))
    return LaunchSpec(OmegaConf.create({"hydra": hydra_config}), task, values["count"], Path(values["error_file"]))


def start_launcher(launch_spec: LaunchSpec, log: Path) -> subprocess.Popen[bytes]:
    """Starts the launcher process in a separate session: after Ctrl-C it must run until all trials have ended.

    Args:
        launch_spec: jobs to launch.
        log: file for the output of the process.
    """
    defaults = {"RAY_USAGE_STATS_ENABLED": "0"}  # otherwise Ray sends usage statistics
    environment = {**defaults, **os.environ, "PYTHONSAFEPATH": "1"}  # no modules from the working directory
    command = [sys.executable, "-m", __name__]
    with open(log, "ab") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment, start_new_session=True
        )
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(launch_spec.to_json().encode())
    return process


def main() -> int:
    """Launches the jobs and returns the exit code when all have ended."""
    launch_spec = parse_launch_spec(sys.stdin.read())
    context = HydraContext(config_loader=_FixedConfigLoader(), callbacks=Callbacks(launch_spec.config))
    try:
        launcher = Plugins.instance().instantiate_launcher(context, launch_spec.task, launch_spec.config)
        for job_return in launcher.launch([[] for _ in range(launch_spec.job_count)], initial_job_idx=0):
            if job_return.return_value is not None:
                raise RuntimeError(job_return.return_value)
    except Exception as error:  # launchers and schedulers raise errors of any type
        atomic_files.write_text(launch_spec.error_file, to_one_line(f"{type(error).__name__}: {error}"))
        raise
    return 0


class _FixedConfigLoader:
    """Replacement for Hydra's config loader: jobs compose nothing, because their requests are in files."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> Any:
        """Returns the configuration of a job. Called by launchers."""
        return copy.deepcopy(master_config)


if __name__ == "__main__":
    sys.exit(main())
