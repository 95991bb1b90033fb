"""Synchronous training on several machines."""

from __future__ import annotations

import functools
import os
import signal
import threading
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import expfw
from expfw_backends.cluster import cluster_spec, rendezvous
from expfw_backends.cluster.cluster_spec import Cluster, make_lost_process_error
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
    def cluster(self) -> Cluster:
        """All workers.

        Raises:
            ConfigError: if no source lists the workers.
        """
        options = self.config
        if options.hosts:
            return Cluster(
                {"worker": options.hosts}, "worker", cluster_spec.find_own_index(options.hosts, options.index)
            )
        cluster = cluster_spec.read_tf_config() or cluster_spec.read_slurm_cluster(options.port)
        if cluster is None:
            raise expfw.ConfigError(
                "backend=multi-worker has no list of workers; add backend.hosts=[a:2222,b:2222] and backend.index, "
                "or set TF_CONFIG, or start with srun"
            )
        if unknown_jobs := cluster.jobs.keys() - {"chief", "worker"}:
            raise expfw.ConfigError(
                f"TF_CONFIG has the jobs {', '.join(sorted(unknown_jobs))}; expected chief and worker only"
            )
        return cluster

    def prepare(self, config: expfw.RunConfig, run: expfw.Run) -> None:
        if run.training:
            self.wait_for_workers(config)
        super().prepare(config, run)
        if threading.current_thread() is threading.main_thread():
            # TensorFlow's coordination service has replaced the SIGTERM handler with one that ignores the signal.
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))

    def wait_for_workers(self, config: expfw.RunConfig) -> None:
        """Waits for the other workers, then frees the port for TensorFlow."""
        address, shared_settings = (
            self.cluster.get_address(self.cluster.chief),
            rendezvous.collect_shared_settings(config),
        )
        if self.cluster.is_chief:
            connections = rendezvous.wait_for_tasks(
                address, self.cluster.tasks[1:], shared_settings, self.config.timeout
            )
        else:
            connections = rendezvous.connect_to_chief(address, self.cluster.task, shared_settings, self.config.timeout)
        connections.close()

    def strategy(self) -> Any:
        import tensorflow as tf

        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({job: list(hosts) for job, hosts in self.cluster.jobs.items()}),
            task_type=self.cluster.job,
            task_id=self.cluster.index,
            rpc_layer="grpc",
        )
        implementations = tf.distribute.experimental.CommunicationImplementation
        options = tf.distribute.experimental.CommunicationOptions(
            implementation=implementations[self.config.communication.upper()]
        )
        return tf.distribute.MultiWorkerMirroredStrategy(resolver, options)

    def fit(self, config: expfw.RunConfig, run: expfw.Run, model: Any, data: expfw.Splits) -> expfw.Result:
        import tensorflow as tf

        try:
            return super().fit(config, run, model, data)
        except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError) as error:
            raise make_lost_process_error("another worker", run, error) from error
