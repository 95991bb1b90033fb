"""The hooks of a run, in the order documented in docs/internals/architecture.md."""

from __future__ import annotations

import inspect

import pytest

import expfw
from expfw.api import contracts, hookspecs
from expfw.plugins.manager import make_manager
from expfw.tracking import journal

PROVIDERS = [name for name in vars(hookspecs.Providers) if name.startswith("expfw_")]
OBSERVERS = [name for name in vars(hookspecs.Observers) if name.startswith("expfw_")]


class Log(expfw.Callback):
    """Records every hook of a run; wraps the providing hooks, implements the observing hooks."""

    kind = "callback"

    def __init__(self):
        super().__init__(None, "log")
        self.calls = []

    @expfw.hookimpl(wrapper=True)
    def expfw_load_data(self):
        self.calls.append("load_data")
        return (yield)

    @expfw.hookimpl(wrapper=True)
    def expfw_build_model(self):
        self.calls.append("build_model")
        return (yield)

    @expfw.hookimpl(wrapper=True)
    def expfw_describe(self):
        self.calls.append("describe")
        return (yield)

    @expfw.hookimpl(wrapper=True)
    def expfw_fit(self):
        self.calls.append("fit")
        result = yield
        self.calls.append("fit done")
        return result

    @expfw.hookimpl(wrapper=True)
    def expfw_save(self, training):
        self.calls.append("save checkpoint" if training else "save model")
        return (yield)

    @expfw.hookimpl(wrapper=True)
    def expfw_predict(self):
        self.calls.append("predict")
        return (yield)

    @expfw.hookimpl
    def expfw_run_started(self, run):
        self.calls.append(f"run_started {run.step}")

    @expfw.hookimpl
    def expfw_steps_ended(self, run):
        self.calls.append(f"steps_ended {run.step}")

    @expfw.hookimpl
    def expfw_evaluated(self, run):
        self.calls.append(f"evaluated {run.step}")

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        self.calls.append(f"epoch_ended {run.epoch}")

    @expfw.hookimpl(tryfirst=True)
    def expfw_safe_point(self, run):
        self.calls.append(f"safe_point {run.step}")

    @expfw.hookimpl
    def expfw_checkpoint_saved(self, path):
        self.calls.append(f"checkpoint_saved {int(path.name)}")

    @expfw.hookimpl
    def expfw_run_ended(self, result):
        self.calls.append(f"run_ended {result.status}")


def test_hooks_are_called_in_the_documented_order(train):
    log = Log()
    train("dataset=digits", "model=mlp_keras", "train.epochs=2", "train.batch_size=1000", observers=[log])
    assert log.calls == [
        "load_data",
        "build_model",
        "describe",
        "run_started 0",
        "fit",
        "steps_ended 2",
        "evaluated 2",
        "epoch_ended 1",
        "safe_point 2",
        "save checkpoint",
        "steps_ended 4",
        "evaluated 4",
        "epoch_ended 2",
        "safe_point 4",
        "checkpoint_saved 2",
        "save checkpoint",
        "fit done",
        "save model",
        "predict",
        "checkpoint_saved 4",
        "run_ended FINISHED",
    ]


class Named(expfw.Callback):
    kind = "callback"
    log: list[str] = []  # noqa: RUF012  # shared on purpose

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        self.log.append(self.name)


def test_observers_are_called_in_the_order_of_the_configuration():
    Named.log.clear()
    hook = make_manager([Named(None, name) for name in "abc"], report=print).hook
    hook.expfw_epoch_ended(run=None)
    assert Named.log == ["a", "b", "c"]


class Faulty(expfw.Callback):
    kind = "callback"

    def __init__(self):
        super().__init__(None, "faulty")
        self.calls = 0

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        self.calls += 1
        raise RuntimeError("no good")


def test_an_observer_that_raises_is_reported_once_and_the_run_continues(train):
    faulty, log = Faulty(), Log()
    result = train("dataset=digits", "train.epochs=3", "train.batch_size=1000", observers=[faulty, log])
    assert result.status == "FINISHED"
    assert faulty.calls == 1  # disabled for the rest of the run
    assert log.calls.count("epoch_ended 3") == 1  # the next observer is still called
    records, _ = journal.read_records(result.folder / journal.NAME)
    (line,) = [r["text"] for r in records if r["kind"] == "message" and "faulty" in r["text"]]
    assert "expfw_epoch_ended" in line
    assert "RuntimeError: no good" in line


class Stopper(expfw.Callback):
    kind = "callback"

    def __init__(self, prune):
        super().__init__(None, "stopper")
        self.prune = prune

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        if run.epoch == 2:
            run.prune("enough") if self.prune else run.request_stop("enough")


@pytest.mark.parametrize(("prune", "status"), [(False, "FINISHED"), (True, "PRUNED")])
def test_an_observer_can_end_the_run(train, prune, status):
    result = train("dataset=digits", "train.epochs=9", observers=[Stopper(prune)])
    assert (result.status, result.epochs) == (status, 2)
    assert ("test/loss" in result.metrics) is not prune


class Recent(expfw.Callback):
    kind = "callback"

    def __init__(self):
        super().__init__(None, "recent")
        self.seen = []

    @expfw.hookimpl
    def expfw_steps_ended(self, run):
        self.seen += run.recent_points

    @expfw.hookimpl
    def expfw_evaluated(self, run):
        self.seen += run.recent_points
        run.log({"mine": 1.0})  # logged in a hook: recent in the next one

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        self.seen += run.recent_points

    @expfw.hookimpl
    def expfw_run_ended(self, run):
        self.seen += run.recent_points


def test_every_point_is_recent_exactly_once(train):
    recent = Recent()
    result = train("dataset=digits", "train.epochs=3", "train.log_every=1", observers=[recent])
    records, _ = journal.read_records(result.folder / journal.NAME)
    written = [(r["step"], r["values"]) for r in records if r["kind"] == "metrics"]
    assert [(p.step, dict(p.values)) for p in recent.seen] == written


class Talker(expfw.Callback):
    kind = "callback"

    def __init__(self):
        super().__init__(None, "talker")

    @expfw.hookimpl
    def expfw_steps_ended(self, run):
        run.log({"talk": float(run.step)})


def test_a_point_of_one_callback_reaches_earlier_and_later_callbacks_once(train):
    before, after = Recent(), Recent()
    after.name = "after"
    result = train("dataset=digits", "train.epochs=2", observers=[before, Talker(), after])
    records, _ = journal.read_records(result.folder / journal.NAME)
    written = [(r["step"], r["values"]) for r in records if r["kind"] == "metrics"]
    assert any("talk" in values for _, values in written)
    for observer in (before, after):
        assert [(p.step, dict(p.values)) for p in observer.seen] == written


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


@pytest.mark.parametrize("name", PROVIDERS + OBSERVERS)
def test_every_hook_documents_its_call_time_and_has_few_arguments(name):
    function = vars(hookspecs.Providers).get(name) or vars(hookspecs.Observers)[name]
    assert inspect.getdoc(function).startswith("Called ")
    assert len(inspect.signature(function).parameters) <= 7


@pytest.mark.parametrize(
    "base", [contracts.Model, contracts.Dataset, contracts.Backend, contracts.Callback, contracts.Tracker]
)
def test_base_classes_implement_only_existing_hooks(base):
    make_manager([base(None, "x")], report=print)
