"""The processes that make one run together: who they are, and which of them this one is."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expfw import ConfigError, Run, TrainingError


@dataclass(frozen=True)
class Cluster:
    """Named jobs, each a list of `host:port`, and this process's place among them.

    Attributes:
        jobs: for example `{"worker": ["a:2222", "b:2222"]}`.
        job, index: of this process.
    """

    jobs: Mapping[str, Sequence[str]]
    job: str
    index: int

    def __post_init__(self) -> None:
        for job, addresses in self.jobs.items():
            for address in addresses:
                host, _, port = address.rpartition(":")
                if not host or not port.isdigit() or not 0 < int(port) < 65536:
                    raise ConfigError(f"{job} {address!r} is no address; expected host:port")
        all_addresses = [address for addresses in self.jobs.values() for address in addresses]
        if len(set(all_addresses)) < len(all_addresses):
            raise ConfigError(
                f"an address stands twice among {', '.join(all_addresses)}; expected one for each process"
            )
        if self.job not in self.jobs or not 0 <= self.index < len(self.jobs[self.job]):
            job_counts = ", ".join(f"{len(addresses)} {job}" for job, addresses in self.jobs.items())
            raise ConfigError(
                f"this process is {self.job} {self.index}, but there are {job_counts}, each numbered from 0; mend "
                "backend.index, or TF_CONFIG, where that sets it"
            )

    @property
    def tasks(self) -> list[str]:
        """All of them as `job:number`, the chief first."""
        names = [f"{job}:{number}" for job, addresses in self.jobs.items() for number in range(len(addresses))]
        return sorted(names, key=lambda name: (name != self.chief, name))

    @property
    def task(self) -> str:
        """This one."""
        return f"{self.job}:{self.index}"

    @property
    def chief(self) -> str:
        """The one that keeps the record of the run."""
        return "chief:0" if self.jobs.get("chief") else "worker:0"

    @property
    def is_chief(self) -> bool:
        """Whether this one is."""
        return self.task == self.chief

    def get_address(self, task: str) -> tuple[str, int]:
        """Host and port of a task."""
        job, _, number = task.partition(":")
        host, _, port = self.jobs[job][int(number)].rpartition(":")
        return host, int(port)


def read_tf_config() -> Cluster | None:
    """The cluster that TF_CONFIG describes.

    Raises:
        ConfigError: it is there, and cannot be read.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        config: dict[str, Any] = json.loads(text)
        jobs = {job: list(addresses) for job, addresses in config["cluster"].items() if addresses}
        return Cluster(jobs, config["task"]["type"], int(config["task"]["index"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"TF_CONFIG cannot be read ({type(error).__name__}: {error}); expected JSON like "
            '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
        ) from error


def read_slurm_cluster(port: int) -> Cluster | None:
    """One worker for each task of a Slurm step, on ports from `port` up; None outside of Slurm."""
    if "SLURM_PROCID" not in os.environ or "SLURM_STEP_NODELIST" not in os.environ:
        return None
    import tensorflow as tf

    try:
        # Which task has which GPU is Slurm's to say; the resolver must only not run out of numbers for them.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=port, gpus_per_node=1024, gpus_per_task=1, auto_set_gpu=False
        )
        addresses = resolver.cluster_spec().as_dict()["worker"]
        job, index = resolver.get_task_info()
    except (KeyError, ValueError, RuntimeError) as error:
        raise ConfigError(f"Slurm's variables cannot be read ({type(error).__name__}: {error})") from error
    return Cluster({"worker": addresses}, job, index)


def make_lost_process_error(process: str, run: Run, error: Any) -> TrainingError:
    """What a run ends with when a process of its cluster has gone.

    Args:
        error: TensorFlow's `tf.errors.OpError`.
    """
    reason = error.message.splitlines()[0].rpartition("}}")[2].strip()
    return TrainingError(
        f"{process} has ended or cannot be reached, after step {run.step} ({reason}); see its own message, then start "
        "all of them again, with train.begin_from=CHECKPOINT (in the folder `checkpoints` of the run) to go on from "
        "there"
    )


def find_own_index(addresses: Sequence[str], index: int | None) -> int:
    """Which of these addresses is this process's: `index`, else the only one whose host is this machine.

    Raises:
        ConfigError: it is not clear.
    """
    if index is not None:
        return index
    host_names = {socket.gethostname(), socket.getfqdn()}
    matches = [number for number, address in enumerate(addresses) if address.rpartition(":")[0] in host_names]
    if len(matches) == 1:
        return matches[0]
    raise ConfigError(
        f"which of {', '.join(addresses)} is this process? {len(matches)} of them are this machine "
        f"({' or '.join(sorted(host_names))}); say backend.index=NUMBER, from 0"
    )
