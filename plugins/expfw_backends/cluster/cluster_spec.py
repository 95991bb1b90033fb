"""The processes of a distributed run, and the task of this process among them."""

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
    """The jobs of a distributed run, and the task of this process.

    Attributes:
        jobs: addresses (`host:port`) by job, for example `{"worker": ["a:2222", "b:2222"]}`.
        job: job of this process.
        index: index of this process in its job, from 0.
    """

    jobs: Mapping[str, Sequence[str]]
    job: str
    index: int

    def __post_init__(self) -> None:
        for job, addresses in self.jobs.items():
            for address in addresses:
                host, _, port = address.rpartition(":")
                if not host or not port.isdigit() or not 0 < int(port) < 65536:
                    raise ConfigError(f"invalid {job} address {address!r}; expected host:port")
        all_addresses = [address for addresses in self.jobs.values() for address in addresses]
        if len(set(all_addresses)) < len(all_addresses):
            raise ConfigError(
                f"duplicate address in {', '.join(all_addresses)}; expected a different address for each process"
            )
        if self.job not in self.jobs or not 0 <= self.index < len(self.jobs[self.job]):
            tasks = ", ".join(
                f"{job} 0" + (f" to {len(addresses) - 1}" if len(addresses) > 1 else "")
                for job, addresses in self.jobs.items()
                if addresses
            )
            raise ConfigError(
                f"this process is {self.job} {self.index}, but the cluster has {tasks or 'no processes'}; "
                "correct backend.index, backend.task or TF_CONFIG"
            )

    @property
    def tasks(self) -> list[str]:
        """All tasks as `job:number`, the chief first."""
        names = [f"{job}:{number}" for job, addresses in self.jobs.items() for number in range(len(addresses))]
        return sorted(names, key=lambda name: (name != self.chief, name))

    @property
    def task(self) -> str:
        """The task of this process, `job:number`."""
        return f"{self.job}:{self.index}"

    @property
    def chief(self) -> str:
        """The task that records the run."""
        return "chief:0" if self.jobs.get("chief") else "worker:0"

    @property
    def is_chief(self) -> bool:
        """Whether this process is the chief."""
        return self.task == self.chief

    def get_address(self, task: str) -> tuple[str, int]:
        """Returns host and port of a task."""
        job, _, number = task.partition(":")
        host, _, port = self.jobs[job][int(number)].rpartition(":")
        return host, int(port)


def read_tf_config() -> Cluster | None:
    """Returns the cluster in TF_CONFIG; None if the variable is not set.

    Raises:
        ConfigError: if TF_CONFIG is invalid.
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
            f"cannot read TF_CONFIG ({type(error).__name__}: {error}); expected JSON such as "
            '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
        ) from error


def read_slurm_cluster(port: int) -> Cluster | None:
    """Returns one worker for each task of a Slurm step, on ports from `port` up; None outside of Slurm."""
    if "SLURM_PROCID" not in os.environ or "SLURM_STEP_NODELIST" not in os.environ:
        return None
    import tensorflow as tf

    try:
        # Slurm assigns the GPUs; the large numbers only keep the resolver from rejecting the cluster.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=port, gpus_per_node=1024, gpus_per_task=1, auto_set_gpu=False
        )
        addresses = resolver.cluster_spec().as_dict()["worker"]
        job, index = resolver.get_task_info()
    except (KeyError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"cannot read Slurm's variables ({type(error).__name__}: {error}); start with srun, or set backend.hosts"
        ) from error
    return Cluster({"worker": addresses}, job, index)


def make_lost_process_error(process: str, run: Run, error: Any) -> TrainingError:
    """Returns the error of a run that has lost a process of its cluster.

    Args:
        process: name of the lost process, for the message.
        run: the run that fails.
        error: TensorFlow's `tf.errors.OpError`.
    """
    reason = error.message.splitlines()[0].rpartition("}}")[2].strip()
    return TrainingError(
        f"{process} has ended or cannot be reached, after step {run.step} ({reason}); read its error, then start all "
        "processes again with train.begin_from=CHECKPOINT (from the folder `checkpoints` of the run)"
    )


def find_own_index(addresses: Sequence[str], index: int | None) -> int:
    """Returns the index of this process: `index`, or the only address whose host is this machine.

    Raises:
        ConfigError: if `index` is None and not exactly one address is on this machine.
    """
    if index is not None:
        return index
    host_names = {socket.gethostname(), socket.getfqdn()}
    matches = [number for number, address in enumerate(addresses) if address.rpartition(":")[0] in host_names]
    if len(matches) == 1:
        return matches[0]
    raise ConfigError(
        f"cannot find the address of this process: {len(matches)} of {', '.join(addresses)} are on this machine "
        f"({' or '.join(sorted(host_names))}); set backend.index=NUMBER, from 0"
    )
