"""`--json`: every command prints one object of strict JSON on stdout, and nothing more."""

from __future__ import annotations

import json
import signal
import subprocess

import click
import pytest
from support.commands import COMMANDS
from support.processes import make_expfw_command, wait_for

from expfw.tracking.recorded_run import read_run

TINY = ("model=ols", "dataset=line", "train.epochs=2", "tracker=[]")
LOUD = """
import expfw
class Loud(expfw.Callback):
    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        print("text of the plugin")
        run.log({"odd": float("nan")})
"""


def read(text):
    return json.loads(text, parse_constant=pytest.fail)


def test_every_command_with_a_result_has_json():
    without = {"expfw ui", "expfw completion"}
    for path, (command, _) in COMMANDS.items():
        if not isinstance(command, click.Group):
            assert any("--json" in option.opts for option in command.params) == (path not in without), path


def test_commands_for_a_run_print_json(expfw_here, workdir):
    (workdir / "loud.py").write_text(LOUD)
    done = expfw_here("-p", "loud.py", "run", *TINY, "+callback=loud", "--json")
    result = read(done.out)
    assert (done.code, result["status"], result["steps"]) == (0, "FINISHED", 2)
    assert result["metrics"]["odd"] is None
    assert "text of the plugin" in done.err
    assert f"next: expfw runs show {result['id']}" in done.err
    assert read_run(workdir / result["folder"]).id == result["id"]

    (listed,) = read(expfw_here("runs", "list", "--json").out)
    assert listed["metrics"]["odd"] is None
    done = expfw_here("runs", "resume", result["id"], "train.epochs=3", "--trust", "--json")
    assert (done.code, read(done.out)["id"], read(done.out)["steps"]) == (0, result["id"], 3)
    done = expfw_here("runs", "resume", result["id"], "--verify", "--trust", "--json")
    assert (done.code, read(done.out)["exact"]) == (0, True)
    done = expfw_here("runs", "rerun", result["id"], "--check", "--trust", "--json")
    again = read(done.out)
    assert (done.code, again["of"], again["check"]["exact"]) == (0, result["id"], True)
    assert again["id"] != result["id"]
    done = expfw_here("runs", "sync", "--json")
    assert (done.code, read(done.out)) == (0, {"delivered": 0, "undelivered": 0, "running": []})


def test_a_failed_run_prints_its_result(expfw_here):
    done = expfw_here("run", "model=mlp_layers", "model.optimizer.learning_rate=1e38", "tracker=[]", "--json")
    assert (done.code, read(done.out)["status"]) == (1, "FAILED")
    assert read(done.out)["error"].startswith("the loss is ")
    assert done.err.startswith("expfw: the loss is ")


@pytest.mark.parametrize("line", ["run model=ccn", "sweep model=ccn seed=1,2", "sweeps status zzz", "run --cfg job"])
def test_a_user_error_is_one_line_on_stderr(expfw_here, line):
    done = expfw_here(*line.split(), "--json")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


@pytest.mark.slow
def test_commands_for_a_sweep_print_json(expfw_here, workdir):
    (workdir / "fails.py").write_text(
        "import pathlib\nimport expfw\nclass Fails(expfw.Callback):\n    @expfw.hookimpl(wrapper=True)\n"
        "    def expfw_fit(self, run):\n        if run.config.seed == 2 and not pathlib.Path('fixed').exists():\n"
        "            raise RuntimeError('from the plugin')\n        return (yield)\n"
    )
    done = expfw_here("-p", "fails.py", "sweep", *TINY, "seed=1,2", "+callback=fails", "--json")
    result = read(done.out)
    assert (done.code, result["status"]) == (1, "FAILED")
    assert [trial["status"] for trial in result["trials"]] == ["FINISHED", "FAILED"]
    assert result["best"]["command"].startswith(f"expfw -p {workdir}/fails.py run ")
    done = expfw_here("sweeps", "report", result["id"], "--json")
    assert (done.code, read(done.out)["report"]) == (0, result["report"])
    (workdir / "fixed").touch()
    done = expfw_here("sweeps", "retry", result["id"], "--failed", "--trust", "--json")
    again = read(done.out)
    assert (done.code, again["id"], again["status"]) == (0, result["id"], "FINISHED")


@pytest.mark.slow
def test_an_interrupted_run_prints_its_result(workdir):
    command = make_expfw_command("run", "model=ols", "dataset=line", "train.epochs=100000000", "tracker=[]", "--json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: any('"metrics"' in path.read_text() for path in workdir.glob("runs/*/*/journal.jsonl")))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert read(out)["status"] == "KILLED"
    assert err.splitlines()[-1].startswith("expfw: interrupted; all results so far are recorded; to resume: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend",
    [
        ("backend=tf-cpu",),
        ("backend=tf-gpu", "backend.soft_placement=true"),
        ("backend=mirrored", "backend.cpus=2", "backend.soft_placement=true"),
    ],
)
def test_the_devices_of_operations_are_in_the_log_of_the_run_and_not_in_the_json(expfw_process, workdir, backend):
    done = expfw_process("run", "--json", *TINY, *backend, "backend.log_device_placement=true")
    folder = workdir / read(done.out)["folder"]
    assert "device:CPU:0" in (folder / "log.txt").read_text()
