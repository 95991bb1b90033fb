"""How a sweep handles values that its source proposes twice."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from expfw.api.result import FAILED, FINISHED
from expfw.config.compose import compose
from expfw.plugins.catalogue import get_catalogue
from expfw.sweeps.request import SweepRequest
from expfw.sweeps.scheduler import TrialScheduler
from expfw.tracking import journal
from expfw.tracking.ledger import Ledger

PROPOSED = [8, 16, 8, 8, 16]


class _Source:
    """Proposes these units and records the reported results."""

    total = len(PROPOSED)
    can_prune = False

    def __init__(self, can_repeat):
        self.can_repeat = can_repeat
        self.results = {}

    def propose(self, number):
        return ["dataset=digits", "tracker=[]", f"model.units={PROPOSED[number]}"]

    def report_result(self, number, objective, status):
        self.results[number] = objective, status


@pytest.fixture
def make_scheduler(tmp_path):
    """Makes a scheduler; returns it and a list of the trials whose end the hooks have received."""

    def make(can_repeat):
        ended_trials = []
        hook = SimpleNamespace(expfw_trial_ended=lambda sweep_id, trial: ended_trials.append(trial["number"]))
        source = _Source(can_repeat)

        sweep_request = SweepRequest((), lambda overrides: None, get_catalogue())
        sweep_request.swept_keys = {"model.units"}
        sweep_request._compose_config = compose
        sweep_journal = journal.Journal(tmp_path / journal.NAME)
        scheduler = TrialScheduler(
            "y9z7y9z7", tmp_path, compose(source.propose(0)), source, sweep_request, sweep_journal, hook
        )
        return scheduler, ended_trials

    return make


def _finish_trial(scheduler, number, status, objective):
    scheduler._finish_trial(
        replace(scheduler.trials[number], status=status, objective=objective, objective_metric="val/loss")
    )


def test_a_search_uses_the_result_of_a_duplicate_trial_without_training_again(make_scheduler, tmp_path):
    scheduler, ended_trials = make_scheduler(can_repeat=True)
    assert scheduler.next_request().trial == 0
    assert scheduler.next_request().trial == 1
    assert scheduler.next_request().trial == 2  # the result of the first trial is not yet known
    _finish_trial(scheduler, 0, FINISHED, 0.5)
    _finish_trial(scheduler, 1, FAILED, None)
    assert scheduler.next_request().trial == 4  # trial 3 has a known result; trial 4 repeats a failure, so it runs
    assert ended_trials == [0, 1, 3]
    assert scheduler.source.results == {0: (0.5, FINISHED), 1: (None, FAILED), 3: (0.5, FINISHED)}
    duplicate = next(trial for trial in Ledger(tmp_path).read_trials() if trial.number == 3)
    assert (duplicate.status, duplicate.objective, duplicate.run_id, duplicate.folder) == (FINISHED, 0.5, None, None)
    assert duplicate.warnings[0].startswith("same values as trial 0; the result of that trial is used")


def test_a_grid_trains_duplicate_trials(make_scheduler):
    scheduler, _ = make_scheduler(can_repeat=False)
    for number in range(4):
        assert scheduler.next_request().trial == number
        _finish_trial(scheduler, number, FINISHED, 0.5)
