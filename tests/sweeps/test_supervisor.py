"""The supervisor when its fork server is killed: a living trial continues, and no second one starts while it lives."""

from __future__ import annotations

import os
import signal
import threading
import time

import psutil
import pytest
from support.called_functions import hold_trial
from support.processes import wait_for

from expfw.api.run_config import Sweep
from expfw.config.compose import compose
from expfw.runs.request import prepare_run
from expfw.sweeps.local import fork_server
from expfw.sweeps.local.slots import Slot
from expfw.sweeps.local.supervisor import Supervisor
from expfw.sweeps.runner import TrialQueue


class Queue(TrialQueue):
    """Records the trials that have started; raises KeyboardInterrupt if `is_interrupted`."""

    def __init__(self, requests):
        super().__init__(requests)
        self.all, self.started, self.is_interrupted = list(requests), [], False

    def mark_trial_started(self, request):
        self.started.append(request)

    def check_running_trials(self):
        if self.is_interrupted:
            raise KeyboardInterrupt


def is_alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def start(workdir):
    """Starts a supervisor of three trials in a thread; returns its queue, its thread and the errors that it raises."""

    def start_supervisor(**settings):
        config = compose(["dataset=line", "model=ols", "tracker=[]"])
        queue = Queue([prepare_run(config, sweep_folder=workdir, trial=number).request for number in range(3)])
        slots = [Slot(frozenset(os.sched_getaffinity(0)))]
        supervisor = Supervisor(slots, [], workdir / "log.txt", Sweep(**settings), hold_trial)
        errors = []

        def run():
            try:
                supervisor.run(queue)
            except (Exception, KeyboardInterrupt) as error:
                errors.append(type(error))

        thread = threading.Thread(target=run)
        thread.start()
        return queue, thread, errors

    return start_supervisor


def read_processes(request):
    """Returns the process of a trial and its fork server, when the trial has started."""
    path = request.trial_folder / "processes"
    wait_for(path.exists)
    return map(int, path.read_text().split())


def kill_server(request):
    """Kills the fork server of a trial; returns both, when the supervisor has noticed it."""
    trial, server = map(psutil.Process, read_processes(request))
    server.kill()
    time.sleep(1.5)
    return trial, server.pid


def end(request):
    (request.trial_folder / "end").touch()


def test_a_trial_continues_without_its_fork_server_and_the_next_ones_get_another(start):
    queue, thread, errors = start()
    first, second, third = queue.all
    trial, server = kill_server(first)
    assert (queue.started, queue.reasons, is_alive(trial)) == ([first], {}, True)
    end(first)
    _, other_server = read_processes(second)
    assert other_server != server
    assert queue.reasons == {first.id: "its process ended early, and its exit code is unknown"}
    end(second)
    assert [*read_processes(third)][1] == other_server
    end(third)
    thread.join(10)
    assert (queue.reasons[third.id], errors) == ("its process ended early with exit code 0", [])


def test_a_server_that_is_killed_while_it_starts_a_trial_is_replaced(start, monkeypatch):
    get_context, contexts = fork_server.get_context, []

    def get_context_and_kill(*arguments):
        contexts.append(get_context(*arguments))
        if len(contexts) == 2:  # the first call only warms the server up
            os.kill(fork_server.forkserver._forkserver._forkserver_pid, signal.SIGKILL)
        return contexts[-1]

    monkeypatch.setattr(fork_server, "get_context", get_context_and_kill)
    queue, thread, errors = start()
    for request in queue.all:
        read_processes(request)
        end(request)
    thread.join(10)
    assert ({*queue.reasons.values()}, errors) == ({"its process ended early with exit code 0"}, [])


@pytest.mark.slow
def test_the_time_limit_applies_to_a_trial_without_its_server(start):
    queue, thread, _ = start(timeout=3.0)
    first, second, _ = queue.all
    trial, _ = kill_server(first)
    read_processes(second)
    assert queue.reasons[first.id] == "took longer than sweep.timeout=3 seconds"
    assert not is_alive(trial)
    queue.requests.clear()
    end(second)
    thread.join(10)


def test_an_interrupted_sweep_ends_a_trial_without_its_server(start):
    queue, thread, errors = start()
    trial, _ = kill_server(queue.all[0])
    queue.is_interrupted = True
    thread.join(10)
    assert (errors, queue.reasons) == ([KeyboardInterrupt], {queue.all[0].id: None})
    assert not is_alive(trial)
