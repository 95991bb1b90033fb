"""What a sweep does with values that its search proposes once more."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from expfw.api.run import FAILED, FINISHED
from expfw.config.compose import compose
from expfw.runs.request import prepare_run
from expfw.sweeps.scheduler import TrialScheduler
from expfw.tracking import journal
from expfw.tracking.ledger import Ledger

PROPOSED = [8, 16, 8, 8, 16]


class _Source:
    """Proposes these units; remembers what it is told."""

    total = len(PROPOSED)
    can_prune = False

    def __init__(self, repeats_itself):
        self.can_repeat = repeats_itself
        self.judged = {}

    def propose(self, number):
        return ["dataset=digits", "tracker=[]", f"model.units={PROPOSED[number]}"]

    def report_result(self, number, objective, status):
        self.judged[number] = objective, status


@pytest.fixture
def made(tmp_path):
    """A course, the trials that it told hooks the end of, and what its source knows."""

    def make(repeats_itself):
        told = []
        hook = SimpleNamespace(expfw_trial_ended=lambda sweep_id, trial: told.append(trial["number"]))
        source = _Source(repeats_itself)

        def request_of(number, overrides):
            return prepare_run(compose(overrides), overrides=tuple(overrides)).request

        record = journal.Journal(tmp_path / journal.NAME)
        base = compose(source.propose(0))
        return TrialScheduler("y9z7y9z7", tmp_path, base, source, request_of, record, hook, (), {"model.units"}), told

    return make


def _end(course, number, status, objective):
    course._finish_trial(
        replace(course.trials[number], status=status, objective=objective, objective_metric="val/loss")
    )


def test_a_search_does_not_train_the_same_twice_and_is_told_what_is_known(made, tmp_path):
    course, told = made(repeats_itself=True)
    assert course.next_request().trial == 0
    assert course.next_request().trial == 1
    assert course.next_request().trial == 2  # nobody knows yet what the first one comes to
    _end(course, 0, FINISHED, 0.5)
    _end(course, 1, FAILED, None)
    assert course.next_request().trial == 4  # the third has values that are known; what failed may go well
    assert told == [0, 1, 3]
    assert course.source.judged == {0: (0.5, FINISHED), 1: (None, FAILED), 3: (0.5, FINISHED)}
    again = next(trial for trial in Ledger(tmp_path).read_trials() if trial.number == 3)
    assert (again.status, again.objective, again.run_id, again.folder) == (FINISHED, 0.5, None, None)
    assert again.warnings[0].startswith("it has the values of trial 0, whose result counts for it")


def test_what_a_grid_has_twice_is_trained_twice(made):
    course, _ = made(repeats_itself=False)
    for number in range(4):
        assert course.next_request().trial == number
        _end(course, number, FINISHED, 0.5)
