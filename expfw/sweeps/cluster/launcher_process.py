"""The process in which one of Hydra's launchers does its work; whatever it prints, starts or breaks stays there.

It goes on when the command that started it is gone, as jobs do that a scheduler has.
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
    """What is to be launched.

    Attributes:
        config: Hydra's own part of the configuration, with the launcher and a folder for what it writes.
        job_count: of jobs, from 0.
        error_file: the file that will say why it could not be done.
    """

    config: DictConfig
    task: JobTask
    job_count: int
    error_file: Path

    def to_json(self) -> str:
        """It as JSON; `parse_launch_spec` reads it."""
        job_files = self.task.job_files
        values = {"config": OmegaConf.to_yaml(self.config), "folder": str(job_files.folder), "name": job_files.name}
        return json.dumps({**values, "count": self.job_count, "trouble": str(self.error_file)})


def parse_launch_spec(text: str) -> LaunchSpec:
    """What `LaunchSpec.to_json` gave, with Hydra's types, which Hydra asks for."""
    values = json.loads(text)
    schema = OmegaConf.structured(HydraConf)
    OmegaConf.set_struct(schema, False)  # Hydra itself has keys in it that it does not declare
    hydra_config = OmegaConf.merge(schema, OmegaConf.create(values["config"])["hydra"])
    task = JobTask(JobFiles(Path(values["folder"]).parent, values["name"]))
    return LaunchSpec(OmegaConf.create({"hydra": hydra_config}), task, values["count"], Path(values["trouble"]))


def start_launcher(launch_spec: LaunchSpec, log: Path) -> subprocess.Popen[bytes]:
    """Starts the process, in a session of its own: it has to outlive a Ctrl-C until all trials have ended.

    Args:
        log: for what is printed.
    """
    defaults = {"RAY_USAGE_STATS_ENABLED": "0"}  # Ray would tell its makers of each use
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
    """Launches; returns when all jobs have ended."""
    launch_spec = parse_launch_spec(sys.stdin.read())
    context = HydraContext(config_loader=_FixedConfigLoader(), callbacks=Callbacks(launch_spec.config))
    try:
        launcher = Plugins.instance().instantiate_launcher(context, launch_spec.task, launch_spec.config)
        for job_return in launcher.launch([[] for _ in range(launch_spec.job_count)], initial_job_idx=0):
            if job_return.return_value is not None:
                raise RuntimeError(job_return.return_value)
    except Exception as error:  # whatever a launcher or its scheduler raises
        atomic_files.write_text(launch_spec.error_file, to_one_line(f"{type(error).__name__}: {error}"))
        raise
    return 0


class _FixedConfigLoader:
    """Stands for Hydra's loader of configurations: jobs need none, they bring what they do."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> Any:
        """The configuration of a job, as launchers ask for it."""
        return copy.deepcopy(master_config)


if __name__ == "__main__":
    sys.exit(main())
