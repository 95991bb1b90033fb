"""The processes of a distributed run, and the task of this process among them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from expfw import ConfigError, Run, RunConfig, TrainingError
from expfw_backends.cluster import rendezvous


@dataclass(frozen=True)
class Cluster:
    """The addresses (`host:port`) of a distributed run by job, and job and index of this process."""

    jobs: Mapping[str, Sequence[str]]
    job: str
    index: int

    def __post_init__(self) -> None:
        jobs_and_addresses = [(job, address) for job, addresses in self.jobs.items() for address in addresses]
        for job, address in jobs_and_addresses:
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ConfigError(f"invalid {job} address {address!r}; expected host:port")
        all_addresses = [address for _, address in jobs_and_addresses]
        if len(set(all_addresses)) < len(all_addresses):
            raise ConfigError(f"duplicate address in {', '.join(all_addresses)}; expected one for each process")
        if self.task not in self.tasks:
            raise ConfigError(
                f"this process is {self.task}, but the cluster has {', '.join(self.tasks) or 'no processes'}; "
                "correct backend.index, backend.task or TF_CONFIG"
            )

    @property
    def tasks(self) -> list[str]:
        """All tasks as `job:number`; the first one, `chief:0` or else `worker:0`, is the chief."""
        return sorted(f"{job}:{number}" for job, addresses in self.jobs.items() for number in range(len(addresses)))

    @property
    def task(self) -> str:
        """The task of this process, `job:number`."""
        return f"{self.job}:{self.index}"

    @property
    def is_chief(self) -> bool:
        """Whether this process records the run."""
        return self.task == self.tasks[0]

    def connect(self, config: RunConfig, timeout_seconds: float, port_offset: int = 0) -> rendezvous.Connections:
        """Connects all processes: the chief listens on its own port plus `port_offset`."""
        job, _, number = self.tasks[0].partition(":")
        host, _, port = self.jobs[job][int(number)].rpartition(":")
        address, shared_settings = (host, int(port) + port_offset), rendezvous.collect_shared_settings(config)
        if self.is_chief:
            return rendezvous.wait_for_tasks(address, self.tasks[1:], shared_settings, timeout_seconds)
        return rendezvous.connect_to_chief(address, self.task, shared_settings, timeout_seconds)

    def make_resolver(self) -> Any:
        """Returns the cluster as TensorFlow's `ClusterResolver`."""
        import tensorflow as tf

        return tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({job: list(addresses) for job, addresses in self.jobs.items()}),
            task_type=self.job,
            task_id=self.index,
            rpc_layer="grpc",
        )


def read_tf_config() -> Cluster | None:
    """Returns the cluster in TF_CONFIG; None if the variable is not set."""
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


@contextmanager
def explain_lost_process(process: str, run: Run) -> Iterator[None]:
    """Within the context, a TensorFlow error that a lost process causes is raised as `TrainingError`."""
    import tensorflow as tf

    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError) as error:
        reason = error.message.splitlines()[0].rpartition("}}")[2].strip()
        raise TrainingError(
            f"{process} has ended or cannot be reached, after step {run.step} ({reason}); read its error, then start "
            "all processes again with train.begin_from=CHECKPOINT (from the folder `checkpoints` of the run)"
        ) from error
