"""`environment.json`: what it records, and that a damaged one is ignored."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import os
import time

import pytest
from support.run_folders import write_run

import expfw
from expfw.cli.main import run_command
from expfw.plugins.catalogue import get_catalogue
from expfw.system import hardware
from expfw.tracking import environment, run_index
from expfw.tracking.environment import find_relevant_packages, list_packages, read_environment
from expfw.tracking.run_record import describe_environment

ENTRIES = [get_catalogue().get(*key) for key in (("model", "cnn"), ("backend", "tf-cpu"), ("tracker", "mlflow"))]


def test_every_installed_distribution_is_listed_in_one_pass():
    packages = list_packages()
    for name in ("tensorflow", "keras", "numpy", "pytest", "hydra-core", "expfw"):
        assert packages[name] == importlib.metadata.version(name)
    installed = {environment._normalize(d.metadata["Name"]) for d in importlib.metadata.distributions()}
    assert set(packages) == installed
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        list_packages()
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.03


def test_the_machine_is_described():
    described = describe_environment(ENTRIES)
    assert described.cpu.model
    assert described.memory_gib > 0.1
    assert described.relevant_packages == ["keras", "numpy", "tensorflow"]
    assert isinstance(described.gpus, list)


def test_gpus_are_named_by_the_driver(tmp_path):
    for number in range(2):
        folder = tmp_path / "gpus" / f"0000:0{number}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text("Model: \t\t NVIDIA H200\nIRQ:   \t\t 12\n")
    assert hardware.list_gpu_names(tmp_path) == ["NVIDIA H200", "NVIDIA H200"]


@pytest.mark.parametrize("output", ["Tesla T4\nTesla T4\n", None])
def test_gpus_are_named_by_nvidia_smi_if_there_is_no_driver_folder(tmp_path, monkeypatch, output):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexit 9\n" if output is None else f"#!/bin/sh\nprintf '{output}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert hardware.list_gpu_names(tmp_path) == (output or "").split("\n")[:-1]


def test_packages_that_a_plugin_requires_are_relevant(planted):
    metadata = "Metadata-Version: 2.1\nName: expfw-other\nVersion: 1.0\n"
    metadata += "Requires-Dist: expfw<1\nRequires-Dist: scikit_learn>=1\nRequires-Dist: absent\n"
    metadata += "Requires-Dist: rich; extra == 'x'\n"
    code = "import expfw\nclass Other(expfw.Model):\n    pass\n"
    planted.install_distribution("expfw-other", code, {"model/other": "Other"}, metadata=metadata)
    entries = [get_catalogue().get("model", "other"), *ENTRIES]
    assert find_relevant_packages(entries, list_packages()) == ["keras", "numpy", "scikit-learn", "tensorflow"]


def test_cuda_libraries_are_relevant_for_a_backend_on_gpus():
    packages = {"tensorflow", "nvidia-cudnn-cu12", "nvidia-nccl-cu12", "nvidia-ml-py", "rich"}
    on_gpu = [get_catalogue().get("backend", "tf-gpu")]
    assert find_relevant_packages(on_gpu, packages) == ["nvidia-cudnn-cu12", "nvidia-nccl-cu12", "tensorflow"]
    assert find_relevant_packages(ENTRIES, packages) == ["tensorflow"]


def test_an_environment_is_read_as_it_was_written(tmp_path):
    written, path = describe_environment(ENTRIES), tmp_path / "environment.json"
    path.write_text(json.dumps(dataclasses.asdict(written)))
    assert read_environment(path) == written
    assert read_environment(tmp_path / "absent.json") is None


GOOD = json.dumps({"packages": {"keras": "3"}, "cpu": {"cores": 2, "features": ["avx"]}, "git": {"commit": "c0ffee"}})
BAD = {
    "empty": "",
    "truncated": GOOD[:40],
    "list": "[]",
    "null": "null",
    "number": "3",
    "packages": '{"packages": ["keras"]}',
    "package version": '{"packages": {"keras": null}}',
    "plugins": '{"plugins": "cnn"}',
    "cpu": '{"cpu": 3}',
    "cores": '{"cpu": {"cores": "many"}}',
    "no cores": '{"cpu": {"cores": 0}}',
    "features": '{"cpu": {"features": {"avx": true}}}',
    "git": '{"git": []}',
    "no commit": '{"git": {"dirty": true}}',
    "gpus": '{"gpus": [["H200"]]}',
    "memory": '{"memory_gib": {}}',
    "deep": '{"packages": ' + "[" * 100_000,
    "long number": '{"cpu": {"cores": ' + "9" * 5000 + "}}",
    "binary": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in BAD.items()])
def test_a_damaged_environment_is_ignored_with_one_warning(workdir, caplog, capsys, content):
    folder = write_run(workdir / "runs", "aaaa2222")
    write_run(workdir / "runs", "bbbb2222")
    path = folder / "environment.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    caplog.set_level(logging.WARNING)
    assert read_environment(path) is None
    (record,) = caplog.records
    assert record.getMessage().startswith(f"ignoring {path}: the environment of the run is not readable: ")
    assert len(record.getMessage()) < 200 + len(str(path))
    for arguments in (("show", "aaaa"), ("list",), ("compare", "aaaa", "bbbb"), ("compare", "aaaa", "bbbb", "--html")):
        assert run_command(["runs", *arguments]) == 0
    assert "Traceback" not in capsys.readouterr().err
    assert expfw.load(folder).cores >= 1


def test_a_run_with_a_damaged_environment_is_not_resumed_unless_accepted(expfw_here, workdir, caplog):
    done = expfw_here("run", "dataset=line", "model=ols", "tracker=[]", "train.epochs=1")
    assert done.code == 0, done.err
    (run,) = run_index.list_runs(workdir / "runs")
    (run.folder / "environment.json").write_text('{"cpu": []}')
    done = expfw_here("runs", "resume", run.id, "train.epochs=2")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "the environment of the run is not readable: cpu is []" in caplog.text
    assert "the environment of the run is unknown" in done.err
    assert expfw_here("runs", "resume", run.id, "train.epochs=2", "--accept-differences").code == 0
