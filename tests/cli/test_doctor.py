"""`expfw doctor`: results, remedies, and plugins that crash or hang."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from support import run_folders

from expfw.cli.doctor import command
from expfw.cli.doctor.machine import NOTE, OK, PROBLEM, check_machine, check_runs_folder
from expfw.plugins.catalogue import get_catalogue
from expfw.tracking.run_index import Workspace
from expfw_backends.devices import machine as tensorflow_fitness
from expfw_mlflow.store import health_check as mlflow_fitness


def by_name(findings):
    return {finding.subject: finding for finding in findings}


def group(root: Path, **files: str) -> Path:
    """Creates the files of a system whose processes are in a control group with these limits."""
    for folder in ("sys/fs/cgroup/mine", "proc/self", "dev/shm"):
        (root / folder).mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/mine\n")
    for name, text in files.items():
        (root / "sys/fs/cgroup/mine" / name.replace("_", ".")).write_text(text)
    return root


def test_limits_of_a_container_are_checked(tmp_path):
    small = group(tmp_path / "small", cpu_max="50000 100000", memory_max=f"{2**30}", memory_current=f"{2**29}")
    findings = by_name(check_machine(small))
    assert findings["memory"].mark == PROBLEM
    assert "0.5 of 1.0 GiB free in this container" in findings["memory"].text
    assert findings["cores"].mark == NOTE
    assert "the container is limited to 0.5" in findings["cores"].text
    assert "backend.threads=1" in findings["cores"].advice
    assert findings["/dev/shm"].mark == OK
    large = group(tmp_path / "large", cpu_max="max 100000", memory_max="max")
    assert by_name(check_machine(large))["cores"].mark == OK


@pytest.mark.parametrize(("kind", "mark"), [("nfs4", NOTE), ("lustre", NOTE), ("xfs", OK)])
def test_sqlite_on_a_network_file_system_is_a_note(tmp_path, monkeypatch, kind, mark):
    mounts = [SimpleNamespace(mountpoint=path, fstype=name) for path, name in (("/", "ext4"), (str(tmp_path), kind))]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    first = next(check_runs_folder(Workspace(tmp_path / "runs")))
    assert first.mark == mark
    assert kind in first.text
    assert "the first run creates it" in first.text
    assert ("MLFLOW_TRACKING_URI" in first.advice) == (mark == NOTE)
    folder = next(check_runs_folder(Workspace(Path("/usr/runs"))))
    assert folder.text == "/usr/runs (the first run creates it), on a local disk (ext4)"


def test_unfinished_work_is_reported(workdir):
    runs = workdir / "runs"
    run_folders.write_run(runs, "aaaa2222", tracker=run_folders.MLFLOW_CONFIG)
    run_folders.write_run(runs, "bbbb2222")
    (runs / "2026-01-01" / ".deleted-00-00-00-cccc2222").mkdir()
    findings = by_name(check_runs_folder(Workspace(runs)))
    assert findings["writing"].mark == OK
    assert findings["delivery"].text == "runs and sweeps not delivered to the trackers: 1"
    assert findings["delivery"].advice == "expfw runs sync"
    assert findings["deletion"].advice == "expfw runs clean --yes"


def test_a_file_instead_of_the_runs_folder_is_a_problem(tmp_path):
    (tmp_path / "runs").write_text("a file")
    findings = by_name(check_runs_folder(Workspace(tmp_path / "runs")))
    assert findings["writing"].mark == PROBLEM
    assert "--runs-dir FOLDER" in findings["writing"].advice


@pytest.mark.parametrize(
    ("flags", "fit", "expected"),
    [("sse avx avx2 avx512f", True, "AVX2, AVX-512"), ("sse avx", True, "no AVX2"), ("sse", False, "no AVX")],
)
def test_cpus_are_checked_by_their_instruction_sets(tmp_path, flags, fit, expected):
    (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags\t\t: {flags}\n")
    result, is_fit, _ = tensorflow_fitness.check_cpu(tmp_path / "cpuinfo")
    assert (is_fit, expected in result) == (fit, True)


@pytest.mark.parametrize("is_required", [False, True])
def test_the_reason_for_a_missing_gpu_is_reported(monkeypatch, is_required):
    tensorflow = SimpleNamespace(config=SimpleNamespace(list_physical_devices=lambda kind: []))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    result, is_fit, _ = tensorflow_fitness.check_gpus(tensorflow, is_required)
    assert (result, is_fit) == ("no GPU: CUDA_VISIBLE_DEVICES='-1' hides them", not is_required)


def test_mlflow_stores_are_checked(tmp_path, monkeypatch):
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")  # otherwise the check would set them in this process
    absent = f"sqlite:///{tmp_path}/absent.db"
    version, store, port = mlflow_fitness.check_mlflow(absent)
    assert version[0].startswith("MLflow 3.")
    assert store == (f"the first run creates its store {tmp_path}/absent.db", True, "")
    assert not (tmp_path / "absent.db").exists()
    assert "5000" in port[0]

    from expfw_mlflow.store.database import make_tables

    good = f"sqlite:///{tmp_path}/mlflow.db"
    make_tables(good)
    assert mlflow_fitness.check_mlflow(good)[1][1:] == (True, "")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("update alembic_version set version_num = '451aebb31d03'")
        connection.commit()
    old = tmp_path / "old.db"
    (tmp_path / "mlflow.db").rename(old)
    result, fit, remedy = mlflow_fitness.check_mlflow(f"sqlite:///{old}")[1]
    assert not fit
    assert "out-of-date database schema" in result
    assert remedy == f"back it up, then: mlflow db upgrade sqlite:///{old}"


CRASHING = """\
import os
from dataclasses import dataclass

import expfw


class Crash(expfw.Callback):
    \"\"\"Ends its process.\"\"\"

    @expfw.hookimpl
    def expfw_doctor(self):
        os.abort()
"""


@pytest.mark.slow
def test_doctor_survives_a_crashing_plugin_and_a_hanging_server(call, workdir, monkeypatch):
    """One test for both, because it imports TensorFlow."""
    (workdir / "crash.py").write_text(CRASHING)
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # accepts connections and never answers
        address = f"127.0.0.1:{hanging.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@{address}")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        began = time.monotonic()
        code, out, _ = call("-p", "crash.py", "doctor", "backend=tf-gpu", "+callback=crash", "--json")
    assert (code, time.monotonic() - began < 90, "secret" in out) == (1, True, False)
    findings = json.loads(out)
    by_result = {finding["text"]: finding for finding in findings}
    assert (findings[0]["subject"], findings[0]["mark"]) == ("Python", OK)  # quick checks come first
    (crashed,) = [finding for finding in findings if finding["subject"] == "crash"]
    assert f"the check of callback plugin 'crash' of file {workdir}/crash.py failed: its process" in crashed["text"]
    assert "signal 6 (SIGABRT)" in crashed["text"]
    assert crashed["mark"] == PROBLEM
    unreachable = by_result[f"cannot use its store http://{address} (http://{address} does not respond)"]
    assert (unreachable["subject"], unreachable["mark"]) == ("mlflow", PROBLEM)
    assert any(result.startswith("TensorFlow 2.") and finding["mark"] == OK for result, finding in by_result.items())
    assert by_result["no GPU: CUDA_VISIBLE_DEVICES='' hides them"]["mark"] == PROBLEM  # the configuration needs a GPU


def test_an_invalid_configuration_is_a_problem_among_other_results(call):
    done = call("doctor", "backend=tf-gqu")
    assert done.code == 1
    assert all(text in done.out for text in ("Did you mean 'tf-gpu'?", "can be used"))
    assert done.out.rstrip().endswith("1 problem")


@pytest.mark.slow
def test_a_hanging_check_is_stopped(workdir, monkeypatch):
    (workdir / "hang.py").write_text(CRASHING.replace("os.abort()", "__import__('time').sleep(100)"))
    monkeypatch.setattr(command, "TIMEOUT_SECONDS", 2)
    overrides = ["callback=[crash]", "tracker=[]", "backend=tf-cpu"]
    findings = by_name(command.check_plugins(overrides, get_catalogue((str(workdir / "hang.py"),))))
    assert findings["crash"].mark == PROBLEM
    assert "did not end within" in findings["crash"].text
