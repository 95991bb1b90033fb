"""Training with parameter servers: workers update shared weights without waiting for each other."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import expfw
from expfw_backends.cluster import cluster_spec
from expfw_backends.tensorflow_backend import TensorFlowBackend, TensorFlowOptions


class ParameterServer(TensorFlowBackend):
    """Asynchronous training with a `chief`, parameter servers (`ps`, with the weights) and `worker` processes.

    Start the same command in each process, each with its own `task`. A worker updates the weights as soon as it has
    computed a batch, so the results depend on the speed of the workers. Each step is one batch of one worker.
    """

    several_processes: ClassVar = True

    @dataclass
    class Config(TensorFlowOptions):
        chief: str = expfw.option("", help="host:port of the chief, which records the run; it also uses the next port")
        ps: tuple[str, ...] = expfw.option((), help="host:port of each parameter server")
        workers: tuple[str, ...] = expfw.option((), help="host:port of each worker")
        task: str = expfw.option("chief:0", help="task of this process: chief:0, ps:NUMBER or worker:NUMBER")
        timeout: float = expfw.option(300.0, help="seconds to wait for the other processes at the start", more_than=0)
        steps_at_once: int = expfw.option(10, help="steps that a worker receives at a time", at_least=1)

        def __post_init__(self) -> None:
            if self.chief and not (self.ps and self.workers):
                raise ValueError("chief is set without ps and workers; expected at least one of each")

    def role(self) -> str:
        return "run" if self.cluster.is_chief else "serve"

    @functools.cached_property
    def cluster(self) -> cluster_spec.Cluster:
        """All processes, from the options; without `chief` from TF_CONFIG."""
        options = self.config
        if options.chief:
            job, _, index = options.task.partition(":")
            jobs = {"chief": [options.chief], "ps": list(options.ps), "worker": list(options.workers)}
            return cluster_spec.Cluster(jobs, job, int(index) if index.isdigit() else -1)
        cluster = cluster_spec.read_tf_config()
        if cluster is None or not {"chief", "ps", "worker"} <= cluster.jobs.keys():
            raise expfw.ConfigError(
                "backend=parameter-server has no list of processes; add backend.chief=a:2222, "
                "backend.ps=[b:2222], backend.workers=[c:2222] and backend.task, or set TF_CONFIG with these jobs"
            )
        return cluster

    def serve(self, config: expfw.RunConfig) -> None:
        """Runs TensorFlow's server until the chief has ended."""
        import tensorflow as tf

        specification = self.cluster.make_resolver().cluster_spec()
        tf.distribute.Server(specification, self.cluster.job, self.cluster.index, protocol="grpc")
        chief_connection = self._connect(config)
        print(f"{self.cluster.task} serves until the chief ends", flush=True)
        while not chief_connection.find_lost_tasks(timeout_seconds=1.0):
            pass

    def _connect(self, config: expfw.RunConfig) -> Any:
        """Connects all processes; the connections stay open until the end, on the port after that of the chief."""
        return self.cluster.connect(config, self.config.timeout, port_offset=1)

    def prepare(self, config: expfw.RunConfig, run: expfw.Run) -> None:
        if run.training:
            if config.train.average is not None:
                raise expfw.ConfigError(
                    "train.average needs the weights after each step, and parameter servers do not have them; use "
                    "train.average=null or another backend"
                )
            self.connections = self._connect(config)
        super().prepare(config, run)

    def strategy(self) -> Any:
        import tensorflow as tf

        strategy = tf.distribute.ParameterServerStrategy(self.cluster.make_resolver())
        self.coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        return strategy

    def loop(self) -> Any:
        from expfw_backends.cluster.coordinator_loop import CoordinatorLoop

        return functools.partial(
            CoordinatorLoop,
            coordinator=self.coordinator,
            connections=self.connections,
            resident_bytes=0,
            part_steps=self.config.steps_at_once,
        )

    def fit(self, config: expfw.RunConfig, run: expfw.Run, model: Any, data: expfw.Splits) -> expfw.Result:
        if run.keep_gradients:
            raise expfw.ConfigError(
                "a callback needs the gradients of each step, but with parameter servers each worker applies its own "
                "gradients; use another backend, or disable the callback"
            )
        with cluster_spec.explain_lost_process("a parameter server or a worker", run):
            return super().fit(config, run, model, data)
