"""A run folder of a stranger runs no code and names no files outside of it, unless the user trusts it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from functools import partial

import mlflow
import numpy as np
import pytest
from support import run_folders
from support.interruptions import interrupt_run, resume_run

import expfw
from expfw.api.plugin_code import hash_file
from expfw.plugins import importing
from expfw.plugins.catalogue import get_cached_catalogue
from expfw.runs.exact_comparison import verify_resume
from expfw.runs.resume import prepare_resume
from expfw.tracking import journal, run_index
from expfw.tracking.ledger import Ledger
from expfw.tracking.shipper.delivery import Delivery
from expfw_mlflow.records import model_loader

CODE = """
import os
from pathlib import Path
import expfw
from expfw_models.ols import Ols

Path(os.environ["CANARY"]).touch()

class Mine(Ols):
    pass

class Collected(expfw.Tracker):
    def destination(self, runs_dir):
        return "here"
    def ship(self, folder, state, records):
        with open(folder.parents[1] / "collected", "a") as file:
            file.write("x" * len(records))
"""
RUN = ("run", "model=mine", "dataset=line", "train.epochs=1", "callback=[checkpoint]", "quiet=true")


@pytest.fixture
def canary(workdir, monkeypatch):
    """A file that the plugin file creates when it is imported."""
    monkeypatch.setenv("CANARY", str(workdir / "canary"))
    return workdir / "canary"


@pytest.fixture
def run(workdir, canary, expfw_here):
    """A run whose model is in a plugin file; the file is forgotten, so that another import creates the canary again."""
    (workdir / "mine.py").write_text(CODE)
    done = expfw_here("-p", "mine.py", *RUN, "tracker=[]")
    assert done.code == 0, done.err
    forget(workdir, canary)
    return run_index.list_runs(workdir / "runs")[0]


def forget(workdir, canary):
    canary.unlink(missing_ok=True)
    for file in workdir.rglob("mine.py"):
        importing.forget_file(str(file))
    get_cached_catalogue.cache_clear()


def read_commands(error):
    """Returns the commands of the error that runs the code."""
    first, second = re.search(r"; to run it: (.*) or: (.*)", error).groups()
    return [shlex.split(command)[1:] for command in (first, second)]


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs", "predict", "ID", "x.npy"],
        ["runs", "evaluate", "ID"],
        ["runs", "export", "ID", "--format", "savedmodel", "--force"],
        ["runs", "resume", "ID", "train.epochs=2"],
        ["runs", "rerun", "ID"],
    ],
    ids=lambda arguments: arguments[1],
)
def test_a_command_runs_recorded_code_only_if_the_user_says_so(run, canary, expfw_here, workdir, arguments):
    np.save("x.npy", np.zeros((2, 1), np.float32))
    done = expfw_here(*(run.id if word == "ID" else word for word in arguments))
    assert (done.code, done.err.count("\n"), canary.exists()) == (2, 1, False), done.err
    named, trusted = read_commands(done.err)
    assert named[:2] == ["-p", str(workdir / "mine.py")]
    shutil.copytree(run.folder, workdir / "copy")
    for command in (named, trusted):
        forget(workdir, canary)
        done = expfw_here(*command)
        assert (done.code, canary.exists()) == (0, True), done.err
        shutil.rmtree(run.folder)
        shutil.copytree(workdir / "copy", run.folder)


def test_a_changed_copy_is_not_imported_even_with_trust(run, canary, expfw_here):
    (copy,) = run.folder.glob("model/plugins/*/mine.py")
    copy.write_text(f"{CODE}\n# changed")
    np.save("x.npy", np.zeros((2, 1), np.float32))
    done = expfw_here("runs", "predict", run.id, "x.npy", "--trust")
    assert (done.code, canary.exists()) == (2, False)
    assert f"needs the plugin file {copy}, which has changed since it was recorded" in done.err


@pytest.mark.parametrize("path", ["../../../../mine.py", "/etc/hostname", "link.py", "a\0b"])
def test_a_model_cannot_name_files_outside_of_its_folder(run, canary, expfw_here, path):
    description = json.loads((run.folder / "model" / "model.json").read_text())
    description["files"] = {path: "0" * 16}
    (run.folder / "model" / "model.json").write_text(json.dumps(description))
    (run.folder / "model" / "link.py").symlink_to(run.folder.parents[2] / "mine.py")
    for options in ((), ("--trust",)):
        done = expfw_here("runs", "evaluate", run.id, *options)
        assert (done.code, done.err.count("\n"), canary.exists()) == (2, 1, False), done.err
        assert "cannot read a saved model" in done.err


def test_an_installed_plugin_needs_no_trust(train, canary, workdir):
    """Also if the run had a plugin file that its model does not need."""
    (workdir / "mine.py").write_text(CODE)
    result = train("model=ols", "dataset=line", "train.epochs=1", files=(str(workdir / "mine.py"),))
    forget(workdir, canary)
    assert expfw.load(result).model.predict(np.zeros((2, 1))).shape == (2, 1)
    assert not canary.exists()


def test_python_functions_need_files_or_trust(run, canary, workdir):
    raw, folder = np.zeros((2, 1), np.float32), run.folder / "model"

    def load_from_run(**options):
        return expfw.load(run.folder, **options).model

    for load in (load_from_run, partial(expfw.load_model, folder)):
        with pytest.raises(expfw.TrustError, match=r"files=\[FILE\].*trust=True"):
            load()
        assert not canary.exists()
        for options in ({"files": [workdir / "mine.py"]}, {"trust": True}):
            assert load(**options).predict(raw).shape == (2, 1)
            forget(workdir, canary)
    (workdir / "mine.py").write_text(f"{CODE}\n# changed")
    with pytest.raises(expfw.TrustError):
        expfw.load_model(folder, files=["mine.py"])


@pytest.mark.slow
def test_the_loader_of_mlflow_needs_a_variable(run, canary, workdir, monkeypatch):
    mlflow.pyfunc.save_model(
        str(workdir / "logged"),
        loader_module=model_loader.__name__,
        data_path=str(run.folder / "model"),
        pip_requirements=[],
    )
    with pytest.raises(expfw.TrustError):
        mlflow.pyfunc.load_model(str(workdir / "logged"))
    assert not canary.exists()
    monkeypatch.setenv(model_loader.TRUST_VARIABLE, "1")
    assert mlflow.pyfunc.load_model(str(workdir / "logged")).predict(np.zeros((2, 1), np.float32)).shape == (2, 1)


def test_sync_does_not_import_recorded_files_and_delivers_the_other_runs(canary, expfw_here, workdir):
    (workdir / "mine.py").write_text(CODE)
    (workdir / "well.py").write_text(CODE.replace("Mine", "Well").replace("Collected", "Other"))
    for run_id, name, file in (("aaaa2222", "collected", "mine.py"), ("bbbb2222", "other", "well.py")):
        folder = run_folders.write_run(workdir / "runs", run_id, tracker={name: {"plugin": name}})
        path = folder / journal.NAME
        files = {str(workdir / file): hash_file(str(workdir / file))}
        path.write_text(path.read_text().replace('"files": {}', f'"files": {json.dumps(files)}'))
    forget(workdir, canary)
    done = expfw_here("runs", "sync")
    assert (done.code, canary.exists()) == (1, False)
    assert "1 more run not delivered" in done.err
    done = expfw_here("-p", "well.py", "runs", "sync")
    assert (done.code, done.out) == (1, "1 journal delivered, 1 not delivered\n"), done.err
    assert "run aaaa2222 needs code that its record names (plugin collected)" in done.err
    done = expfw_here("-p", "well.py", "runs", "sync", "--trust")
    assert (done.code, done.out) == (0, "1 journal delivered; nothing left to deliver\n"), done.err


@pytest.mark.parametrize(
    "field",
    [
        '"hydra": ["hydra.launcher._target_=os.system"]',
        '"overrides": ["+hydra.launcher._target_=os.system"]',
        '"config_dir": "/elsewhere"',
    ],
)
def test_recorded_options_of_hydra_need_trust(workdir, call, field):
    folder = run_folders.write_sweep(workdir / "runs", "ssss2222", [0.5, None], ["FINISHED", "FAILED"], status="FAILED")
    path = folder / journal.NAME
    path.write_text(path.read_text().replace('"files": {}', f'"files": {{}}, "config_name": "config", {field}'))
    done = call("sweeps", "resume", "ssss2222")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.endswith("; to run it: expfw sweeps resume ssss2222 --trust\n")


@pytest.mark.parametrize("field", ['"config_name": "../outside"', '"overrides": ["model=../../outside"]'])
def test_a_recorded_sweep_names_no_configuration_file_outside_of_the_search_path(workdir, call, field):
    """Such a file could contain options of Hydra."""
    (workdir / "conf").mkdir()
    (workdir / "outside.yaml").write_text("# @package _global_\nhydra: {launcher: {_target_: elsewhere.Launcher}}")
    folder = run_folders.write_sweep(workdir / "runs", "ssss2222", [0.5, None], ["FINISHED", "FAILED"], status="FAILED")
    path = folder / journal.NAME
    path.write_text(path.read_text().replace('"files": {}', f'"files": {{}}, "config_name": "config", {field}'))
    done = call("sweeps", "resume", "ssss2222")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert re.search("unknown .*outside", done.err), done.err


def test_a_sweep_resumes_only_with_named_or_trusted_files(workdir, canary, expfw_here):
    (workdir / "mine.py").write_text(CODE)
    folder = run_folders.write_sweep(workdir / "runs", "ssss2222", [0.5, None], ["FINISHED", "FAILED"], status="FAILED")
    path = folder / journal.NAME
    files = json.dumps({str(workdir / "mine.py"): hash_file(str(workdir / "mine.py"))})
    path.write_text(path.read_text().replace('"files": {}', f'"files": {files}, "config_name": "config"'))
    for command in (["resume", "ssss2222"], ["retry", "ssss2222", "--failed"]):
        done = expfw_here("sweeps", *command)
        assert (done.code, canary.exists()) == (2, False)
        words = ["sweeps", *command]
        assert read_commands(done.err) == [["-p", str(workdir / "mine.py"), *words], [*words, "--trust"]]


class CollectingTracker:
    """Keeps the records that it receives."""

    def __init__(self):
        self.records = []

    def ship(self, folder, state, records):
        self.records += records


def test_paths_that_leave_the_run_folder_are_not_delivered(workdir):
    (workdir / "victim.txt").write_text("secret")
    folder = run_folders.write_run(workdir / "runs", "aaaa2222")
    (folder / "link").symlink_to(workdir / "victim.txt")
    (folder / "good").mkdir()
    (folder / "good" / "inner").symlink_to(folder / "environment.json")
    (folder / "bad").mkdir()
    (folder / "bad" / "inner").symlink_to(workdir / "victim.txt")
    os.mkfifo(folder / "pipe")
    bad = ["../../../victim.txt", str(workdir / "victim.txt"), "link", "bad", "pipe", ".", "a\0b", "\ud800/../.."]
    good = ["good", "environment.json", "model/../good", "deleted.txt"]
    tensor = {"requirements": [], "input": {}, "output": {}, "step": 1}
    with journal.Journal(folder / journal.NAME) as record:
        for path in bad + good:
            record.write("artifact", path=path)
            record.write("model", path=path, **tensor)
            record.write("best", path=path, trial=0, run_id="x")
        record.write("run_ended", status="FINISHED", metrics={})
    tracker = CollectingTracker()
    delivery = Delivery("collecting", tracker, folder)
    while delivery.deliver_portion():
        pass
    assert delivery.is_complete
    assert {record["path"] for record in tracker.records if "path" in record} == set(good)
    assert "victim.txt" in delivery.state["rejected"]


@pytest.mark.parametrize("name", ["../../elsewhere", "link"])
def test_a_ledger_names_no_folder_outside_of_its_sweep(workdir, name):
    sweep = run_folders.write_sweep(workdir / "runs", "ssss2222", [0.5, 0.4])
    run_folders.write_run(workdir / "runs", "aaaa2222", folder=workdir / "elsewhere")
    (sweep / "trials" / "link").symlink_to(workdir / "elsewhere")
    path = sweep / "ledger" / "000000.json"
    entry = json.loads(path.read_text())
    path.write_text(json.dumps({**entry, "folder": str(sweep / "trials" / name)}))
    first, second = Ledger(sweep).read_trials()
    assert (first.status, second.status) == (("FAILED", "FINISHED") if name == "link" else ("FINISHED", "FINISHED"))
    assert first.folder in (None, str(sweep / "trials" / "elsewhere"))


def test_a_copy_of_a_run_is_named_by_its_folder(workdir):
    folders = [run_folders.write_run(workdir / "runs", "aaaa2222", folder=workdir / "runs" / d / "x") for d in "ab"]
    with pytest.raises(expfw.NotFoundError, match=r"ambiguous.*; give its folder instead, such as .*/runs/[ab]/x"):
        run_index.find_run(workdir / "runs", "aaaa")
    assert run_index.find_run(workdir / "runs", str(folders[1])).folder == folders[1]


def test_a_resume_does_not_write_through_a_link(train, workdir):
    folder = interrupt_run(train, 30, "dataset=digits", "train.epochs=2", "callback.checkpoint.every.steps=10")
    (workdir / "victim.txt").write_text("unchanged")
    (folder / "log.txt").unlink()
    (folder / "log.txt").symlink_to(workdir / "victim.txt")
    for use in (prepare_resume, verify_resume):
        with pytest.raises(expfw.JournalError, match=r"log\.txt leads out of the folder.*; expected files and folders"):
            use(expfw.load(folder, trust=True))
    assert (workdir / "victim.txt").read_text() == "unchanged"
    (folder / "log.txt").unlink()
    assert resume_run(folder).status == "FINISHED"
