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

from expfw.errors import one_line
from expfw.sweeps.cluster.job import Jobs
from expfw.sweeps.cluster.orders import Orders
from expfw.system import atomic_files


@dataclass(frozen=True)
class Launch:
    """What is to be launched.

    Attributes:
        config: Hydra's own part of the configuration, with the launcher and a folder for what it writes.
        count: of jobs, from 0.
        trouble: the file that will say why it could not be done.
    """

    config: DictConfig
    jobs: Jobs
    count: int
    trouble: Path

    def text(self) -> str:
        """It as JSON; `read` reads it."""
        orders = self.jobs.orders
        values = {"config": OmegaConf.to_yaml(self.config), "folder": str(orders.folder), "name": orders.name}
        return json.dumps({**values, "count": self.count, "trouble": str(self.trouble)})


def read(text: str) -> Launch:
    """What `Launch.text` gave, with Hydra's types, which Hydra asks for."""
    values = json.loads(text)
    typed = OmegaConf.structured(HydraConf)
    OmegaConf.set_struct(typed, False)  # Hydra itself has keys in it that it does not declare
    hydra = OmegaConf.merge(typed, OmegaConf.create(values["config"])["hydra"])
    jobs = Jobs(Orders(Path(values["folder"]).parent, values["name"]))
    return Launch(OmegaConf.create({"hydra": hydra}), jobs, values["count"], Path(values["trouble"]))


def start(launch: Launch, log: Path) -> subprocess.Popen[bytes]:
    """Starts the process, in a session of its own: it has to outlive a Ctrl-C until all trials have ended.

    Args:
        log: for what is printed.
    """
    private = {"RAY_USAGE_STATS_ENABLED": "0"}  # Ray would tell its makers of each use
    environment = {**private, **os.environ, "PYTHONSAFEPATH": "1"}  # no modules from the working directory
    command = [sys.executable, "-m", "expfw.sweeps.cluster.launching"]
    with open(log, "ab") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment, start_new_session=True
        )
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(launch.text().encode())
    return process


def main() -> int:
    """Launches; returns when all jobs have ended."""
    launch = read(sys.stdin.read())
    context = HydraContext(config_loader=_Composed(), callbacks=Callbacks(launch.config))
    try:
        launcher = Plugins.instance().instantiate_launcher(context, launch.jobs, launch.config)
        for made in launcher.launch([[] for _ in range(launch.count)], initial_job_idx=0):
            if made.return_value is not None:
                raise RuntimeError(made.return_value)
    except Exception as error:  # whatever a launcher or its scheduler raises
        atomic_files.write_text(launch.trouble, one_line(f"{type(error).__name__}: {error}"))
        raise
    return 0


class _Composed:
    """Stands for Hydra's loader of configurations: jobs need none, they bring what they do."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> Any:
        """The configuration of a job, as launchers ask for it."""
        return copy.deepcopy(master_config)


if __name__ == "__main__":
    sys.exit(main())
