"""`expfw doctor`: results, remedies, and plugins that crash or hang."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from support import run_folders
from support.run_folders import run_expfw_in_process

from expfw.cli.doctor import installed, machine, runs_folder
from expfw.cli.doctor.finding import NOTE, OK, PROBLEM
from expfw.plugins.catalogue import get_catalogue
from expfw.tracking.workspace import Workspace
from expfw_backends.devices import health_check as tensorflow_fitness
from expfw_mlflow.store import health_check as mlflow_fitness


class Mount(NamedTuple):
    mountpoint: str
    fstype: str


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
    findings = by_name(machine.check_machine(small))
    assert findings["memory"].mark == PROBLEM
    assert "0.5 of 1.0 GiB free in this container" in findings["memory"].text
    assert findings["cores"].mark == NOTE
    assert "the container is limited to 0.5" in findings["cores"].text
    assert "backend.threads=1" in findings["cores"].advice
    assert findings["/dev/shm"].mark == OK
    large = group(tmp_path / "large", cpu_max="max 100000", memory_max="max")
    assert by_name(machine.check_machine(large))["cores"].mark == OK


@pytest.mark.parametrize(("kind", "mark"), [("nfs4", NOTE), ("lustre", NOTE), ("xfs", OK)])
def test_sqlite_on_a_network_file_system_is_a_note(tmp_path, monkeypatch, kind, mark):
    mounts = [Mount("/", "ext4"), Mount(str(tmp_path), kind)]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    first = next(runs_folder.check_runs_folder(Workspace(tmp_path / "runs")))
    assert first.mark == mark
    assert kind in first.text
    assert "the first run creates it" in first.text
    assert ("MLFLOW_TRACKING_URI" in first.advice) == (mark == NOTE)
    folder = next(runs_folder.check_runs_folder(Workspace(Path("/usr/runs"))))
    assert folder.text == "/usr/runs (the first run creates it), on a local disk (ext4)"


def test_unfinished_work_is_reported(workdir):
    runs = workdir / "runs"
    run_folders.write_run(runs, "aaaa2222", tracker=run_folders.MLFLOW_CONFIG)
    run_folders.write_run(runs, "bbbb2222")
    (runs / "2026-01-01" / ".deleted-00-00-00-cccc2222").mkdir()
    findings = by_name(runs_folder.check_runs_folder(Workspace(runs)))
    assert findings["writing"].mark == OK
    assert findings["delivery"].text == "runs and sweeps not delivered to the trackers: 1"
    assert findings["delivery"].advice == "expfw runs sync"
    assert findings["deletion"].advice == "expfw runs clean --yes"


def test_a_file_instead_of_the_runs_folder_is_a_problem(tmp_path):
    (tmp_path / "runs").write_text("a file")
    findings = by_name(runs_folder.check_runs_folder(Workspace(tmp_path / "runs")))
    assert findings["writing"].mark == PROBLEM
    assert "--runs-dir FOLDER" in findings["writing"].advice


def test_cpus_are_checked_by_their_instruction_sets(tmp_path):
    info = tmp_path / "cpuinfo"
    for flags, fit, expected in [
        ("sse avx avx2 avx512f", True, "AVX2, AVX-512"),
        ("sse avx", True, "no AVX2"),
        ("sse", False, "no AVX"),
    ]:
        info.write_text(f"processor: 0\nflags\t\t: {flags}\n")
        result, is_fit, _ = tensorflow_fitness.check_cpu(info)
        assert is_fit == fit
        assert expected in result


def test_the_reason_for_a_missing_gpu_is_reported(monkeypatch):
    class TensorFlow:
        class config:  # noqa: N801  # as TensorFlow calls it
            @staticmethod
            def list_physical_devices(kind):
                return []

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert tensorflow_fitness.check_gpus(TensorFlow, is_required=False)[:2] == (
        "no GPU: CUDA_VISIBLE_DEVICES='-1' hides them",
        True,
    )
    assert tensorflow_fitness.check_gpus(TensorFlow, is_required=True)[1] is False


def test_mlflow_stores_are_checked(tmp_path, monkeypatch):
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")  # otherwise the check would set them in this process
    absent = f"sqlite:///{tmp_path}/absent.db"
    version, store, port = mlflow_fitness.check_mlflow(absent)
    assert version[0].startswith("MLflow 3.")
    assert store == (f"the first run creates its store {tmp_path}/absent.db", True, "")
    assert not (tmp_path / "absent.db").exists()
    assert "5000" in port[0]

    from expfw_mlflow.store.schema_setup import make_tables

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
def test_doctor_survives_a_crashing_plugin_and_a_hanging_server(workdir, monkeypatch, capsys):
    """One test for both, because it imports TensorFlow."""
    (workdir / "crash.py").write_text(CRASHING)
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # accepts connections and never answers
        address = f"127.0.0.1:{hanging.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@{address}")
        began = time.monotonic()
        words = ["-p", "crash.py", "doctor", "backend=tf-gpu", "+callback=crash", "--json"]
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert run_expfw_in_process(*words) == 1
    assert time.monotonic() - began < 90
    out = capsys.readouterr().out
    assert "secret" not in out
    findings = json.loads(out)
    by_result = {finding["text"]: finding for finding in findings}
    assert [finding["mark"] for finding in findings if finding["subject"] == "Python"] == [OK]
    assert findings[0]["subject"] == "Python"  # quick checks come first
    (crashed,) = [finding for finding in findings if finding["subject"] == "crash"]
    assert f"the check of callback plugin 'crash' of file {workdir}/crash.py failed: its process" in crashed["text"]
    assert "signal 6 (SIGABRT)" in crashed["text"]
    assert crashed["mark"] == PROBLEM
    unreachable = by_result[f"cannot use its store http://{address} (http://{address} does not respond)"]
    assert (unreachable["subject"], unreachable["mark"]) == ("mlflow", PROBLEM)
    assert any(result.startswith("TensorFlow 2.") and finding["mark"] == OK for result, finding in by_result.items())
    assert by_result["no GPU: CUDA_VISIBLE_DEVICES='' hides them"]["mark"] == PROBLEM  # the configuration needs a GPU


def test_an_invalid_configuration_is_a_problem_among_other_results(workdir, capsys):
    assert run_expfw_in_process("doctor", "backend=tf-gqu") == 1
    out = capsys.readouterr().out
    assert "Did you mean 'tf-gpu'?" in out
    assert "can be used" in out
    assert out.rstrip().endswith("1 problem")


@pytest.mark.slow
def test_a_hanging_check_is_stopped(workdir, monkeypatch):
    (workdir / "hang.py").write_text(CRASHING.replace("os.abort()", "__import__('time').sleep(100)"))
    monkeypatch.setattr(installed, "TIMEOUT_SECONDS", 2)
    overrides = ["callback=[crash]", "tracker=[]", "backend=tf-cpu"]
    findings = by_name(installed.check_installed(overrides, get_catalogue((str(workdir / "hang.py"),))))
    assert findings["crash"].mark == PROBLEM
    assert "did not end within" in findings["crash"].text
