"""Going on with a run: to the bit, whatever the plugins; and what is refused, with the reason."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest
import yaml
from support.equal_metrics import ENGINE_PLUGINS
from support.interruptions import Interrupt, find_entry, interrupt_run, resume_run

import expfw
from expfw.api import checkpoints
from expfw.runs import exact_comparison
from expfw.runs.one_run import execute
from expfw.runs.recorded_setup import read_recorded_setup
from expfw.runs.resume import prepare_resume
from expfw.tracking import journal

DIGITS = ("dataset=digits", "model.optimizer.learning_rate=0.05", "train.epochs=4", "train.log_every=1", "seed=3")
ODD = ("dataset=odd", "train.epochs=4", "train.batch_size=33", "train.log_every=1")


def assert_same(one, other):
    assert exact_comparison.compare_runs(one, other).differences == ()
    newest = [next(checkpoints.read_usable_checkpoints(folder, report=pytest.fail)) for folder in (one, other)]
    assert list(exact_comparison.compare_arrays(*(n.model.arrays for n in newest))) == []
    assert newest[0].plugins == newest[1].plugins
    messages = [r["text"] for r in journal.read_records(other / journal.NAME)[0] if r["kind"] == "message"]
    assert not [text for text in messages if "after going on" in text]


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
                for one in (self.optimizer, self.second):
                    one.build([self.w])
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
# Each plugin by itself is in tests/testing/test_contracts.py: dropout, low-level models, two replicas.
COMBINATIONS = {
    "adam, batch norm, average": (
        *("model=mlp_keras", "model.batch_norm=true", "model.optimizer.name=adam", "train.average=0.9", *DIGITS),
    ),
    "best weights, schedule": (
        *("model=mlp_keras", "train.test_on=best", "model.optimizer.schedule.name=cosine", *DIGITS),
        "model.optimizer.schedule.steps=50",
    ),
    "in parts": ("model=mlp_keras", "model.dropout=0.2", "train.accumulate=3", *DIGITS),
    "streamed": ("model=mlp_keras", "backend.resident_limit=0", *DIGITS),
    "metrics that are no means": ("model=small", "model.normalize=true", *ODD),
    "a step of its own": ("model=own_step", *ODD),
    "Keras callbacks, random numbers": ("model=mlp_keras", "+callback=[plateau,noisy]", *DIGITS),
    "generators and optimizers of its own": ("model=restless", *DIGITS[:1], *DIGITS[2:]),
}


HOLDS = {
    "adam, batch norm, average": ("averages/", "optimizer/003"),
    "best weights, schedule": ("best/",),
    "Keras callbacks, random numbers": ("keras_callbacks/1/best_weights/",),
    "generators and optimizers of its own": ("random/", "optimizer/003"),
}


QUICK = ("best weights, schedule", "Keras callbacks, random numbers")


@pytest.mark.parametrize(
    "combination", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in COMBINATIONS]
)
def test_a_run_that_goes_on_is_the_run_that_was_never_interrupted_to_the_bit(train, workdir, combination):
    (workdir / "more.py").write_text(PLATEAU)
    files = (ENGINE_PLUGINS, str(workdir / "more.py"))
    # The checkpoint is made in the middle of the third epoch; what comes until the end of the run is lost.
    every, newest, step = (3, 9, 11) if "dataset=odd" in COMBINATIONS[combination] else (13, 52, 60)
    options = (*COMBINATIONS[combination], f"callback.checkpoint.every.steps={every}", "callback.checkpoint.keep=1")
    whole = train(*options, files=files)
    folder = interrupt_run(train, workdir, step, *options, files=files)
    assert expfw.checkpoint_steps(folder)[-1] == newest
    kept = expfw.read_checkpoint(folder / "checkpoints" / f"{newest:09d}").model.arrays
    for group in HOLDS.get(combination, ()):
        assert [name for name in kept if name.startswith(group)], group
    result = resume_run(workdir, folder)
    assert (result.status, result.steps) == ("FINISHED", whole.steps)
    assert_same(whole.folder, folder)


def test_early_stopping_decides_as_if_nothing_had_happened(train, workdir):
    options = ("model=mlp_keras", *DIGITS, "callback=[checkpoint,early_stopping]", "train.epochs=50")
    options = (*options, "callback.early_stopping.min_delta=0.1", "callback.early_stopping.patience=2")
    whole = train(*options)
    assert 3 <= whole.epochs < 50
    folder = interrupt_run(train, workdir, 21 * (whole.epochs - 1) + 5, *options)
    assert resume_run(workdir, folder).epochs == whole.epochs
    assert_same(whole.folder, folder)


def test_the_same_folder_the_same_journal_and_nothing_twice(train, workdir):
    folder = interrupt_run(train, workdir, 40, "model=mlp_keras", *DIGITS)
    before = (folder / journal.NAME).read_bytes()
    resume_run(workdir, folder)
    assert (folder / journal.NAME).read_bytes().startswith(before)
    records = journal.read_records(folder / journal.NAME)[0]
    kinds = [r["kind"] for r in records]
    assert (kinds.count("run_started"), kinds.count("run_resumed"), kinds[-1]) == (1, 1, "run_ended")
    points = exact_comparison.group_points(journal.read_points(folder / journal.NAME))
    assert {len(values) for values in points.values()} == {1}
    assert sorted(step for name, step in points if name == "train/loss") == list(range(84))
    assert {"overrides.yaml", "overrides-2.yaml", "environment-2.json"} <= set(os.listdir(folder))


def test_interrupted_again_before_it_has_caught_up_nothing_is_there_twice(train, workdir):
    """A checkpoint that is made while recorded steps still come again knows which are left."""
    options = ("model=mlp_keras", *DIGITS, "callback.checkpoint.every.steps=10", "callback.checkpoint.keep=9")
    whole = train(*options)
    folder = interrupt_run(train, workdir, 57, *options)
    for step in (50, 40, 30):
        expfw.remove_checkpoint(folder, step)
    expfw.remove_checkpoint(folder, 42)
    for step in (33, 47):
        with pytest.raises(KeyboardInterrupt):
            resume_run(workdir, folder, observers=[Interrupt(step)])
    assert resume_run(workdir, folder).warnings == ()
    assert_same(whole.folder, folder)
    points = exact_comparison.group_points(journal.read_points(folder / journal.NAME))
    assert {len(values) for values in points.values()} == {1}


def test_a_longer_run_that_is_interrupted_at_once_is_still_longer(train, workdir):
    options = ("model=mlp_keras", *DIGITS, "callback=[checkpoint,early_stopping]", "train.epochs=50")
    options = (*options, "callback.early_stopping.min_delta=0.1", "callback.early_stopping.patience=2")
    stopped_early = train(*options)
    end = stopped_early.steps
    with pytest.raises(KeyboardInterrupt):
        resume_run(
            *(workdir, stopped_early.folder, "train.epochs=60", "callback.early_stopping.patience=30"),
            observers=[Interrupt(end + 5)],
        )
    result = resume_run(workdir, stopped_early.folder)
    assert result.steps > end
    assert result.warnings == ()


def test_more_epochs_alone_do_not_overrule_early_stopping(train, workdir):
    options = ("model=mlp_keras", *DIGITS, "callback=[checkpoint,early_stopping]", "train.epochs=50")
    options = (*options, "callback.early_stopping.min_delta=0.1", "callback.early_stopping.patience=2")
    folder = train(*options).folder
    before = (folder / journal.NAME).read_bytes()
    with pytest.raises(expfw.ConfigError, match=r"was stopped at step \d+ \(val/loss has not .*patience=20"):
        resume_run(workdir, folder, "train.epochs=60")
    assert (folder / journal.NAME).read_bytes() == before


@pytest.mark.parametrize("wanted", ["train.epochs=1", "train.steps=39"])
def test_an_end_that_is_passed_already_is_refused(train, workdir, wanted):
    folder = interrupt_run(train, workdir, 50, "model=mlp_keras", *DIGITS)
    before = (folder / journal.NAME).read_bytes()
    with pytest.raises(expfw.ConfigError, match=r"has trained (2 epochs|42 steps) already; ask for more"):
        resume_run(workdir, folder, wanted)
    assert (folder / journal.NAME).read_bytes() == before


def test_options_that_make_it_no_longer_leave_early_stopping_its_decision(train, workdir):
    options = ("model=mlp_keras", *DIGITS, "callback=[checkpoint,early_stopping]", "train.epochs=50")
    options = (*options, "callback.early_stopping.min_delta=0.1", "callback.early_stopping.patience=2")
    whole = train(*options)
    folder = interrupt_run(train, workdir, whole.steps, *options)
    assert resume_run(workdir, folder, "quiet=true").steps == whole.steps


def test_a_refusal_leaves_the_run_as_it_was(train, workdir):
    """What it found out about its devices is compared late, when the model is built."""
    folder = train("model=mlp_keras", *DIGITS).folder
    before = (folder / journal.NAME).read_bytes()
    found = read_recorded_setup(find_entry(workdir, folder))
    found = dataclasses.replace(found, facts={**found.facts, "replicas": 99})
    with pytest.raises(expfw.ConfigError, match="replicas is 1, it was 99"):
        execute(prepare_resume(found, workdir / "runs", ["train.epochs=9"]))
    assert (folder / journal.NAME).read_bytes() == before
    assert find_entry(workdir, folder).status == "FINISHED"
    assert not (folder / "failure").exists()


def test_a_process_that_died_before_it_wrote_its_configuration_goes_on(stopped, workdir):
    path = stopped / "config.yaml"
    found = read_recorded_setup(find_entry(workdir, stopped))
    path.unlink()
    assert read_recorded_setup(find_entry(workdir, stopped)).config_values == found.config_values
    with journal.Journal(stopped / journal.NAME) as record:  # of a life that died after its record, before its file
        values = {**found.config_values, "train": {**found.config_values["train"], "epochs": 9}}
        params = {**found.setup_record["params"], "train.epochs": 9}
        about = {key: value for key, value in found.setup_record.items() if key not in ("kind", "time")}
        record.write("run_resumed", **{**about, "config": values, "params": params})
    path.write_text(yaml.safe_dump(found.config_values))
    assert read_recorded_setup(find_entry(workdir, stopped)).config_values["train"]["epochs"] == 9


def test_other_values_than_recorded_are_reported(train, workdir):
    folder = interrupt_run(train, workdir, 40, "model=mlp_keras", *DIGITS)
    path = folder / journal.NAME
    lines = path.read_text().splitlines(keepends=True)
    number, record = next(
        (number, record)
        for number, record in enumerate(map(json.loads, lines))
        if record["kind"] == "series" and record["step"] <= 30 < record["step"] + len(record["values"]["train/loss"])
    )
    record["values"]["train/loss"][30 - record["step"]] = 7.0
    path.write_text("".join([*lines[:number], json.dumps(record) + "\n", *lines[number + 1 :]]))
    result = resume_run(workdir, folder)
    (warning,) = [w for w in result.warnings if "after going on" in w]
    assert "train/loss at step 30 is" in warning
    assert "recorded was 7.0" in warning


def test_a_finished_run_is_trained_longer_as_if_it_had_been_asked_for_at_once(train, workdir):
    options = ("model=mlp_keras", *DIGITS)
    longer = train(*options, "train.epochs=6")
    short = train(*options)
    result = resume_run(workdir, short.folder, "train.epochs=6")
    assert (result.status, result.steps, result.warnings) == ("FINISHED", 126, ())
    one, other = (
        exact_comparison.group_points(journal.read_points(f / journal.NAME)) for f in (longer.folder, short.folder)
    )
    assert {key: values for key, values in other.items() if key[0][:5] != "test/" or key[1] == 126} == one
    weights = [expfw.load_model(f / "model") for f in (longer.folder, short.folder)]
    for a, b in zip(*(w.model.get_weights() for w in weights), strict=True):
        assert a.tobytes() == b.tobytes()
    assert yaml.safe_load((short.folder / "config.yaml").read_text())["train"]["epochs"] == 6


def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(train, workdir):
    options = ("model=mlp_keras", *DIGITS, "callback.checkpoint.every.steps=10", "callback.checkpoint.keep=9")
    whole = train(*options)
    folder = interrupt_run(train, workdir, 35, *options)
    steps = expfw.checkpoint_steps(folder)
    assert steps[-1] == 30
    arrays = folder / "checkpoints" / "000000030" / "arrays.safetensors"
    torn = bytearray(arrays.read_bytes())
    torn[len(torn) // 2] ^= 1
    arrays.write_bytes(torn)
    result = resume_run(workdir, folder)
    (warning,) = result.warnings
    assert "000000030 is damaged: arrays.safetensors is not as it was written; it is not used" in warning
    assert exact_comparison.compare_runs(whole.folder, folder).is_exact


def test_without_any_checkpoint_it_begins_anew_and_says_so(train, workdir):
    import shutil

    whole = train("model=mlp_keras", *DIGITS)
    folder = interrupt_run(train, workdir, 35, "model=mlp_keras", *DIGITS)
    shutil.rmtree(folder / "checkpoints")
    result = resume_run(workdir, folder)
    assert "no checkpoint of run" in result.warnings[0]
    assert exact_comparison.compare_runs(whole.folder, folder).is_exact
    points = exact_comparison.group_points(journal.read_points(folder / journal.NAME))
    assert {len(values) for values in points.values()} == {1}


@pytest.fixture
def stopped(train, workdir):
    """The folder of a run that can go on."""
    return interrupt_run(train, workdir, 40, "model=mlp_keras", *DIGITS)


def refused(workdir, folder, *overrides):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(expfw.ExpfwError) as caught:
        resume_run(workdir, folder, *overrides)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before  # nothing was touched
    return str(caught.value)


def test_a_configuration_edited_by_hand_is_refused_with_what_differs(stopped, workdir):
    path = stopped / "config.yaml"
    kept = path.read_text()
    path.write_text(kept.replace("epochs: 4", "epochs: 9"))
    said = refused(workdir, stopped)
    assert "config.yaml was changed since the run began: train.epochs is 9, was 4" in said
    path.write_text("[")
    assert "the journal has the configuration" in refused(workdir, stopped)
    path.write_text(kept)
    assert resume_run(workdir, stopped).status == "FINISHED"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.units=9", "would make another run of it; what may change on going on"),
        ("seed=9", "would make another run of it"),
        ("train.epochs=1,2", "train.epochs=1,2 gives no single value"),
        ("train.epochs=0", "epochs is 0; expected 1 or more"),
        ("callback.checkpoint.kep=1", "Did you mean 'callback.checkpoint.keep'?"),
        ("train.epochs", "train.epochs"),
    ],
)
def test_what_cannot_change_is_refused(stopped, workdir, override, expected):
    assert expected in refused(workdir, stopped, override)


def test_a_finished_run_has_nothing_left_to_do(train, workdir):
    folder = train("model=mlp_keras", *DIGITS).folder
    assert "is FINISHED, there is nothing left to do; to train it longer" in refused(workdir, folder)


def environment_with(folder, **values):
    path = folder / "environment.json"
    environment = json.loads(path.read_text())
    for name, value in values.items():
        environment[name] = {**environment[name], **value}
    path.write_text(json.dumps(environment))


def test_another_machine_is_refused_or_on_request_accepted_with_a_warning(stopped, workdir):
    environment_with(stopped, cpu={"features": ["avx", "sse9"], "cores": 64}, packages={"keras": "2.0"})
    said = refused(workdir, stopped)
    assert "packages" not in said
    assert "keras is" in said
    assert "was 2.0" in said
    assert "then also sse9" in said
    assert "number of processor cores is" in said
    assert "--accept-differences" in said
    result = resume_run(workdir, stopped, accept=True)
    assert result.status == "FINISHED"
    assert sum("the bits may differ too" in warning for warning in result.warnings) == 3


def test_other_threads_are_refused_before_anything_is_trained(stopped, workdir):
    found = read_recorded_setup(find_entry(workdir, stopped))
    found = dataclasses.replace(found, facts={**found.facts, "threads": 99})
    with pytest.raises(expfw.ConfigError, match=r"threads is \d+, it was 99 when the run began: the numbers would not"):
        execute(prepare_resume(found, workdir / "runs"))
    assert (
        execute(prepare_resume(read_recorded_setup(find_entry(workdir, stopped)), workdir / "runs")).status
        == "FINISHED"
    )


def test_data_that_changed_are_refused_with_what_changed(train, workdir):
    import numpy as np

    made = np.random.default_rng(0)
    path = workdir / "data.npz"
    np.savez(path, x_train=made.normal(size=(200, 5)).astype(np.float32), y_train=made.integers(0, 3, 200))
    options = ("dataset=npz", f"dataset.path={path}", "model=mlp_keras", "train.epochs=9", "train.batch_size=20")
    folder = interrupt_run(train, workdir, 12, *options)
    np.savez(path, x_train=made.normal(size=(201, 5)).astype(np.float32), y_train=made.integers(0, 3, 201))
    assert "the data changed since the run began: " in refused(workdir, folder)
    path.unlink()
    assert str(path) in refused(workdir, folder)


def test_a_plugin_file_that_changed_is_refused(train, workdir):
    (workdir / "mine.py").write_text("from expfw_models.mlp_keras import MlpKeras\nclass Mine(MlpKeras):\n    pass\n")
    folder = interrupt_run(train, workdir, 40, "model=mine", *DIGITS, files=(str(workdir / "mine.py"),))
    with open(workdir / "mine.py", "a") as file:
        file.write("# another\n")
    assert f"{workdir}/mine.py is" in refused(workdir, folder)


def test_a_secret_is_not_in_the_record_and_is_asked_for(train, workdir):
    (workdir / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom expfw_callbacks.checkpoint import Checkpoint\n"
        "class Mine(Checkpoint):\n    @dataclass\n    class Config(Checkpoint.Config):\n        api_key: str = 'none'\n"
    )
    options = ("model=mlp_keras", *DIGITS, "+callback=mine", "callback.mine.api_key=abc")
    folder = interrupt_run(train, workdir, 40, *options, files=(str(workdir / "mine.py"),))
    assert "abc" not in "".join(p.read_text(errors="replace") for p in folder.rglob("*") if p.is_file())
    assert "callback.mine.api_key is a secret and not in the record of run" in refused(workdir, folder)
    assert resume_run(workdir, folder, "callback.mine.api_key=abc").status == "FINISHED"


def test_a_run_that_goes_on_in_another_process_is_refused(stopped, workdir):
    from expfw.system import process_lock

    found = read_recorded_setup(find_entry(workdir, stopped))
    made = prepare_resume(found, workdir / "runs")
    with process_lock.lock_folder(stopped):
        with pytest.raises(expfw.RunsFolderError, match=f"is being written by process {os.getpid()} on"):
            execute(made)
        running = dataclasses.replace(found.entry, status="RUNNING")
        with pytest.raises(expfw.ConfigError, match="goes on already"):
            prepare_resume(dataclasses.replace(found, entry=running), workdir / "runs")
    assert execute(made).status == "FINISHED"


def test_runs_of_several_processes_say_how_they_go_on(stopped, workdir):
    found = read_recorded_setup(find_entry(workdir, stopped))
    backend = {"plugin": "multi-worker", "hosts": ["a:1", "b:1"], "index": 0}
    with pytest.raises(expfw.ConfigError, match=r"takes several processes.*train\.begin_from=CHECKPOINT"):
        prepare_resume(
            dataclasses.replace(found, config_values={**found.config_values, "backend": backend}), workdir / "runs"
        )
