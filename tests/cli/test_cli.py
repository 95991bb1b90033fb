"""The command line: exit codes, output of a run, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import mlflow
import pytest
from support.processes import run_expfw, start_expfw, wait_for

from expfw.cli import main
from expfw.tracking import journal, run_index
from expfw.tracking.recorded_run import read_run


def test_a_run_prints_its_result_and_the_next_command(expfw_here, workdir):
    done = expfw_here("run", "dataset=digits", "train.epochs=2", "tracker=[]")
    (run,) = run_index.list_runs(workdir / "runs")
    assert done.out.startswith("FINISHED  mlp_keras digits  42 steps in ")
    for text in (str(run.folder.relative_to(workdir)), "test/accuracy", f"next: expfw runs show {run.id}"):
        assert text in done.out
    assert "epoch 2/2  step 42/42" in done.err


def test_quiet_prints_nothing(expfw_here):
    done = expfw_here("run", "model=ols", "dataset=line", "tracker=[]", "quiet=true")
    assert (done.code, done.out, done.err) == (0, "", "")


@pytest.mark.slow
def test_a_run_prints_no_native_output_and_imports_no_mlflow(expfw_process, workdir):
    (workdir / "loaded.py").write_text(
        "import sys\nimport expfw\nclass Loaded(expfw.Callback):\n    @expfw.hookimpl(trylast=True)\n"
        "    def expfw_run_ended(self, run):\n"
        '        run.message(f\'mlflow {"mlflow" in sys.modules}, tensorflow {"tensorflow" in sys.modules}\')\n'
    )
    options = ("model=ols", "dataset=line", "train.epochs=2", "train.deterministic=true", "+callback=loaded")
    done = expfw_process("-p", "loaded.py", "run", *options)
    assert done.code == 0
    assert len(done.err.splitlines()) <= 2, done.err  # only plain progress lines
    (entry,) = run_index.list_runs(workdir / "runs")
    assert "oneDNN" in (entry.folder / "log.txt").read_text() or "cuda" in (entry.folder / "log.txt").read_text()
    messages = [r["text"] for r in journal.read_records(entry.folder / journal.NAME)[0] if r["kind"] == "message"]
    assert "mlflow False, tensorflow True" in messages
    runs = read_mlflow_runs(workdir)
    assert [r.info.status for r in runs] == ["FINISHED"]


def test_the_run_folder_is_complete_without_a_tracker(expfw_here, workdir):
    expfw_here("run", "model=ols", "dataset=line", "tracker=[]", "+tags.paper=one", "name=mine")
    (entry,) = run_index.list_runs(workdir / "runs")
    names = {path.name for path in entry.folder.iterdir()}
    assert {"config.yaml", "overrides.yaml", "environment.json", "journal.jsonl", "log.txt", "model"} <= names
    assert entry.name == "mine"
    assert entry.first["tags"] == {"paper": "one"}
    environment = json.loads((entry.folder / "environment.json").read_text())
    assert {"python", "packages", "plugins", "cpu", "command", "git"} <= environment.keys()


def test_a_plugin_that_raises_shows_its_traceback_and_exits_1(expfw_here, workdir):
    (workdir / "bad.py").write_text(
        "import expfw\nclass Bad(expfw.Model):\n    def build(self, data):\n        raise RuntimeError('in build')\n"
    )
    done = expfw_here("-p", "bad.py", "run", "model=bad", "tracker=[]")
    assert done.code == 1
    assert "RuntimeError: in build" in done.err
    (entry,) = run_index.list_runs(workdir / "runs")
    assert f"expfw: run {entry.id} FAILED" in done.err
    assert (entry.status, entry.last["error"]) == ("FAILED", "RuntimeError: in build")


@pytest.mark.parametrize("arguments", [[], ["plugins"]])
def test_a_group_without_a_command_prints_its_help(expfw_here, arguments):
    done = expfw_here(*arguments)
    assert done.code == 2
    assert "\n\nCommands:\n  " in done.err


@pytest.mark.parametrize("override", ["sweep.on_failure=retri(2)", "sweep.space=5", "train.epochs=0,1", "name=[1,2"])
def test_an_invalid_sweep_writes_nothing(expfw_here, workdir, override):
    done = expfw_here("sweep", "dataset=line", "model=ols", "seed=1,2", override)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert list(workdir.iterdir()) == []


@pytest.mark.parametrize("tracker", ["tracker=[]", "tracker=[mlflow]"])
def test_an_unwritable_runs_folder_is_a_one_line_error(expfw_here, workdir, tracker):
    (workdir / "file").write_text("not a folder")
    done = expfw_here("run", "model=ols", "dataset=line", "runs_dir=file/runs", tracker)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "runs_dir=FOLDER" in done.err
    assert [path.name for path in workdir.iterdir()] == ["file"]


DEFECTS = """
import expfw
from expfw_models.mlp_keras import MlpKeras

class Exits(MlpKeras):
    def build(self, data):
        raise SystemExit(0)

class Nothing(MlpKeras):
    def build(self, data):
        pass

class Boom(expfw.Callback):
    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        raise SystemExit("two\\nlines")

class Biulds(expfw.Model):
    def biuld(self, data):
        pass

class Unseeded(expfw.Dataset):
    def load(self):
        pass

class Late(expfw.Callback):
    @expfw.hookimpl
    def expfw_run_ended(self, run):
        raise RuntimeError("late")
"""


@pytest.mark.parametrize(
    ("override", "code", "expected"),
    [
        ("model=exits", 1, "a plugin raised SystemExit: 0; run "),
        ("model=nothing", 2, "model plugin 'nothing': build returned None; expected a model"),
        ("model=biulds", 2, "which every model plugin needs; define it instead of 'biuld': def build("),
        ("dataset=unseeded", 2, "; use the arguments of the contract: def load(self, "),
        ("+callback=boom", 0, "callback plugin 'boom' failed in expfw_epoch_ended (SystemExit: two lines); this hook"),
        ("+callback=late", 0, "callback plugin 'late' failed in expfw_run_ended (RuntimeError: late); this hook of"),
    ],
)
def test_a_plugin_error_is_one_line_with_an_exit_code_of_expfw(expfw_here, workdir, override, code, expected):
    (workdir / "defects.py").write_text(DEFECTS)
    done = expfw_here("-p", "defects.py", "run", *override.split(), "train.epochs=2", "tracker=[]", "quiet=true")
    assert done.code == code, done.err
    assert expected in done.err
    assert done.err.count("\n") == 1
    if override.startswith("+callback") and code == 0:
        (log,) = workdir.glob("runs/*/*/log.txt")
        assert log.read_text().count("Traceback") == 1


@pytest.mark.slow
def test_the_optimizer_can_be_changed_by_name_only(expfw_here):
    for name in ("adam", "adamw", "rmsprop"):
        done = expfw_here("run", f"model.optimizer.name={name}", "train.steps=3", "tracker=[]", "quiet=true")
        assert done.code == 0, done.err


@pytest.mark.slow
def test_modules_in_the_working_directory_shadow_no_package(expfw_here, workdir):
    for name in ("mlflow", "keras", "rich", "filelock"):
        (workdir / f"{name}.py").write_text("raise RuntimeError('the wrong module')")
    entry = [sys.executable, "-P", "-m", "expfw", "sweep", "model=ols", "dataset=line", "seed=1,2", "train.epochs=2"]
    done = subprocess.run(entry, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "not all could be delivered" not in done.stderr


@pytest.mark.slow
def test_invalid_metric_names_are_converted_for_mlflow(expfw_process, workdir):
    (workdir / "odd.py").write_text(
        "import expfw\nclass Odd(expfw.Callback):\n    @expfw.hookimpl\n    def expfw_epoch_ended(self, run):\n"
        "        run.log({'top 3 (%)': 0.5, 'm' * 400: 1.0, '': 2.0, '../a': 3.0})\n"
        "        run.log({'a%': 1.0}); run.log({'a&': 2.0}); run.log({'b': 1.0}); run.log({'b': 2.0})\n"
    )
    done = expfw_process("-p", "odd.py", "run", "+callback=odd", "model=ols", "dataset=line", "train.epochs=1")
    assert (done.code, "not all" in done.err) == (0, False)
    (run,) = read_mlflow_runs(workdir)
    assert run.info.status == "FINISHED"
    stored = {"top 3 ___": 0.5, "m" * 240: 1.0, "_": 2.0, "a": 3.0, "a_": 1.0, "a__2": 2.0, "b": 2.0}
    assert stored.items() <= run.data.metrics.items()
    assert run.outputs.model_outputs
    assert run.data.tags["mlflow.source.name"].startswith("expfw ")


ENDLESS = ("model=ols", "dataset=line", "train.epochs=100000000")


def wait_for_training_run(workdir):
    """Waits for a run that has logged metrics, and returns its folder."""
    return wait_for(
        lambda: [path.parent for path in workdir.glob("runs/**/journal.jsonl") if '"metrics"' in path.read_text()]
    )[0]


def read_mlflow_runs(workdir):
    return mlflow.MlflowClient(f"sqlite:///{workdir}/runs/mlflow.db").search_runs(["1"])


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_kills_a_run_and_delivers_its_records(workdir, number):
    with start_expfw(workdir, "run", *ENDLESS) as process:
        folder = wait_for_training_run(workdir)
        process.send_signal(number)
        output, _ = process.communicate(timeout=90)
    assert process.returncode == 130, output
    assert "interrupted; all results so far are recorded" in output
    assert read_run(folder).status == "KILLED"
    (run,) = read_mlflow_runs(workdir)
    assert (run.info.status, run.data.tags["expfw.status"]) == ("KILLED", "KILLED")


@pytest.mark.slow
def test_a_signal_kills_a_sweep_and_its_trials(workdir):
    with start_expfw(workdir, "sweep", *ENDLESS, "seed=1,2,3,4", "tracker=[]") as process:
        wait_for_training_run(workdir)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    (sweep,) = run_index.list_sweeps(workdir / "runs")
    assert {sweep.status, *(run.status for run in run_index.list_runs(workdir / "runs"))} == {"KILLED"}


def test_a_signal_is_an_interrupt_even_if_a_library_raises_another_error(capsys, monkeypatch):
    def command(*_arguments, **_options):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt as error:
            raise AttributeError("as OmegaConf does while it composes") from error

    monkeypatch.setattr(main.main, "main", command)
    assert main.run_command() == 130
    assert capsys.readouterr().err == "expfw: interrupted; all results so far are recorded\n"


@pytest.mark.slow
def test_trials_of_a_sweep_killed_with_sigkill_end_and_are_delivered(workdir):
    with start_expfw(workdir, "sweep", *ENDLESS, "seed=1,2,3,4") as process:
        folder = wait_for_training_run(workdir)
        process.kill()
    wait_for(lambda: read_run(folder).status == "KILLED", seconds=10)
    (sweep,) = run_index.list_sweeps(workdir / "runs")
    assert sweep.status == "INTERRUPTED"

    def statuses():
        shown = json.loads(run_expfw(workdir, "sweeps", "status", sweep.id, "--json").stdout)
        return {trial["status"] for trial in shown["trials"]}

    wait_for(lambda: "RUNNING" not in statuses(), seconds=10)
    wait_for(lambda: not list((workdir / "runs" / ".delivery").iterdir()))
    runs = read_mlflow_runs(workdir)
    assert "KILLED" in {run.info.status for run in runs if "mlflow.parentRunId" in run.data.tags}


@pytest.mark.slow
def test_a_run_killed_with_sigkill_is_interrupted_here_and_in_mlflow(workdir):
    with start_expfw(workdir, "run", *ENDLESS) as process:
        folder = wait_for_training_run(workdir)
        assert read_run(folder).status == "RUNNING"
        process.kill()
    assert read_run(folder).status == "INTERRUPTED"
    assert journal.read_records(folder / journal.NAME)[0]
    wait_for(lambda: not list((workdir / "runs" / ".delivery").iterdir()))
    (run,) = read_mlflow_runs(workdir)
    assert (run.info.status, run.data.tags["expfw.status"]) == ("KILLED", "INTERRUPTED")


@pytest.mark.slow
def test_a_tracking_server_that_is_down_does_not_affect_the_run(workdir):
    """The run finishes in time; a warning names the missing delivery, and the records stay in the journal."""
    began, server = time.monotonic(), "http://127.0.0.1:9"
    done = run_expfw(workdir, "run", "model=ols", "dataset=line", "train.epochs=5", MLFLOW_TRACKING_URI=server)
    assert (done.returncode, time.monotonic() - began < 60) == (0, True)
    assert "FINISHED" in done.stdout
    assert f"one journal could not be delivered to mlflow ({server} does not respond)" in done.stderr
    (note,) = [path for path in workdir.glob("runs/.delivery/*/*") if not path.name.startswith(".")]
    assert read_run(type(workdir)(note.read_text())).status == "FINISHED"
    assert not (workdir / "runs" / "mlflow.db").exists()
