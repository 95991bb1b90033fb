"""Plan for a resumed sweep: finished trials, trials to resume and trials to start."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from expfw.api.result import FINISHED, KILLED, PRUNED
from expfw.api.run_config import RunConfig
from expfw.config.freeze import KEYS_NOT_IN_FINGERPRINT
from expfw.errors import ConfigError
from expfw.runs.differences import find_differences
from expfw.runs.recorded_setup import find_data_differences, read_recorded_setup
from expfw.runs.request import Request
from expfw.runs.restore import ResumePoint
from expfw.runs.resume import prepare_resume
from expfw.system import process_lock
from expfw.tracking import run_index
from expfw.tracking.ledger import WAITING, Trial
from expfw.tracking.run_index import INTERRUPTED, RUNNING
from expfw.tracking.run_record import make_config_record

_SHUTDOWN_SECONDS, _STARTUP_SECONDS = 30.0, 2.0


@dataclass
class ResumePlan:
    """Plan to resume a sweep; trials that are neither finished nor resumed are started again.

    Attributes:
        trials: all recorded trials in their current state, by number.
        finished_trials: trials to keep, by number.
        resume_requests: requests of trials to resume, by number.
        retry_numbers: numbers of the only trials to start; None for all remaining trials.
    """

    trials: dict[int, Trial] = field(default_factory=dict)
    finished_trials: dict[int, Trial] = field(default_factory=dict)
    resume_requests: dict[int, Request] = field(default_factory=dict)
    retry_numbers: Sequence[int] | None = None


@dataclass(frozen=True)
class ResumeOptions:
    """Options to resume a sweep.

    Attributes:
        entry: sweep to resume.
        accept_differences: whether to resume trials although their environment differs.
        retry_numbers: numbers of the failed trials to start again; None to run all remaining trials.
    """

    entry: run_index.IndexEntry
    accept_differences: bool = False
    retry_numbers: Sequence[int] | None = None


def make_resume_plan(
    trials: Sequence[Trial],
    make_trial_request: Callable[[Trial], Request],
    resume_options: ResumeOptions,
    cores: int | None,
) -> ResumePlan:
    """Makes the plan from the recorded trials.

    Args:
        trials: recorded trials.
        make_trial_request: returns the current request of a trial.
        resume_options: options to resume the sweep.
        cores: CPU cores of each trial; None if trials run on other machines, which then check the environment.

    Raises:
        ConfigError: if the request of a recorded trial has changed, or if a trial cannot be resumed bit-identically.
    """
    resume_plan = ResumePlan(
        {trial.number: _wait_for_trial(trial, cores is not None) for trial in trials},
        retry_numbers=resume_options.retry_numbers,
    )
    for number, trial in resume_plan.trials.items():
        if trial.folder is None and trial.status in (FINISHED, PRUNED):
            resume_plan.finished_trials[number] = trial  # its run folder was deleted, its result is kept
        if trial.folder is None or trial.status not in (FINISHED, PRUNED, INTERRUPTED, KILLED):
            continue
        request = make_trial_request(trial)
        _check_drift(trial, request, resume_options.accept_differences)
        if trial.status in (FINISHED, PRUNED):
            resume_plan.finished_trials[number] = trial
        elif resume_plan.retry_numbers is None:
            entry = run_index.read_entry(Path(trial.folder))
            if cores is None:
                resume_point = ResumePoint(entry.folder, accept_differences=resume_options.accept_differences)
                resume_plan.resume_requests[number] = replace(
                    request, id=entry.id, overrides=(), resume_point=resume_point
                )
            else:
                resume_plan.resume_requests[number] = prepare_resume(
                    read_recorded_setup(entry),
                    Path(request.config.runs_dir),
                    (),
                    resume_options.accept_differences,
                    cores,
                ).request
    return resume_plan


def _wait_for_trial(trial: Trial, is_local: bool) -> Trial:
    """Returns the current state of a trial; waits for a trial that is still stopping after its sweep was killed.

    Args:
        trial: recorded trial.
        is_local: whether the trial ran on this machine, so that a missing process can be detected.
    """
    start = time.monotonic()
    while (current_trial := trial.read_current_state()).status == RUNNING and current_trial.folder is not None:
        is_alive = process_lock.has_live_process(Path(current_trial.folder))
        if time.monotonic() - start > (_STARTUP_SECONDS if is_local and not is_alive else _SHUTDOWN_SECONDS):
            if not is_alive:
                return replace(current_trial, status=WAITING)  # its process never started the run
            raise ConfigError(f"{trial.title} is still running; wait until it ends, or stop it")
        time.sleep(0.2)
    return current_trial


def _check_drift(trial: Trial, request: Request, accept_differences: bool) -> None:
    if trial.fingerprint == request.fingerprint:
        return
    recorded_run = read_recorded_setup(run_index.read_entry(Path(str(trial.folder))))
    differences = [
        *find_differences(
            _select_relevant_params(make_config_record(request.config)["params"]),
            _select_relevant_params(recorded_run.setup_record["params"]),
        ),
        *(f"the data has changed: {line}" for line in find_data_differences(recorded_run, request.data)),
    ]
    _reject_differences(trial.title, differences or ["the difference is not recorded"], accept_differences)


def check_base_config(resume_options: ResumeOptions, base_config: RunConfig) -> None:
    """Checks that the base configuration of a sweep has not changed since its start.

    Raises:
        ConfigError: if it has changed.
    """
    recorded_params = resume_options.entry.first.get("params")
    if recorded_params is not None:
        params = json.loads(json.dumps(make_config_record(base_config)["params"], default=str))
        if differences := [
            *find_differences(_select_relevant_params(params), _select_relevant_params(recorded_params))
        ]:
            _reject_differences(f"sweep {resume_options.entry.id}", differences, resume_options.accept_differences)


def _reject_differences(title: str, differences: Sequence[str], accept_differences: bool) -> None:
    if not accept_differences:
        raise ConfigError(
            f"{title} has changed since it was recorded: {'; '.join(differences[:5])}; undo the change, start a new "
            "sweep, or keep the finished trials with --accept-differences"
        )


def _select_relevant_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters that affect the result and are part of the fingerprint."""
    return {name: value for name, value in params.items() if name.partition(".")[0] not in KEYS_NOT_IN_FINGERPRINT}
