"""The engine compared with plain loops: equal results for any division of the steps into calls."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from support.equal_metrics import read_metrics
from tensorflow.python.framework.func_graph import FuncGraph

import expfw
from expfw_backends.engine.batches import make_device_tensor, make_permutation
from expfw_backends.engine.loop import Loop
from expfw_datasets.digits import Digits

RECIPE = ("model=mlp_keras", "dataset=digits", "model.optimizer.learning_rate=0.05", "seed=7")


def points(folder, name):
    return read_metrics(folder)[name]


def digits():
    return Digits(Digits.Config(), "digits").load(seed=7).take(slice(None))


def test_epoch_values_are_means_over_samples_with_a_short_last_batch(train):
    result = train(*RECIPE, "train.epochs=1", "train.log_every=1", "train.batch_size=500")
    losses, sizes = points(result.folder, "train/loss"), [500, 500, len(digits().train) - 1000]
    assert list(points(result.folder, "train/epoch_loss")) == [3]
    assert points(result.folder, "train/epoch_loss")[3] == pytest.approx(
        np.average(list(losses.values()), weights=sizes), rel=1e-6
    )


def test_log_every_thins_losses_and_means_cover_all_samples(train):
    dense = train(*RECIPE, "train.epochs=2", "train.log_every=1")
    thin = train(*RECIPE, "train.epochs=2", "train.log_every=10")
    every, tenth = points(dense.folder, "train/loss"), points(thin.folder, "train/loss")
    assert tenth == {step: every[step] for step in range(0, 42, 10)}
    accuracy = points(dense.folder, "train/accuracy")
    sizes = 2 * ([64] * 20 + [len(digits().train) - 64 * 20])
    expected = np.average([accuracy[s] for s in range(11, 21)], weights=sizes[11:21])
    assert points(thin.folder, "train/accuracy")[20] == pytest.approx(expected, rel=1e-6)


LINE = ("dataset=line", "model=ols", "train.batch_size=10", "train.epochs=1000")  # an epoch is one step


@pytest.mark.slow
def test_log_every_thins_the_means_of_shorter_epochs(train):
    result = train(*LINE, "train.log_every=100")
    logged = points(result.folder, "train/epoch_loss")
    assert list(logged) == [*range(1, 11), *range(100, 1001, 100)]
    dense = train(*LINE, "train.log_every=1")
    all_values = points(dense.folder, "train/epoch_loss")
    assert logged == {step: all_values[step] for step in logged}
    journal_file = result.folder / "journal.jsonl"
    journal_file.write_text("".join(journal_file.read_text().splitlines(keepends=True)[:-1]))  # as if it were killed
    assert expfw.load(result.folder).result.epochs == 1000


def test_means_of_shorter_epochs_are_logged_with_each_evaluation(train):
    result = train(*RECIPE, "train.epochs=15", "train.log_every=1000", "train.evaluate_every.epochs=6")
    assert list(points(result.folder, "train/epoch_loss")) == [21 * epoch for epoch in (*range(1, 11), 12, 15)]


class CutEverywhere(expfw.Callback):
    """Requests its hooks at every third step."""

    @expfw.hookimpl
    def expfw_run_started(self, run):
        self.steps = []
        run.call_hooks_at(3)

    @expfw.hookimpl
    def expfw_steps_ended(self, run):
        self.steps.append(run.step)
        run.call_hooks_at(run.step - run.step % 3 + 3)


def test_call_boundaries_change_nothing_and_requested_steps_are_boundaries(train):
    whole = train(*RECIPE, "train.epochs=2", "train.log_every=1", "model.dropout=0.3")
    cut = CutEverywhere(None, "cut")
    parts = train(*RECIPE, "train.epochs=2", "train.log_every=1", "model.dropout=0.3", observers=[cut])
    assert {3, 6, 9, 21, 24, 42} <= set(cut.steps)
    assert points(whole.folder, "train/loss") == points(parts.folder, "train/loss")  # bit-identical
    assert whole.metrics == parts.metrics


def test_runs_with_equal_seeds_are_identical_and_with_other_seeds_are_not(train):
    first, second = (train(*RECIPE, "train.epochs=1", "model.dropout=0.3") for _ in range(2))
    other = train(*RECIPE[:-1], "seed=8", "train.epochs=1", "model.dropout=0.3")
    assert first.metrics == second.metrics
    assert first.metrics != other.metrics


def test_the_sample_order_is_a_function_of_seed_and_epoch():
    assert sorted(make_permutation(1, 2, 50)) == list(range(50))
    np.testing.assert_array_equal(make_permutation(1, 2, 50), make_permutation(1, 2, 50))
    assert list(make_permutation(1, 2, 50)) != list(make_permutation(1, 3, 50))
    assert list(make_permutation(1, 2, 50)) != list(make_permutation(2, 2, 50))


def test_a_number_of_steps_can_end_within_an_epoch_with_an_evaluation(train):
    result = train(*RECIPE, "train.steps=30", "train.evaluate_every.steps=8")
    assert (result.steps, result.epochs) == (30, 1)
    assert list(points(result.folder, "val/loss")) == [8, 16, 24, 30]


def test_an_evaluation_within_an_epoch_does_not_change_its_means(train):
    plain = train(*RECIPE, "train.epochs=1", "train.evaluate_every.epochs=1")
    often = train(*RECIPE, "train.epochs=1", "train.evaluate_every.steps=5")
    assert plain.metrics["train/epoch_accuracy"] == often.metrics["train/epoch_accuracy"]
    assert plain.metrics["val/loss"] == often.metrics["val/loss"]


UNSTABLE = (
    *(*RECIPE, "train.epochs=6", "model.optimizer.learning_rate=0.8"),
    *("objective.metric=val/accuracy", "objective.mode=max"),
)
"""A run whose best epoch is not its last one."""


def get_row(folder, step):
    """Returns the values of all metrics at a step."""
    return {name: values[step] for name, values in read_metrics(folder).items() if step in values}


def measure_accuracy(folder, split):
    data, model = digits(), expfw.load_model(folder / "model").model
    samples = data.get_splits()[split]
    return np.mean(np.argmax(model(samples.x), axis=1) == samples.y)


@pytest.mark.parametrize("options", [(), ("train.average=0.5",), ("train.evaluate_every.steps=10",)])
def test_by_default_result_saved_model_and_test_metrics_are_of_the_best_epoch(train, options):
    result = train(*UNSTABLE, *options)
    accuracies = points(result.folder, "val/accuracy")
    best = max(accuracies.values())
    assert result.objective == best == result.metrics["val/accuracy"]
    step = min(step for step, value in accuracies.items() if value == best)
    assert step < result.steps
    assert result.best_step == result.metrics_step == step
    assert result.metrics_epoch == (None if step % 21 else step // 21)
    row = get_row(result.folder, step)
    assert {"val/loss", "val/accuracy", "test/loss", "test/accuracy"} <= row.keys()
    assert row.items() <= result.metrics.items()
    assert not [name for name in result.metrics if "(" in name]
    assert measure_accuracy(result.folder, "validation") == pytest.approx(best, abs=1e-6)
    assert measure_accuracy(result.folder, "test") == pytest.approx(row["test/accuracy"], abs=1e-6)
    (record,) = expfw.load(result.folder).select("model")
    assert record["step"] == step


def test_the_last_weights_are_ranked_by_their_own_metrics(train):
    result = train(*UNSTABLE, "train.test_on=last")
    assert (result.metrics_step, result.metrics_epoch) == (result.steps, 6)
    assert result.best_step < result.steps
    row = get_row(result.folder, result.steps)
    assert row.items() <= result.metrics.items()
    assert result.objective == row["val/accuracy"]
    assert measure_accuracy(result.folder, "test") == pytest.approx(row["test/accuracy"], abs=1e-6)


@pytest.mark.parametrize(("test_on", "take"), [("last", "best"), ("best", "last")])
def test_test_metrics_of_other_weights_have_their_name(train, test_on, take):
    result = train(*UNSTABLE, f"train.test_on={test_on}", f"objective.take={take}")
    steps = {"best": result.best_step, "last": result.steps}
    assert result.metrics_step == steps[take]
    assert "test/accuracy" not in result.metrics
    assert result.metrics[f"test/accuracy ({test_on})"] == points(result.folder, "test/accuracy")[steps[test_on]]
    assert result.metrics["val/loss"] == points(result.folder, "val/loss")[steps[take]]


def test_without_validation_data_the_last_weights_are_saved(train):
    result = train("dataset=line", "model=ols", "train.epochs=4", "model.optimizer.learning_rate=1.5")
    losses = points(result.folder, "train/epoch_loss")
    assert min(losses, key=losses.get) < result.metrics_step == result.steps
    assert result.objective == losses[result.steps]
    assert not [record for record in expfw.load(result.folder).select("message") if "best weights" in record["text"]]


class Score(expfw.Callback):
    """Logs an objective that is best at the second of three evaluations, and a metric only at the first."""

    @expfw.hookimpl
    def expfw_evaluated(self, run):
        run.log({"val/score": float(run.epoch == 2), **({"val/first": 1.0} if run.epoch == 1 else {})})


def test_the_weights_of_an_objective_that_a_callback_logs_are_kept(train):
    options = (*RECIPE, "train.epochs=3", "objective.metric=val/score", "objective.mode=max")
    result = train(*options, observers=[Score(None, "score")])
    assert (result.best_step, result.metrics_epoch) == (42, 2)
    assert result.metrics["val/loss"] == points(result.folder, "val/loss")[42]
    assert list(points(result.folder, "test/loss")) == [42]
    assert "val/first" not in result.metrics  # of another epoch


def test_mlp_layers_learns_and_its_outputs_are_probabilities(train):
    result = train("model=mlp_layers", "dataset=digits", "train.epochs=8", "model.optimizer.learning_rate=0.1")
    assert result.metrics["test/accuracy"] > 0.9
    output = expfw.load_model(result.folder / "model").predict(np.zeros((2, 8, 8, 1)))
    np.testing.assert_allclose(output.sum(axis=1), 1, atol=1e-5)


def test_one_replica_of_a_mirrored_strategy_equals_one_device(train):
    reference, mirrored = (train(*RECIPE, "train.epochs=1", *o) for o in ((), ("backend=mirrored", "backend.cpus=1")))
    assert mirrored.metrics["val/loss"] == pytest.approx(reference.metrics["val/loss"], abs=1e-5)


def test_resident_data_is_not_copied_on_a_cpu():
    buffer = np.empty(64 + 8 * 16, np.uint8)
    begin = -buffer.ctypes.data % 64
    aligned = buffer[begin : begin + 8 * 16].view(np.float32).reshape(8, 4)
    unaligned = buffer[begin + 4 : begin + 4 + 7 * 16].view(np.float32).reshape(7, 4)
    aligned[:] = 1
    copied = make_device_tensor(unaligned)
    unaligned[:] = 2
    assert copied.numpy().max() == 1
    same = make_device_tensor(aligned)
    assert same.numpy().max() == 2
    with pytest.raises(ValueError, match="read-only"):
        aligned[:] = 3  # would change the training data
    assert make_device_tensor(aligned).numpy().max() == 2  # a second engine can use the array too


def test_evaluation_of_all_splits_is_traced_once(train, monkeypatch):
    traced, trace = [], Loop._run_steps

    def counted(self, samples, order, first, count, size):
        traced.append(size)
        return trace(self, samples, order, first, count, size)

    monkeypatch.setattr(Loop, "_run_steps", counted)
    train(*RECIPE, "train.epochs=2")
    lengths = [len(split) for split in digits().get_splits().values()]
    assert sorted(traced) == sorted([64, 64, *(length % 64 for length in lengths)])  # training; validation and test


def test_no_graph_remains_after_a_run(train):
    """A notebook, or a search in one process, can then execute any number of runs."""

    def graphs_after_a_run():
        train("model=mlp_keras", "dataset=digits", "train.steps=2")
        gc.collect()
        return sum(type(value) is FuncGraph for value in gc.get_objects())

    graphs_after_a_run()
    assert graphs_after_a_run() == graphs_after_a_run()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_gradient_of_max_pooling_is_in_a_graph_without_a_cycle(train, monkeypatch, accumulate):
    """In a loop, TensorFlow chooses its operation by memory addresses: the last bits then differ between traces."""
    loops, get_compiled_loop = [], Loop._get_compiled_loop

    def record_loop(loop, *arguments):
        loops.append(get_compiled_loop(loop, *arguments))
        return loops[-1]

    monkeypatch.setattr(Loop, "_get_compiled_loop", record_loop)
    train("model=cnn", "dataset=digits", "train.steps=2", f"train.accumulate={accumulate}")
    functions = [f for loop in loops for f in loop.get_concrete_function().graph.as_graph_def().library.function]
    with_gradient = [f for f in functions if any(node.op == "MaxPoolGrad" for node in f.node_def)]
    assert with_gradient
    assert all(function.attr["_noinline"].b for function in with_gradient)
