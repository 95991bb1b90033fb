"""Resume of runs: bit-identical with all plugins, or rejected with a reason."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil

import numpy as np
import pytest
import yaml
from support.equal_metrics import ENGINE_PLUGINS
from support.interruptions import Interrupt, interrupt_run, resume_run

import expfw
from expfw.api import checkpoints
from expfw.plugins import importing
from expfw.plugins.catalogue import get_cached_catalogue
from expfw.runs import exact_comparison
from expfw.runs.one_run import execute
from expfw.runs.resume import prepare_resume
from expfw.system import process_lock
from expfw.tracking import journal

DIGITS = ("dataset=digits", "model.optimizer.learning_rate=0.05", "train.epochs=4", "train.log_every=1", "seed=3")
MLP = ("model=mlp_keras", *DIGITS)
STOPPING = (
    *(*MLP, "callback=[checkpoint,early_stopping]", "train.epochs=50"),
    *("callback.early_stopping.min_delta=0.1", "callback.early_stopping.patience=2"),
)
ODD = ("dataset=odd", "train.epochs=4", "train.batch_size=33", "train.log_every=1")


def assert_bit_identical(first, second):
    assert exact_comparison.compare_runs(first, second).differences == ()
    newest = [next(checkpoints.read_usable_checkpoints(folder, report=pytest.fail)) for folder in (first, second)]
    assert list(exact_comparison.compare_arrays(*(n.model.arrays for n in newest))) == []
    assert newest[0].plugins == newest[1].plugins
    assert not [record for record in expfw.load(second).select("message") if "after resuming" in record["text"]]


PLATEAU = """
import expfw
class Plateau(expfw.Callback):
    @expfw.hookimpl
    def expfw_keras_callbacks(self):
        import keras
        slower = keras.callbacks.ReduceLROnPlateau("val_loss", 0.5, patience=1, min_delta=0.2)
        return [slower, keras.callbacks.EarlyStopping("val_loss", patience=3, min_delta=0.2, restore_best_weights=True)]
class Restless(expfw.Model):
    def build(self, data):
        import keras
        import tensorflow as tf
        class Module(tf.Module):
            def __init__(self):
                super().__init__()
                self.w = tf.Variable(tf.zeros((64, 10)))
                self.noise, self.more = tf.random.Generator.from_seed(1), keras.random.SeedGenerator(2)
                self.optimizer, self.second = keras.optimizers.SGD(0.01), keras.optimizers.Adam(0.01)
                for optimizer in (self.optimizer, self.second):
                    optimizer.build([self.w])
            def predict_step(self, x):
                return tf.reshape(x, (-1, 64)) @ self.w
            def test_step(self, batch):
                x, y = batch
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, self.predict_step(x))
                return {"loss": tf.reduce_mean(losses)}
            def train_step(self, batch):
                with tf.GradientTape() as tape:
                    values = self.test_step(batch)
                (gradient,) = tape.gradient(values["loss"], [self.w])
                noise = self.noise.normal((64, 10)) + keras.random.normal((64, 10), seed=self.more)
                self.optimizer.apply([gradient], [self.w])
                self.second.apply([gradient + 0.01 * noise], [self.w])
                return values
        return Module()
class Noisy(expfw.Callback):
    @expfw.hookimpl
    def expfw_steps_ended(self, run):
        import random
        import numpy as np
        run.call_hooks_at(run.step + 1)
        run.log({"noise": np.random.normal(), "more": random.random()})
"""
# tests/testing/test_contracts.py tests each single plugin: dropout, low-level models, two replicas.
COMBINATIONS = {
    "adam, batch norm, average": (
        (*MLP, "model.batch_norm=true", "model.optimizer.name=adam", "train.average=0.9"),
        ("averages/", "optimizer/003"),
    ),
    "best weights, schedule": (
        (*MLP, "train.test_on=best", "model.optimizer.schedule.name=cosine", "model.optimizer.schedule.steps=50"),
        ("best/",),
    ),
    "accumulated gradients": ((*MLP, "model.dropout=0.2", "train.accumulate=3"), ()),
    "streamed data": ((*MLP, "backend.resident_limit=0"), ()),
    "metrics that are not means": (("model=small", "model.normalize=true", *ODD), ()),
    "custom train step": (("model=own_step", *ODD), ()),
    "Keras callbacks, random numbers": ((*MLP, "+callback=[plateau,noisy]"), ("keras_callbacks/1/best_weights/",)),
    "custom generators and optimizers": (("model=restless", *DIGITS[:1], *DIGITS[2:]), ("random/", "optimizer/003")),
}
"""Options, and arrays that the checkpoint must contain."""
QUICK = ("best weights, schedule",)


@pytest.mark.parametrize(
    "combination", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in COMBINATIONS]
)
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_run(train, workdir, combination):
    (workdir / "more.py").write_text(PLATEAU)
    files = (ENGINE_PLUGINS, str(workdir / "more.py"))
    # The checkpoint is saved in the middle of the third epoch; all later steps are lost.
    options, saved_arrays = COMBINATIONS[combination]
    every, newest, step = (3, 9, 11) if "dataset=odd" in options else (13, 52, 60)
    options = (*options, f"callback.checkpoint.every.steps={every}", "callback.checkpoint.keep=1")
    whole = train(*options, files=files)
    folder = interrupt_run(train, step, *options, files=files)
    assert expfw.checkpoint_steps(folder)[-1] == newest
    arrays = expfw.read_checkpoint(folder / "checkpoints" / f"{newest:09d}").model.arrays
    for group in saved_arrays:
        assert [name for name in arrays if name.startswith(group)], group
    result = resume_run(folder)
    assert (result.status, result.steps) == ("FINISHED", whole.steps)
    assert_bit_identical(whole.folder, folder)


def test_early_stopping_makes_the_same_decision_after_a_resume(train):
    whole = train(*STOPPING)
    assert 3 <= whole.epochs < 50
    folder = interrupt_run(train, 21 * (whole.epochs - 1) + 5, *STOPPING)
    assert resume_run(folder).epochs == whole.epochs
    assert_bit_identical(whole.folder, folder)


def test_a_resume_continues_folder_and_journal_without_duplicates(train):
    folder = interrupt_run(train, 40, *MLP)
    before = (folder / journal.NAME).read_bytes()
    resume_run(folder)
    assert (folder / journal.NAME).read_bytes().startswith(before)
    kinds = [record["kind"] for record in expfw.load(folder).records]
    assert (kinds.count("run_started"), kinds.count("run_resumed"), kinds[-1]) == (1, 1, "run_ended")
    points = exact_comparison.group_points(expfw.load(folder).points)
    assert {len(values) for values in points.values()} == {1}
    assert sorted(step for name, step in points if name == "train/loss") == list(range(84))
    assert {"overrides.yaml", "overrides-2.yaml", "environment-2.json"} <= set(os.listdir(folder))


@pytest.mark.slow
def test_a_second_interruption_during_the_replay_writes_no_duplicates(train):
    """A checkpoint that is saved during the replay contains the records that are still expected."""
    options = (*MLP, "callback.checkpoint.every.steps=10", "callback.checkpoint.keep=9")
    whole = train(*options)
    folder = interrupt_run(train, 57, *options)
    for step in (50, 40, 30):
        expfw.remove_checkpoint(folder, step)
    expfw.remove_checkpoint(folder, 42)
    for step in (33, 47):
        with pytest.raises(KeyboardInterrupt):
            resume_run(folder, observers=[Interrupt(step)])
    assert resume_run(folder).warnings == ()
    assert_bit_identical(whole.folder, folder)
    points = exact_comparison.group_points(expfw.load(folder).points)
    assert {len(values) for values in points.values()} == {1}


def test_an_extended_run_stays_extended_after_an_interruption(train):
    stopped_early = train(*STOPPING)
    end = stopped_early.steps
    with pytest.raises(KeyboardInterrupt):
        resume_run(
            *(stopped_early.folder, "train.epochs=60", "callback.early_stopping.patience=30"),
            observers=[Interrupt(end + 5)],
        )
    result = resume_run(stopped_early.folder)
    assert result.steps > end
    assert result.warnings == ()


def test_only_other_options_of_its_callback_overrule_early_stopping(train):
    whole = train(*STOPPING)
    message = get_rejection(whole.folder, "train.epochs=60")
    assert re.search(r"was stopped at step \d+ \(val/loss has not .*patience=20", message)
    folder = interrupt_run(train, whole.steps, *STOPPING)
    assert resume_run(folder, "quiet=true").steps == whole.steps


@pytest.mark.parametrize("fact", ["replicas", "threads"])
def test_other_devices_are_rejected_before_training_and_the_run_is_unchanged(stopped, fact):
    """Facts about devices are compared late, after the model is built."""
    before = (stopped / journal.NAME).read_bytes()
    prepared = prepare_resume(expfw.load(stopped))
    resume_point = dataclasses.replace(prepared.request.resume_point, info={fact: 99})
    with pytest.raises(expfw.ConfigError, match=rf"{fact} is \d+, was 99 when the run started; the results would not"):
        execute(prepared.change_request(resume_point=resume_point))
    assert (stopped / journal.NAME).read_bytes() == before
    assert not (stopped / "failure").exists()
    assert resume_run(stopped).status == "FINISHED"


def test_a_run_without_its_current_configuration_file_is_resumed(stopped):
    path = stopped / "config.yaml"
    recorded = expfw.load(stopped)
    path.unlink()
    prepare_resume(recorded)
    with journal.Journal(stopped / journal.NAME) as record:  # of a process that died before it wrote the file
        values = {**recorded.setup["config"], "train": {**recorded.setup["config"]["train"], "epochs": 9}}
        fields = {key: value for key, value in recorded.setup.items() if key not in ("kind", "time")}
        params = {**recorded.params, "train.epochs": 9}
        record.write("run_resumed", **{**fields, "config": values, "params": params})
    path.write_text(yaml.safe_dump(recorded.setup["config"]))
    assert prepare_resume(expfw.load(stopped)).config.train.epochs == 9


def test_values_that_differ_from_the_record_are_reported(train):
    folder = interrupt_run(train, 40, *MLP)
    path = folder / journal.NAME
    lines = path.read_text().splitlines(keepends=True)
    number, record = next(
        (number, record)
        for number, record in enumerate(map(json.loads, lines))
        if record["kind"] == "series" and record["step"] <= 30 < record["step"] + len(record["values"]["train/loss"])
    )
    record["values"]["train/loss"][30 - record["step"]] = 7.0
    path.write_text("".join([*lines[:number], json.dumps(record) + "\n", *lines[number + 1 :]]))
    result = resume_run(folder)
    (warning,) = [w for w in result.warnings if "after resuming" in w]
    assert "train/loss at step 30 is" in warning
    assert "was 7.0" in warning


def test_an_extended_run_is_bit_identical_to_a_long_run(train):
    options = MLP
    longer = train(*options, "train.epochs=6")
    short = train(*options)
    result = resume_run(short.folder, "train.epochs=6")
    assert (result.status, result.steps, result.warnings) == ("FINISHED", 126, ())
    first, second = (exact_comparison.group_points(expfw.load(f).points) for f in (longer.folder, short.folder))
    assert {key: values for key, values in second.items() if key[0][:5] != "test/" or key in first} == first
    weights = [expfw.load_model(f / "model") for f in (longer.folder, short.folder)]
    for a, b in zip(*(w.model.get_weights() for w in weights), strict=True):
        assert a.tobytes() == b.tobytes()
    assert yaml.safe_load((short.folder / "config.yaml").read_text())["train"]["epochs"] == 6


@pytest.mark.slow
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_is_used(train):
    options = (*MLP, "callback.checkpoint.every.steps=10", "callback.checkpoint.keep=9")
    whole = train(*options)
    folder = interrupt_run(train, 35, *options)
    steps = expfw.checkpoint_steps(folder)
    assert steps[-1] == 30
    arrays = folder / "checkpoints" / "000000030" / "arrays.safetensors"
    torn = bytearray(arrays.read_bytes())
    torn[len(torn) // 2] ^= 1
    arrays.write_bytes(torn)
    result = resume_run(folder)
    (warning,) = result.warnings
    assert "000000030 is damaged: arrays.safetensors does not match its checksum; skipping it" in warning
    assert exact_comparison.compare_runs(whole.folder, folder).is_exact


def test_a_run_without_checkpoints_starts_from_the_beginning_with_a_warning(train):
    whole = train(*MLP)
    folder = interrupt_run(train, 35, *MLP)
    shutil.rmtree(folder / "checkpoints")
    result = resume_run(folder)
    assert "has no usable checkpoint" in result.warnings[0]
    assert exact_comparison.compare_runs(whole.folder, folder).is_exact
    points = exact_comparison.group_points(expfw.load(folder).points)
    assert {len(values) for values in points.values()} == {1}


@pytest.fixture
def stopped(train):
    """Folder of a run that was interrupted in its third epoch."""
    return interrupt_run(train, 50, *MLP)


def get_rejection(folder, *overrides):
    """Returns the error of a resume that must not change the run; a late error may be in its log."""

    def read_files():
        files = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("log.txt", ".process.lock")]
        return {path: path.read_bytes() for path in files}

    before = read_files()
    with pytest.raises(expfw.ExpfwError) as caught:
        resume_run(folder, *overrides)
    assert read_files() == before
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=9", "seed=9 cannot change when a run is resumed. Expected train.epochs"),
        ("train.epochs=0", "epochs is 0; expected 1 or more"),
        ("train.epochs=1", "has already trained 2 epochs; expected more"),
        ("train.steps=39", "has already trained 42 steps; expected more"),
        ("callback.checkpoint.kep=1", "Did you mean 'callback.checkpoint.keep'?"),
    ],
)
def test_invalid_overrides_are_rejected(stopped, override, expected):
    assert expected in get_rejection(stopped, override)


def test_an_edited_configuration_file_is_rejected_with_the_differences(stopped):
    path = stopped / "config.yaml"
    path.write_text(path.read_text().replace("epochs: 4", "epochs: 9"))
    assert "config.yaml has changed since the run started: train.epochs is 9, was 4" in get_rejection(stopped)


def test_another_environment_is_rejected_or_accepted_with_a_warning(stopped):
    path = stopped / "environment.json"
    environment = json.loads(path.read_text())
    environment["cpu"] |= {"features": ["avx", "sse9"], "cores": 64}
    environment["packages"]["keras"] = "2.0"
    path.write_text(json.dumps(environment))
    message = get_rejection(stopped)
    assert re.search(r"keras is .*, was 2\.0", message)
    for part in ("removed sse9", "number of CPU cores is", "--accept-differences"):
        assert part in message
    result = resume_run(stopped, accept=True)
    assert result.status == "FINISHED"
    assert sum("the results may not be bit-identical" in warning for warning in result.warnings) == 3


def test_an_unrelated_package_is_no_reason_to_reject(stopped):
    path = stopped / "environment.json"
    environment = json.loads(path.read_text())
    environment["packages"] |= {"rich": "1.0", "expfw-unrelated": "3.0", "mlflow": "0.1"}
    environment |= {"memory_gib": 1.0, "gpus": ["GeForce 256"]}
    environment["cpu"]["model"] = "Intel 8086"
    path.write_text(json.dumps(environment))
    assert resume_run(stopped).status == "FINISHED"


def test_a_package_that_a_plugin_requires_is_a_reason_to_reject(stopped):
    path = stopped / "environment.json"
    environment = json.loads(path.read_text())
    environment["relevant_packages"].append("scipy")
    environment["packages"]["scipy"] = "0.1"
    path.write_text(json.dumps(environment))
    assert re.search(r"scipy is .*, was 0\.1", get_rejection(stopped))


def change_start(folder, **fields):
    """Changes the first record, but not its length, because checkpoints refer to positions."""
    path = folder / journal.NAME
    start, _, rest = path.read_text().partition("\n")
    path.write_text(f"{json.dumps(json.loads(start) | fields).ljust(len(start))}\n{rest}")


def test_changed_plugin_code_is_rejected_and_a_resume_records_the_new_code(stopped):
    recorded_code = expfw.load(stopped).code
    change_start(stopped, code=recorded_code | {"expfw_models": "0" * 16})
    message = get_rejection(stopped)
    assert "cannot be resumed bit for bit: the code of expfw_models has changed since the run started; undo" in message
    assert resume_run(stopped, accept=True).status == "FINISHED"
    resumed = expfw.load(stopped)
    assert resumed.code == recorded_code
    assert "the code of expfw_models has changed" in " ".join(resumed.result.warnings)


def test_a_changed_plugin_file_is_rejected_if_it_is_not_named(train, workdir):
    file = workdir / "more.py"
    file.write_text(PLATEAU)
    folder = interrupt_run(train, 30, *MLP, "+callback=[noisy]", files=(str(file),))
    file.write_text(f"{PLATEAU}# changed")
    assert f"needs the plugin file {file}, which has changed since it was recorded" in get_rejection(folder)
    importing.forget_file(str(file))
    get_cached_catalogue.cache_clear()
    with pytest.raises(expfw.DataError, match=r"the code of more\.py has changed since the run started"):
        prepare_resume(expfw.load(folder, files=[file]))


def test_changed_data_is_rejected_with_the_differences(train, workdir):
    rng = np.random.default_rng(0)
    path = workdir / "data.npz"
    np.savez(path, x_train=rng.normal(size=(200, 5)).astype(np.float32), y_train=rng.integers(0, 3, 200))
    options = ("dataset=npz", f"dataset.path={path}", "model=mlp_keras", "train.epochs=9", "train.batch_size=20")
    folder = interrupt_run(train, 12, *options)
    np.savez(path, x_train=rng.normal(size=(201, 5)).astype(np.float32), y_train=rng.integers(0, 3, 201))
    assert "the data has changed since the run started: " in get_rejection(folder)
    path.unlink()
    assert str(path) in get_rejection(folder)


def test_a_run_that_is_running_in_another_process_is_rejected(stopped):
    recorded = expfw.load(stopped)
    prepared = prepare_resume(recorded)
    with process_lock.lock_folder(stopped):
        with pytest.raises(expfw.RunsFolderError, match=f"is being written by process {os.getpid()} on"):
            execute(prepared)
        with pytest.raises(expfw.ConfigError, match="is already running"):
            prepare_resume(dataclasses.replace(recorded, status="RUNNING"))
    assert execute(prepared).status == "FINISHED"


def test_a_run_with_several_processes_explains_how_to_resume(stopped):
    recorded = expfw.load(stopped)
    backend = {"plugin": "multi-worker", "hosts": ["a:1", "b:1"], "index": 0}
    with pytest.raises(expfw.ConfigError, match=r"needs several processes.*train\.begin_from=CHECKPOINT"):
        prepare_resume(recorded, config_values={**recorded.setup["config"], "backend": backend})
