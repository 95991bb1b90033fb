"""Training with parameter servers: workers update shared weights, none waits for another."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import expfw
from expfw_backends.cluster import cluster_spec, rendezvous
from expfw_backends.cluster.cluster_spec import Cluster, make_lost_process_error
from expfw_backends.tensorflow_backend import TensorFlowBackend, TensorFlowOptions


class ParameterServer(TensorFlowBackend):
    """Jobs `chief`, `ps` (they hold the weights) and `worker`; the same command in each process, with another `task`.

    Workers update the weights whenever they are done with a batch: the numbers of a run depend on their speed. Each
    step is one batch of one worker.
    """

    several_processes: ClassVar = True

    @dataclass
    class Config(TensorFlowOptions):
        chief: str = expfw.option("", help="host:port of the chief, which keeps the record; it uses the next port too")
        ps: tuple[str, ...] = expfw.option((), help="host:port of each parameter server")
        workers: tuple[str, ...] = expfw.option((), help="host:port of each worker")
        task: str = expfw.option("chief:0", help="which of them this process is: chief:0, ps:NUMBER or worker:NUMBER")
        timeout: float = expfw.option(300.0, help="seconds to wait for the others at the start")
        steps_at_once: int = expfw.option(10, help="steps that a worker is given at a time")

        def __post_init__(self) -> None:
            super().__post_init__()
            if not self.timeout > 0 or self.steps_at_once < 1:
                raise ValueError(
                    f"timeout is {self.timeout} and steps_at_once {self.steps_at_once}; expected more than 0, and 1"
                )
            if self.chief and not (self.ps and self.workers):
                raise ValueError("chief is given without ps and workers; expected at least one of each")

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.connections: Any = None
        self.coordinator: Any = None

    def role(self) -> str:
        return "run" if self.cluster.is_chief else "serve"

    @functools.cached_property
    def cluster(self) -> Cluster:
        """All processes: from the options, else from TF_CONFIG.

        Raises:
            ConfigError: nothing says who they are.
        """
        options = self.config
        if options.chief:
            job, _, index = options.task.partition(":")
            jobs = {"chief": [options.chief], "ps": list(options.ps), "worker": list(options.workers)}
            return Cluster(jobs, job, int(index) if index.isdigit() else -1)
        cluster = cluster_spec.read_tf_config()
        if cluster is None or not {"chief", "ps", "worker"} <= cluster.jobs.keys():
            raise expfw.ConfigError(
                "backend=parameter-server does not know its processes; give backend.chief=a:2222, "
                "backend.ps=[b:2222], backend.workers=[c:2222] and backend.task, or set TF_CONFIG with these jobs"
            )
        return cluster

    @property
    def rendezvous_address(self) -> tuple[str, int]:
        """Where the others greet the chief; they stay in touch there until the end."""
        host, port = self.cluster.get_address("chief:0")
        return host, port + 1

    def serve(self, config: expfw.RunConfig) -> None:
        """TensorFlow's server, until the chief has ended."""
        import tensorflow as tf

        jobs = {job: list(addresses) for job, addresses in self.cluster.jobs.items()}
        tf.distribute.Server(tf.train.ClusterSpec(jobs), self.cluster.job, self.cluster.index, protocol="grpc")
        chief_connection = rendezvous.connect_to_chief(
            self.rendezvous_address, self.cluster.task, rendezvous.collect_shared_settings(config), self.config.timeout
        )
        print(f"{self.cluster.task} serves until the chief ends", flush=True)
        while not chief_connection.find_lost_tasks(timeout_seconds=1.0):
            pass

    def prepare(self, config: expfw.RunConfig, run: expfw.Run) -> None:
        if not run.training:
            super().prepare(config, run)
            return
        if config.train.average is not None:
            raise expfw.ConfigError(
                "train.average needs the weights after each step, which parameter servers do not have"
            )
        shared_settings = rendezvous.collect_shared_settings(config)
        self.connections = rendezvous.wait_for_tasks(
            self.rendezvous_address, self.cluster.tasks[1:], shared_settings, self.config.timeout
        )
        super().prepare(config, run)

    def strategy(self) -> Any:
        import tensorflow as tf

        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({job: list(addresses) for job, addresses in self.cluster.jobs.items()}),
            task_type="chief",
            task_id=0,
            rpc_layer="grpc",
        )
        strategy = tf.distribute.ParameterServerStrategy(resolver)
        self.coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        return strategy

    def loop(self) -> Any:
        from expfw_backends.cluster.coordinator_loop import CoordinatorLoop

        return functools.partial(
            CoordinatorLoop,
            coordinator=self.coordinator,
            connections=self.connections,
            steps_at_once=self.config.steps_at_once,
        )

    def fit(self, config: expfw.RunConfig, run: expfw.Run, model: Any, data: expfw.Splits) -> expfw.Result:
        import tensorflow as tf

        if run.keep_gradients:
            raise expfw.ConfigError(
                "a callback wants to see the gradients of a step; with parameter servers each worker applies its own, "
                "whenever it has them. Use another backend, or leave that callback out"
            )
        try:
            return super().fit(config, run, model, data)
        except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
            raise make_lost_process_error("a parameter server or a worker", run, error) from error
