"""Clusters: tasks of the processes, and connections between them."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from support.processes import HOST, find_free_port

import expfw
from expfw_backends.cluster import cluster_spec, rendezvous
from expfw_backends.cluster.cluster_spec import Cluster
from expfw_backends.multi_worker import MultiWorker
from expfw_backends.parameter_server import ParameterServer

TWO = ("a:1", "b:2")


def multi_worker(**options):
    return MultiWorker(MultiWorker.Config(**options), "multi-worker")


def parameter_server(**options):
    return ParameterServer(ParameterServer.Config(**options), "parameter-server")


def test_roles_from_a_list_of_hosts():
    assert [multi_worker(hosts=TWO, index=i).role() for i in (0, 1)] == ["run", "follow"]
    own_hosts = (f"{socket.gethostname()}:7", "elsewhere:7")
    assert multi_worker(hosts=own_hosts).role() == "run"
    assert multi_worker(hosts=own_hosts[::-1]).role() == "follow"


def test_roles_from_tf_config(monkeypatch):
    def set_to(job, index, **jobs):
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": jobs, "task": {"type": job, "index": index}}))

    set_to("worker", 1, worker=TWO)
    assert multi_worker().role() == "follow"
    set_to("worker", 0, chief=["c:1"], worker=TWO)
    assert multi_worker().role() == "follow"
    assert multi_worker().cluster.tasks == ["chief:0", "worker:0", "worker:1"]
    set_to("chief", 0, chief=["c:1"], worker=TWO)
    assert multi_worker().role() == "run"
    set_to("ps", 0, chief=["c:1"], worker=TWO, ps=["d:1"])
    assert parameter_server().role() == "serve"
    with pytest.raises(expfw.ConfigError, match="TF_CONFIG has jobs ps; expected chief and worker"):
        multi_worker().role()
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(expfw.ConfigError, match="cannot read TF_CONFIG"):
        multi_worker().role()


def test_roles_from_slurm(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    variables = {"PROCID": "3", "LOCALID": "1", "NTASKS": "4", "STEP_NUM_TASKS": "4", "STEP_NODELIST": "node[07-08]"}
    for name, value in {**variables, "STEP_TASKS_PER_NODE": "2(x2)", "TASKS_PER_NODE": "2(x2)"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    backend = multi_worker(port=900)
    assert backend.role() == "follow"
    assert list(backend.cluster.jobs["worker"]) == ["node07:900", "node07:901", "node08:900", "node08:901"]
    assert backend.cluster.task == "worker:3"
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert multi_worker().role() == "run"


def test_roles_of_parameter_servers():
    def role(task):
        return parameter_server(chief="a:1", ps=("b:1",), workers=("c:1", "d:1"), task=task).role()

    assert [role(task) for task in ("chief:0", "ps:0", "worker:1")] == ["run", "serve", "serve"]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Cluster({"worker": ["a:1", "b"]}, "worker", 0), "invalid worker address 'b'; expected host:port"),
        (lambda: Cluster({"worker": ["a:1", "a:1"]}, "worker", 0), "duplicate address in a:1, a:1"),
        (lambda: Cluster({"worker": TWO}, "worker", 2), "this process is worker:2, but the cluster has worker:0, work"),
        (lambda: parameter_server(chief="a:1", ps=("b:1",), workers=TWO[1:], task="boss").role(), "is boss:-1, but"),
        (lambda: multi_worker(hosts=TWO).role(), r"address of this process: 0 of a:1, b:2 are on .* backend\.index"),
        (lambda: multi_worker().role(), "has no list of workers; add backend"),
        (lambda: parameter_server().role(), "has no list of processes; add backend"),
        (lambda: MultiWorker.Config(hosts=("a:1",)), "expected two or more"),
    ],
)
def test_an_invalid_cluster_is_rejected(make, match):
    with pytest.raises((expfw.ConfigError, ValueError), match=match):
        make()


@pytest.fixture
def address():
    return HOST, find_free_port()


@pytest.fixture
def threads():
    with ThreadPoolExecutor() as executor:
        yield executor


def connect_when_listening(address):
    """Returns a connection as soon as a process listens."""
    for _ in range(100):
        with suppress(OSError):
            return socket.create_connection(address)
        time.sleep(0.02)
    raise AssertionError("no process listens")


def test_processes_connect_and_detect_a_lost_process(address, threads):
    tasks = ["worker:1", "worker:2"]
    others = [threads.submit(rendezvous.connect_to_chief, address, task, {"seed": "1"}, 10) for task in tasks]
    chief = rendezvous.wait_for_tasks(address, tasks, {"seed": "1"}, 10)
    first, second = (other.result() for other in others)
    assert chief.find_lost_tasks(0.1) == []
    first.close()
    assert chief.find_lost_tasks(5) == ["worker:1"]
    chief.close()
    assert second.find_lost_tasks(5) == ["the chief"]
    second.close()


def test_every_process_reports_the_missing_process(address, threads):
    other = threads.submit(rendezvous.connect_to_chief, address, "worker:1", {}, 10)
    with pytest.raises(expfw.TrainingError, match=r"^worker:2 did not connect within 0\.5 s; start the same command"):
        rendezvous.wait_for_tasks(address, ["worker:1", "worker:2"], {}, 0.5)
    assert "the chief reports: worker:2 did not connect" in str(other.exception())


def test_a_different_configuration_is_rejected_with_the_key(address, threads):
    other = threads.submit(rendezvous.connect_to_chief, address, "worker:1", {"train.batch_size": "32"}, 10)
    with pytest.raises(expfw.ConfigError, match=r"worker:1 has train\.batch_size=32, the chief has 64"):
        rendezvous.wait_for_tasks(address, ["worker:1"], {"train.batch_size": "64"}, 10)
    assert "has train.batch_size=32" in str(other.exception())


def test_unknown_connections_are_ignored_and_a_used_port_is_reported(address, threads):
    chief = threads.submit(rendezvous.wait_for_tasks, address, ["worker:1"], {}, 10)
    for message in (b"GET / HTTP/1.0\n", b"[1]\n", b'{"task": "worker:1"}\n', b"\xff\n", b""):
        with connect_when_listening(address) as unknown_peer:
            unknown_peer.sendall(message)
            unknown_peer.shutdown(socket.SHUT_WR)
    rendezvous.connect_to_chief(address, "worker:1", {}, 10).close()
    chief.result().close()
    with (
        socket.create_server(("127.0.0.1", 0)) as used_port,
        pytest.raises(expfw.ConfigError, match=r"cannot listen on 127\.0\.0\.1"),
    ):
        rendezvous.wait_for_tasks(used_port.getsockname(), ["worker:1"], {}, 1)


@pytest.mark.slow
def test_a_silent_connection_does_not_delay_the_other_processes(address, threads):
    settings = {"x": "y" * 20_000}  # the greeting does not fit into one packet
    chief = threads.submit(rendezvous.wait_for_tasks, address, ["worker:1", "worker:2"], settings, 60)
    with connect_when_listening(address):
        others = [threads.submit(rendezvous.connect_to_chief, address, f"worker:{n}", settings, 60) for n in (1, 2)]
        for process in (chief, *others):
            process.result(20).close()


def test_a_chief_that_does_not_answer_is_reported(address):
    with pytest.raises(expfw.TrainingError, match=r"did not answer within 0\.3 s; start it with the same command"):
        rendezvous.connect_to_chief(address, "worker:1", {}, 0.3)


def test_a_sweep_of_several_processes_is_rejected(expfw_here):
    done = expfw_here("sweep", "dataset=line", "model=ols", "backend=multi-worker", "seed=1,2")
    assert done.code == 2
    assert "needs several processes, each started with" in done.err


def test_shared_settings_exclude_the_path_of_the_data():
    from expfw.config.compose import compose

    config = compose(["model=mlp_keras", "dataset=mnist", "dataset.path=x", "model.units=7"])
    settings = rendezvous.collect_shared_settings(config)
    assert settings["model.units"] == "7"
    assert settings["train.evaluate_every.epochs"] == "1"
    assert "dataset.path" not in settings
    assert cluster_spec.read_tf_config() is None
