"""Synchronous training on several machines."""

from __future__ import annotations

import functools
import os
import signal
import socket
import threading
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import expfw
from expfw_backends.cluster import cluster_spec
from expfw_backends.tensorflow_backend import TensorFlowBackend, TensorFlowOptions


class MultiWorker(TensorFlowBackend):
    """Synchronous training in several processes on one or more machines, each with a copy of the weights.

    Start the same command in each process. The list of workers comes from `hosts` and `index`; without `hosts` from
    TF_CONFIG; without TF_CONFIG from Slurm's variables. Worker 0 records the run; the other workers write nothing.
    `train.batch_size` is the batch size of all workers together.
    """

    several_processes: ClassVar = True

    @dataclass
    class Config(TensorFlowOptions):
        hosts: tuple[str, ...] = expfw.option((), help="host:port of each worker; the same list in each process")
        index: int | None = expfw.option(
            None, help="index of this process in hosts, from 0; by default found by host name"
        )
        port: int = expfw.option(12345, help="first port on each machine; for Slurm")
        timeout: float = expfw.option(300.0, help="seconds to wait for the other workers at the start", more_than=0)
        communication: Literal["auto", "ring", "nccl"] = expfw.option(
            "auto", help="method that exchanges the gradients"
        )

        def __post_init__(self) -> None:
            if len(self.hosts) == 1:
                raise ValueError(f"hosts is {list(self.hosts)}; expected two or more, or backend=tf-cpu or tf-gpu")

    def role(self) -> str:
        if not self.config.hosts and not os.environ.get("TF_CONFIG") and "SLURM_PROCID" in os.environ:
            return "run" if os.environ["SLURM_PROCID"] == "0" else "follow"  # the full cluster needs TensorFlow
        return "run" if self.cluster.is_chief else "follow"

    @functools.cached_property
    def cluster(self) -> cluster_spec.Cluster:
        """All workers, from the options, TF_CONFIG or Slurm."""
        hosts, index = self.config.hosts, self.config.index
        if hosts:
            if index is None:
                host_names = {socket.gethostname(), socket.getfqdn()}
                matches = [number for number, host in enumerate(hosts) if host.rpartition(":")[0] in host_names]
                if len(matches) != 1:
                    raise expfw.ConfigError(
                        f"cannot find the address of this process: {len(matches)} of {', '.join(hosts)} are on this "
                        f"machine ({' or '.join(sorted(host_names))}); set backend.index=NUMBER, from 0"
                    )
                index = matches[0]
            return cluster_spec.Cluster({"worker": hosts}, "worker", index)
        cluster = cluster_spec.read_tf_config() or cluster_spec.read_slurm_cluster(self.config.port)
        if cluster is None:
            raise expfw.ConfigError(
                "backend=multi-worker has no list of workers; add backend.hosts=[a:2222,b:2222] and backend.index, "
                "or set TF_CONFIG, or start with srun"
            )
        if unknown_jobs := cluster.jobs.keys() - {"chief", "worker"}:
            raise expfw.ConfigError(f"TF_CONFIG has jobs {', '.join(sorted(unknown_jobs))}; expected chief and worker")
        return cluster

    def prepare(self, config: expfw.RunConfig, run: expfw.Run) -> None:
        if run.training:
            self.cluster.connect(config, self.config.timeout).close()  # frees the port for TensorFlow
        super().prepare(config, run)
        if threading.current_thread() is threading.main_thread():
            # TensorFlow's coordination service has replaced the SIGTERM handler with one that ignores the signal.
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))

    def strategy(self) -> Any:
        import tensorflow as tf

        options = tf.distribute.experimental.CommunicationOptions(implementation=self.config.communication)
        return tf.distribute.MultiWorkerMirroredStrategy(self.cluster.make_resolver(), options)

    def fit(self, config: expfw.RunConfig, run: expfw.Run, model: Any, data: expfw.Splits) -> expfw.Result:
        with cluster_spec.explain_lost_process("another worker", run):
            return super().fit(config, run, model, data)
