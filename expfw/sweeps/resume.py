"""What is left to do of a sweep that goes on, found out before anything starts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from expfw.api.run import FINISHED, KILLED, PRUNED
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
    """Trials by number.

    Attributes:
        trials: as they are now, whatever became of them.
        finished_trials: those that stay; resume_requests: requests for those that go on. All others are made anew.
        retry_numbers: where it is given, nothing but these numbers is made.
    """

    trials: dict[int, Trial] = field(default_factory=dict)
    finished_trials: dict[int, Trial] = field(default_factory=dict)
    resume_requests: dict[int, Request] = field(default_factory=dict)
    retry_numbers: Sequence[int] | None = None


@dataclass(frozen=True)
class ResumeOptions:
    """How a sweep goes on.

    Attributes:
        accept_differences: whether trials may go on where the environment differs.
        retry_numbers: make only these trials anew, which have failed; None: do all that is left.
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
    """Looks at every trial that was made before.

    Args:
        make_trial_request: what a trial would be now.
        cores: processor cores that each of them will have; None: they run elsewhere, where it will be seen whether they
            can go on.

    Raises:
        ConfigError: a trial would no longer be the one that was made, or cannot go on to the same numbers.
    """
    resume_plan = ResumePlan(
        {trial.number: _wait_for_trial(trial, cores is not None) for trial in trials},
        retry_numbers=resume_options.retry_numbers,
    )
    for number, trial in resume_plan.trials.items():
        if trial.folder is None and trial.status in (FINISHED, PRUNED):
            resume_plan.finished_trials[number] = trial  # its folder was deleted, its result is kept
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
    """The trial as it is now; one that is about to leave, its sweep being gone, is waited for.

    Args:
        is_local: whether it was made on this machine, so that it is known at once whether it begins yet.
    """
    start = time.monotonic()
    while (current_trial := trial.read_current_state()).status == RUNNING and current_trial.folder is not None:
        is_alive = process_lock.has_live_process(Path(current_trial.folder))
        if time.monotonic() - start > (_STARTUP_SECONDS if is_local and not is_alive else _SHUTDOWN_SECONDS):
            if not is_alive:
                return replace(current_trial, status=WAITING)  # its process never came to begin
            raise ConfigError(f"{trial.title} still runs; wait until it has ended, or end it")
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
        *(f"the data changed: {line}" for line in find_data_differences(recorded_run, request.data)),
    ]
    _refuse_differences(trial.title, differences or ["its record does not tell what"], accept_differences)


def check_base_config(resume_options: ResumeOptions, base_config: RunConfig) -> None:
    """That the configuration a sweep begins with is still the one that it began with, whatever was made since.

    Raises:
        ConfigError: it is another one.
    """
    recorded_params = resume_options.entry.first.get("params")
    if recorded_params is not None:
        params = json.loads(json.dumps(make_config_record(base_config)["params"], default=str))
        if differences := [
            *find_differences(_select_relevant_params(params), _select_relevant_params(recorded_params))
        ]:
            _refuse_differences(f"sweep {resume_options.entry.id}", differences, resume_options.accept_differences)


def _refuse_differences(title: str, differences: Sequence[str], accept_differences: bool) -> None:
    if not accept_differences:
        raise ConfigError(
            f"{title} would no longer be the one that was made: {'; '.join(differences[:5])}; put that back, or begin "
            "a new sweep. With --accept-differences what is done stays as it is"
        )


def _select_relevant_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Those that count for the result, which a fingerprint is made of."""
    return {name: value for name, value in params.items() if name.partition(".")[0] not in KEYS_NOT_IN_FINGERPRINT}
