"""`expfw doctor`: what it finds, what it says to do, and that nothing it looks at can stop it."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from support import run_folders
from support.run_folders import run_expfw_in_process

from expfw.cli.doctor import installed, machine, runs_folder
from expfw.cli.doctor.finding import NOTE, OK, PROBLEM, Finding
from expfw.plugins.catalogue import get_catalogue
from expfw.tracking.workspace import Workspace
from expfw_backends.devices import health_check as tensorflow_fitness
from expfw_mlflow.store import health_check as mlflow_fitness

MOUNTS = """\
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:25 / {place} rw shared:2 - {kind} server:/export rw
"""


def by_name(findings):
    return {one.about: one for one in findings}


def test_marks_say_whether_it_is_fit_and_whether_there_is_something_to_know():
    assert [Finding("a", "b").mark, Finding("a", "b", True, "c").mark, Finding("a", "b", False, "c").mark] == [
        OK,
        NOTE,
        PROBLEM,
    ]


def group(root: Path, **files: str) -> Path:
    """A system whose processes are in a control group with these limits."""
    folder = root / "sys/fs/cgroup/mine"
    folder.mkdir(parents=True)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/mine\n")
    (root / "dev/shm").mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return root


def test_the_limits_of_a_container_count(tmp_path):
    small = group(tmp_path / "small", cpu_max="50000 100000", memory_max=f"{2**30}", memory_current=f"{2**29}")
    found = by_name(machine.check_machine(small))
    assert found["memory"].mark == PROBLEM
    assert "0.5 of 1.0 GiB of this container free" in found["memory"].what
    assert found["cores"].mark == NOTE
    assert "the container may use 0.5 of them" in found["cores"].what
    assert "backend.threads=1" in found["cores"].remedy
    assert found["/dev/shm"].mark == OK
    large = group(tmp_path / "large", cpu_max="max 100000", memory_max="max")
    assert by_name(machine.check_machine(large))["cores"].mark == OK


@pytest.mark.parametrize(("kind", "mark"), [("nfs4", NOTE), ("lustre", NOTE), ("xfs", OK)])
def test_on_the_network_sqlite_is_warned_of(tmp_path, kind, mark):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(place=tmp_path, kind=kind))
    first = next(runs_folder.check_runs_folder(Workspace(tmp_path / "runs"), mounts))
    assert first.mark == mark
    assert kind in first.what
    assert "made by the first run" in first.what
    assert ("MLFLOW_TRACKING_URI" in first.remedy) == (mark == NOTE)
    assert runs_folder.read_file_system_type(Path("/usr"), mounts) == "ext4"


def test_what_is_left_to_do_is_told(workdir):
    runs = workdir / "runs"
    run_folders.write_run(runs, "aaaa2222", tracker=run_folders.MLFLOW_CONFIG)
    run_folders.write_run(runs, "bbbb2222")
    (runs / "2026-01-01" / ".deleted-00-00-00-cccc2222").mkdir()
    found = by_name(runs_folder.check_runs_folder(Workspace(runs)))
    assert found["writing"].mark == OK
    assert found["delivery"].what == "1 of the runs and sweeps has not arrived at the trackers"
    assert found["delivery"].remedy == "expfw runs sync"
    assert found["deletion"].remedy == "expfw runs clean --yes"


def test_a_place_that_is_no_folder_is_a_problem(tmp_path):
    (tmp_path / "runs").write_text("a file")
    found = by_name(runs_folder.check_runs_folder(Workspace(tmp_path / "runs")))
    assert found["writing"].mark == PROBLEM
    assert "--runs-dir FOLDER" in found["writing"].remedy


def test_processors_are_judged_by_their_instructions(tmp_path):
    info = tmp_path / "cpuinfo"
    for flags, fit, said in [
        ("sse avx avx2 avx512f", True, "AVX2, AVX-512"),
        ("sse avx", True, "no AVX2"),
        ("sse", False, "no AVX"),
    ]:
        info.write_text(f"processor: 0\nflags\t\t: {flags}\n")
        what, is_fit, _ = tensorflow_fitness.check_cpu(info)
        assert is_fit == fit
        assert said in what


def test_why_there_is_no_gpu(monkeypatch):
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


def test_stores_of_mlflow(tmp_path, monkeypatch):
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")  # it sets them for its process, which is ours here
    absent = f"sqlite:///{tmp_path}/absent.db"
    version, store, port = mlflow_fitness.check_mlflow(absent)
    assert version[0].startswith("MLflow 3.")
    assert store == (f"its store {tmp_path}/absent.db is made by the first run", True, "")
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
    what, fit, remedy = mlflow_fitness.check_mlflow(f"sqlite:///{old}")[1]
    assert not fit
    assert "out-of-date database schema" in what
    assert remedy == f"make a copy of it, then: mlflow db upgrade sqlite:///{old}"


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
def test_the_whole_with_a_plugin_that_crashes_and_a_server_that_hangs(workdir, monkeypatch, capsys):
    """In one go, for TensorFlow is imported for it."""
    (workdir / "crash.py").write_text(CRASHING)
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # takes calls and says nothing
        where = f"127.0.0.1:{hanging.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@{where}")
        began = time.monotonic()
        words = ["-p", "crash.py", "doctor", "backend=tf-gpu", "+callback=crash", "--json"]
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert run_expfw_in_process(*words) == 1
    assert time.monotonic() - began < 90
    out = capsys.readouterr().out
    assert "secret" not in out
    said = json.loads(out)
    whats = {one["what"]: one for one in said}
    assert [one["mark"] for one in said if one["about"] == "Python"] == [OK]
    assert said[0]["about"] == "Python"  # what is quickly known comes first
    crashed = whats[
        "the examination of callback plugin 'crash' of file crash.py ended with signal 6 (SIGABRT)".replace(
            "crash.py", str(workdir / "crash.py")
        )
    ]
    assert crashed["mark"] == PROBLEM
    away = whats[f"its store http://{where} cannot be used (http://{where} does not answer)"]
    assert (away["about"], away["mark"]) == ("mlflow", PROBLEM)
    assert any(what.startswith("TensorFlow 2.") and one["mark"] == OK for what, one in whats.items())
    assert whats["no GPU: CUDA_VISIBLE_DEVICES='' hides them"]["mark"] == PROBLEM  # a GPU was asked for


def test_a_configuration_that_does_not_compose_is_a_problem_and_the_rest_is_told(workdir, capsys):
    assert run_expfw_in_process("doctor", "backend=tf-gqu") == 1
    out = capsys.readouterr().out
    assert "Did you mean 'tf-gpu'?" in out
    assert "can be used" in out
    assert out.rstrip().endswith("1 problem")


@pytest.mark.slow
def test_an_examination_that_hangs_is_given_up(workdir, capsys):
    (workdir / "hang.py").write_text(CRASHING.replace("os.abort()", "__import__('time').sleep(100)"))
    catalogue = get_catalogue((str(workdir / "hang.py"),))
    config, _ = installed.check_configuration(["callback=[crash]", "tracker=[]", "backend=tf-cpu"], catalogue)
    plugins, _ = installed.check_plugins(config, catalogue)
    hanging = installed.ExaminedPlugins(config, [one for one in plugins.entries if one.name == "crash"])
    (found,) = installed.examine_plugins(hanging, catalogue, timeout_seconds=2)
    assert found.mark == PROBLEM
    assert "was not done within 2 s" in found.what
