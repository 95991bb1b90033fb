"""Clusters: who is in them, and how they meet."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

import expfw
from expfw_backends.cluster import cluster_spec, rendezvous
from expfw_backends.cluster.cluster_spec import Cluster
from expfw_backends.multi_worker import MultiWorker
from expfw_backends.parameter_server import ParameterServer

TWO = ("a:1", "b:2")


def multi_worker(**options):
    return MultiWorker(MultiWorker.Config(**options), "multi-worker")


def test_roles_from_a_list_of_hosts():
    assert [multi_worker(hosts=TWO, index=i).role() for i in (0, 1)] == ["run", "follow"]
    me = (f"{socket.gethostname()}:7", "elsewhere:7")
    assert multi_worker(hosts=me).role() == "run"
    assert multi_worker(hosts=me[::-1]).role() == "follow"
    with pytest.raises(expfw.ConfigError, match=r"which of a:1, b:2 is this process\? 0 of them .* backend\.index"):
        multi_worker(hosts=TWO).role()


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
    with pytest.raises(expfw.ConfigError, match="TF_CONFIG has ps; expected chief and worker only"):
        multi_worker().role()
    assert ParameterServer(ParameterServer.Config(), "parameter-server").role() == "serve"
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(expfw.ConfigError, match="TF_CONFIG cannot be read"):
        multi_worker().role()


def test_roles_from_slurm(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in {
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
        "SLURM_NTASKS": "4",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_NODELIST": "node[07-08]",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
        "SLURM_TASKS_PER_NODE": "2(x2)",
    }.items():
        monkeypatch.setenv(name, value)
    backend = multi_worker(port=900)
    assert backend.role() == "follow"
    assert list(backend.cluster.jobs["worker"]) == ["node07:900", "node07:901", "node08:900", "node08:901"]
    assert backend.cluster.task == "worker:3"
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert multi_worker().role() == "run"


def test_roles_of_parameter_servers():
    def role(task):
        options = ParameterServer.Config(chief="a:1", ps=("b:1",), workers=("c:1", "d:1"), task=task)
        return ParameterServer(options, "parameter-server").role()

    assert [role(task) for task in ("chief:0", "chief", "ps:0", "worker:1")[::2]] == ["run", "serve"]
    assert role("worker:1") == "serve"
    with pytest.raises(expfw.ConfigError, match=r"this process is worker 2, but there are 1 chief, 1 ps, 2 worker"):
        role("worker:2")
    with pytest.raises(expfw.ConfigError, match="this process is boss -1"):
        role("boss")


def test_clusters_that_cannot_be():
    with pytest.raises(expfw.ConfigError, match="worker 'b' is no address; expected host:port"):
        Cluster({"worker": ["a:1", "b"]}, "worker", 0)
    with pytest.raises(expfw.ConfigError, match="an address stands twice"):
        Cluster({"worker": ["a:1", "a:1"]}, "worker", 0)
    with pytest.raises(expfw.ConfigError, match="does not know the workers; give backend"):
        multi_worker().role()
    with pytest.raises(expfw.ConfigError, match="does not know its processes; give backend"):
        ParameterServer(ParameterServer.Config(), "parameter-server").role()
    with pytest.raises(ValueError, match="expected two or more"):
        MultiWorker.Config(hosts=("a:1",))


@pytest.fixture
def address():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()


def in_background(function, *arguments):
    """Runs it in a thread; what it returned or raised is in the list afterwards."""
    got = []

    def call():
        try:
            got.append(function(*arguments))
        except Exception as error:
            got.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, got


def test_all_come_and_notice_when_one_goes(address):
    tasks = ["worker:1", "worker:2"]
    others = [in_background(rendezvous.connect_to_chief, address, task, {"seed": "1"}, 10) for task in tasks]
    chief = rendezvous.wait_for_tasks(address, tasks, {"seed": "1"}, 10)
    for thread, _ in others:
        thread.join()
    first, second = (got[0] for _, got in others)
    assert chief.find_lost_tasks(0.1) == []
    first.close()
    assert chief.find_lost_tasks(5) == ["worker:1"]
    chief.close()
    assert second.find_lost_tasks(5) == ["the chief"]
    second.close()


def test_who_does_not_come_is_named_to_everybody(address):
    thread, got = in_background(rendezvous.connect_to_chief, address, "worker:1", {}, 10)
    with pytest.raises(expfw.TrainingError, match=r"^worker:2 did not come within 0\.5 s; start the same command"):
        rendezvous.wait_for_tasks(address, ["worker:1", "worker:2"], {}, 0.5)
    thread.join()
    assert "the chief says: worker:2 did not come" in str(got[0])


def test_another_configuration_is_refused_by_name(address):
    thread, got = in_background(rendezvous.connect_to_chief, address, "worker:1", {"train.batch_size": "32"}, 10)
    with pytest.raises(expfw.ConfigError, match=r"worker:1 has another train\.batch_size \(32\) than the chief \(64\)"):
        rendezvous.wait_for_tasks(address, ["worker:1"], {"train.batch_size": "64"}, 10)
    thread.join()
    assert "another train.batch_size" in str(got[0])


def test_strangers_are_passed_over_and_a_taken_port_is_said(address):
    thread, got = in_background(rendezvous.wait_for_tasks, address, ["worker:1"], {}, 10)
    for said in (b"GET / HTTP/1.0\n", b"[1]\n", b""):
        with connected(address) as stranger:
            stranger.sendall(said)
            stranger.shutdown(socket.SHUT_WR)
    rendezvous.connect_to_chief(address, "worker:1", {}, 10).close()
    thread.join()
    assert isinstance(got[0], rendezvous.Connections)
    got[0].close()
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(expfw.ConfigError, match=r"cannot listen on 127\.0\.0\.1"),
    ):
        rendezvous.wait_for_tasks(taken.getsockname(), ["worker:1"], {}, 1)


@pytest.mark.slow
def test_a_connection_that_says_nothing_does_not_hold_the_others_up(address):
    thread, got = in_background(rendezvous.wait_for_tasks, address, ["worker:1", "worker:2"], {}, 60)
    with connected(address):
        others = [
            in_background(rendezvous.connect_to_chief, address, f"worker:{n}", {"x": "y" * 20_000}, 60) for n in (1, 2)
        ]
        thread.join(20)
        assert isinstance(got[0], rendezvous.Connections)
        for other, came in others:
            other.join(20)
            came[0].close()
    got[0].close()


def connected(address):
    """A connection, once somebody listens."""
    for _ in range(100):
        try:
            return socket.create_connection(address)
        except OSError:
            time.sleep(0.02)
    raise AssertionError("nobody listens")


def test_a_chief_that_does_not_answer(address):
    with pytest.raises(expfw.TrainingError, match=r"did not answer within 0\.3 s; start it with the same command"):
        rendezvous.connect_to_chief(address, "worker:1", {}, 0.3)


def test_a_sweep_of_several_processes_is_refused(expfw_here):
    done = expfw_here("sweep", "dataset=line", "model=ols", "backend=multi-worker", "seed=1,2")
    assert done.code == 2
    assert "makes one run of several processes" in done.err


def test_what_must_be_the_same_leaves_out_where_the_data_lie():
    from expfw.config.compose import compose

    config = compose(["model=mlp_keras", "dataset=mnist", "dataset.path=x", "model.units=7"])
    facts = rendezvous.collect_shared_settings(config)
    assert facts["model.units"] == "7"
    assert facts["train.evaluate_every.epochs"] == "1"
    assert "dataset.path" not in facts
    assert cluster_spec.read_tf_config() is None
