"""The hooks of a run, in the order documented in docs/internals/architecture.md."""

from __future__ import annotations

import pytest

import expfw
from expfw.plugins.manager import make_manager
from expfw.runs import one_run
from expfw.tracking.recorded_run import read_run


def describe_call(name, arguments):
    """Returns a hook call as text, with the argument that matters."""
    details = {
        "save": lambda training, **_: "checkpoint" if training else "model",
        "checkpoint_saved": lambda path, **_: int(path.name),
        "epoch_ended": lambda run: run.epoch,
        "run_ended": lambda result, **_: result.status,
        **dict.fromkeys(["run_started", "steps_ended", "evaluated", "safe_point"], lambda run, **_: run.step),
    }
    name = name.removeprefix("expfw_")
    return f"{name} {details[name](**arguments)}" if name in details else name


def test_hooks_are_called_in_the_documented_order(train, monkeypatch):
    calls = []

    def make_monitored_manager(*arguments, **options):
        manager = make_manager(*arguments, **options)
        manager.add_hookcall_monitoring(
            lambda name, implementations, arguments: calls.append(describe_call(name, arguments)),
            lambda result, name, *_: calls.append("fit done") if name == "expfw_fit" else None,
        )
        return manager

    monkeypatch.setattr(one_run, "make_manager", make_monitored_manager)
    train("dataset=digits", "model=mlp_keras", "train.epochs=2", "train.batch_size=1000")
    assert calls == [
        "load_data", "build_model", "describe", "run_started 0", "fit",
        "keras_callbacks",
        "steps_ended 2", "evaluated 2", "epoch_ended 1", "safe_point 2", "save checkpoint",
        "steps_ended 4", "evaluated 4", "epoch_ended 2", "safe_point 4", "checkpoint_saved 2", "save checkpoint",
        "fit done", "save model", "predict", "run_ended FINISHED", "checkpoint_saved 4",
    ]  # fmt: skip


class Observer(expfw.Callback):
    """Keeps its calls and the recent points; `act` runs at the end of each epoch."""

    kind = "callback"
    calls: list[str] = []  # noqa: RUF012  # shared on purpose

    def __init__(self, name="observer", act=lambda run: None):
        super().__init__(None, name)
        self.act, self.points = act, []

    @expfw.hookimpl
    def expfw_steps_ended(self, run):
        self.points += run.recent_points

    @expfw.hookimpl
    def expfw_evaluated(self, run):
        self.points += run.recent_points
        run.log({self.name: 1.0})  # logged in a hook: recent in the next one

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        self.calls.append(self.name)
        self.points += run.recent_points
        self.act(run)

    @expfw.hookimpl
    def expfw_run_ended(self, run):
        self.points += run.recent_points


@pytest.fixture(autouse=True)
def calls():
    """Names of the observers in the order of their calls at the ends of epochs."""
    Observer.calls.clear()
    return Observer.calls


def test_observers_are_called_in_the_order_of_the_configuration(train, calls):
    train("dataset=digits", "train.epochs=1", observers=[Observer(name) for name in "abc"])
    assert calls == ["a", "b", "c"]


def test_an_observer_that_raises_is_reported_once_and_the_run_continues(train, calls):
    observers = [Observer("faulty", lambda run: 1 / 0), Observer("next")]
    result = train("dataset=digits", "train.epochs=3", "train.batch_size=1000", observers=observers)
    assert result.status == "FINISHED"
    assert calls == ["faulty", "next", "next", "next"]  # only the faulty one is disabled for the rest of the run
    (line,) = [m["text"] for m in read_run(result.folder).select("message") if "faulty" in m["text"]]
    assert "expfw_epoch_ended" in line
    assert "ZeroDivisionError: division by zero" in line


@pytest.mark.parametrize(("method", "status"), [("request_stop", "FINISHED"), ("prune", "PRUNED")])
def test_an_observer_can_end_the_run(train, method, status):
    stopper = Observer(act=lambda run: run.epoch == 2 and getattr(run, method)("enough"))
    result = train("dataset=digits", "train.epochs=9", observers=[stopper])
    assert (result.status, result.epochs) == (status, 2)
    assert ("test/loss" in result.metrics) is (status == "FINISHED")


class Talker(expfw.Callback):
    kind = "callback"

    @expfw.hookimpl
    def expfw_steps_ended(self, run):
        run.log({"talk": float(run.step)})


def test_every_point_reaches_earlier_and_later_callbacks_exactly_once(train):
    before, after = Observer("before"), Observer("after")
    observers = [before, Talker(None, "talker"), after]
    result = train("dataset=digits", "train.epochs=3", "train.log_every=1", observers=observers)
    points = read_run(result.folder).points
    assert {"talk", "before", "after"} <= {name for point in points for name in point.values}
    for observer in (before, after):
        assert [(p.step, dict(p.values)) for p in observer.points] == [(p.step, dict(p.values)) for p in points]


def test_an_unknown_hook_and_an_unknown_argument_are_rejected():
    class Unknown(expfw.Callback):
        @expfw.hookimpl
        def expfw_epoch_finished(self, run):
            pass

    class Wrong(expfw.Callback):
        @expfw.hookimpl
        def expfw_epoch_ended(self, trainer):
            pass

    for cls, name in ((Unknown, "expfw_epoch_finished"), (Wrong, "trainer")):
        with pytest.raises(expfw.PluginError, match=f"callback plugin 'mine'.*{name}"):
            make_manager([cls(None, "mine")], report=print)
