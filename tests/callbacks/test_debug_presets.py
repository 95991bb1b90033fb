"""Debug presets, with any model and dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from expfw.config.compose import compose
from expfw.tracking import run_index
from expfw.tracking.ledger import Ledger

FILES = sorted((Path(__file__).parents[2] / "conf" / "debug").glob("*.yaml"))
NAMES = [file.stem for file in FILES]


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_a_preset_begins_with_its_command_and_purpose(file):
    first, command, purpose, *_ = file.read_text().splitlines()
    assert first == "# @package _global_"
    assert command == f"# expfw run debug={file.stem}"
    assert purpose.startswith("# ")
    config = compose([f"debug={file.stem}"])
    assert config.notice.startswith(f"debug={file.stem}: ")
    assert config.tags == {"debug": file.stem}
    assert config.tracker["mlflow"]["experiment"] == "expfw-debug"
    assert compose([f"debug={file.stem}", "tracker=[]", "train.epochs=7"]).train.epochs == 7


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("recipe", ["experiment=cnn_early_stopping", "experiment=linear_lab", "model=perceptron"])
def test_a_preset_works_with_any_recipe(name, recipe):
    path = ["dataset.path=."] if "cnn" in recipe else []
    config = compose([recipe, f"debug={name}", "+callback=tensorboard", *path])
    if name != "profile":
        assert (config.train.steps, config.train.evaluate_every.steps) == (None, None)
        assert config.train.limit_batches is not None


def test_help_lists_the_presets_and_a_typo_is_an_error(expfw_here):
    assert "debug       fast, limit, overfit, profile" in expfw_here("run", "--help").out
    done = expfw_here("run", "debug=overfti")
    assert (done.code, done.out) == (2, "")
    assert "unknown debug preset 'overfti'. Did you mean 'overfit'?" in done.err


def test_fast_runs_all_stages_with_one_batch(expfw_here, workdir):
    done = expfw_here("run", "debug=fast", "tracker=[]")
    assert done.code == 0, done.err
    first, *_ = done.err.splitlines()
    assert first == "debug=fast: one batch of training, validation and test data, one epoch; not a result"
    assert "FINISHED  mlp_keras digits  1 step in" in done.out
    (entry,) = run_index.list_runs(workdir / "runs")
    (dataset,) = entry.select("dataset")
    assert dataset["samples"] == {"train": 64, "validation": 64, "test": 64}
    assert {"train/loss", "val/loss", "test/loss"} <= entry.last["metrics"].keys()
    assert (entry.folder / "model").is_dir()
    assert list((entry.folder / "checkpoints").iterdir())
    assert list(entry.folder.rglob("*.png"))


@pytest.fixture
def run_preset(expfw_here):
    """Runs a preset without trackers and other callbacks; it must succeed."""

    def run(name, *overrides):
        done = expfw_here("run", f"debug={name}", "tracker=[]", "callback=[]", *overrides)
        assert done.code == 0, done.err
        return done

    return run


def test_limit_trains_a_few_short_epochs(run_preset):
    assert "FINISHED  mlp_keras digits  30 steps" in run_preset("limit").out


def test_overfit_stops_when_one_batch_is_learned(run_preset):
    done = run_preset("overfit", "model.optimizer.learning_rate=0.3")
    assert "ended before its last step: the loss has fallen from " in done.out
    assert "no objective" not in done.err


def test_overfit_fails_if_the_loss_does_not_fall(expfw_here, workdir):
    frozen = ("model.optimizer.learning_rate=0", "train.epochs=3")
    done = expfw_here("run", "debug=overfit", "tracker=[]", "callback=[]", *frozen)
    assert (done.code, done.out) == (1, "")
    error = done.err.splitlines()[-1]
    assert error.startswith("expfw: the loss fell from 2.6")
    assert "in 3 steps; expected 0.26" in error
    assert "train.epochs=12 (run " in error
    (entry,) = run_index.list_runs(workdir / "runs")
    assert entry.status == "FAILED"
    done = expfw_here("run", "dataset=digits", "train.steps=5", "tracker=[]", "callback=[overfit]")
    assert "no epoch was completed in 5 steps; expected 1 or more; increase train.epochs or train.steps" in done.err


def test_overfit_has_options_like_any_callback(expfw_here, run_preset):
    run_preset("overfit", "callback.overfit.fraction=0.99", "train.epochs=50")
    done = expfw_here("run", "debug=overfit", "callback.overfit.fraction=1")
    assert (done.code, done.out) == (2, "")
    assert "callback.overfit.fraction is 1.0; expected more than 0 and less than 1" in done.err


def test_profile_prints_the_time_of_each_stage_and_saves_a_trace(run_preset, workdir):
    lines = run_preset("profile", "train.epochs=2", "callback.profile.steps=8").out.splitlines()
    end = lines.index("")
    assert lines[0].startswith("time of mlp_keras digits: ")
    assert lines[0].endswith(" s")
    stages = {line[2:24].rstrip(): float(line[24:33]) for line in lines[1:end]}
    named = {"loading the data", "building the model", "first steps", "training", "evaluating", "testing"}
    assert named <= stages.keys()
    assert [*stages][-1] == "other work"
    assert any("steps/s" in line and "samples/s" in line for line in lines)
    assert sum(stages.values()) == pytest.approx(float(lines[0].split()[-2]), abs=0.06)
    operations = lines[end + 1 :]
    assert operations[0].startswith("operations of 8 steps, ")
    assert any("MatMul" in line for line in operations)
    assert all(len(line) < 80 for line in operations[:11])
    (entry,) = run_index.list_runs(workdir / "runs")
    assert (entry.folder / "profile" / "table.txt").read_text().splitlines() == lines[: end + 12]
    assert len(list(entry.folder.rglob("profile/**/*.xplane.pb"))) == 1


def test_profile_of_a_run_that_is_too_short_for_a_trace(run_preset):
    done = run_preset("profile", "model=ols", "dataset=line", "train.epochs=1")
    assert "time of ols line: " in done.out
    assert "operations" not in done.out


@pytest.mark.slow
def test_presets_work_in_a_sweep(expfw_process, workdir):
    done = expfw_process("sweep", "debug=fast", "model=mlp_keras,perceptron", "tracker=[]", "callback=[]")
    assert done.code == 0, done.err
    assert done.err.startswith("debug=fast: one batch")
    (entry,) = run_index.list_sweeps(workdir / "runs")
    assert [trial.status for trial in Ledger(entry.folder).read_trials()] == ["FINISHED", "FINISHED"]
