"""Plan for a resumed sweep: finished trials, trials to resume and trials to start."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from expfw.api.result import FINISHED, KILLED, PRUNED
from expfw.api.run_config import RunConfig
from expfw.config.freeze import KEYS_NOT_IN_FINGERPRINT
from expfw.errors import ConfigError, JournalError
from expfw.plugins.trust import Trust
from expfw.runs.request import Request
from expfw.runs.restore import ResumePoint
from expfw.runs.resume import (
    check_record,
    find_code_differences,
    find_data_differences,
    find_differences,
    prepare_resume,
)
from expfw.system import process_lock
from expfw.system.json_values import normalize_json
from expfw.tracking.ledger import WAITING, Trial
from expfw.tracking.recorded_run import INTERRUPTED, RUNNING, RecordedRun, read_run
from expfw.tracking.run_record import make_config_record

_SHUTDOWN_SECONDS, _STARTUP_SECONDS = 30.0, 2.0
log = logging.getLogger("expfw")


@dataclass(frozen=True)
class ResumeOptions:
    """Options to resume a sweep.

    Attributes:
        accept_differences: whether to resume trials although their environment differs.
        retry_numbers: numbers of the failed trials to start again; None to run all remaining trials.
    """

    entry: RecordedRun
    accept_differences: bool = False
    retry_numbers: Sequence[int] | None = None


def plan_resume(
    trials: Sequence[Trial],
    make_trial_request: Callable[[int], Request],
    resume_options: ResumeOptions,
    cores: int | None,
) -> tuple[dict[int, Trial], dict[int, Request]]:
    """Returns the recorded trials in their current state, and the requests of those to resume, both by number.

    Trials that are neither finished nor resumed are started again, and so are those whose record is damaged.

    Args:
        make_trial_request: returns the current request of the trial with this number.
        cores: CPU cores of each trial; None if trials run on other machines, which then check the environment.

    Raises:
        ConfigError: if the request of a recorded trial has changed, or if a trial cannot be resumed bit-identically.
    """
    current_trials = {trial.number: _wait_for_trial(trial, cores is not None) for trial in trials}
    resume_requests = {}
    for number, trial in current_trials.items():
        is_interrupted = trial.status in (INTERRUPTED, KILLED)
        if trial.folder is None or not (is_interrupted or trial.status in (FINISHED, PRUNED)):
            continue  # the result of a finished trial is kept if its run folder was deleted
        request, accept = make_trial_request(number), resume_options.accept_differences
        try:
            if trial.fingerprint != request.fingerprint and not accept:
                recorded_run = read_run(Path(trial.folder))
                differences = _find_differences(request.config, recorded_run.params)
                differences += find_data_differences(recorded_run, request.data)
                differences += find_code_differences(recorded_run, request.code)
                _reject_differences(trial.title, differences)
            if is_interrupted and resume_options.retry_numbers is None:
                recorded_run = replace(read_run(Path(trial.folder)), trust=Trust(request.files))
                if cores is None:
                    check_record(recorded_run)
                    point = ResumePoint(recorded_run.folder, accept_differences=accept)
                    resume_request = replace(request, id=recorded_run.id, overrides=(), resume_point=point)
                else:
                    resume_request = prepare_resume(recorded_run, (), accept, cores).request
                resume_requests[number] = resume_request
        except JournalError as error:
            log.warning("%s starts again, as a new run: %s", trial.title, error)
            current_trials[number] = replace(trial, status=WAITING)
    return current_trials, resume_requests


def _wait_for_trial(trial: Trial, is_local: bool) -> Trial:
    """Returns the current state of a trial; waits for a trial that is still stopping after its sweep was killed.

    If the trial ran on this machine, a missing process is detected earlier.
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


def check_base_config(resume_options: ResumeOptions, base_config: RunConfig) -> None:
    """Raises ConfigError if the base configuration of a sweep has changed since its start."""
    differences = _find_differences(base_config, resume_options.entry.first.get("params", {}))
    if differences and not resume_options.accept_differences:
        _reject_differences(f"sweep {resume_options.entry.id}", differences)


def _find_differences(config: RunConfig, recorded_params: Mapping[str, Any]) -> list[str]:
    """Returns the differences of parameters that affect the result and are part of the fingerprint."""
    params = normalize_json(make_config_record(config)["params"])
    relevant_params = (
        {name: value for name, value in values.items() if name.partition(".")[0] not in KEYS_NOT_IN_FINGERPRINT}
        for values in (params, recorded_params)
    )
    return list(find_differences(*relevant_params))


def _reject_differences(title: str, differences: Sequence[str]) -> NoReturn:
    raise ConfigError(
        f"{title} has changed since it was recorded: {'; '.join(differences[:5]) or 'unknown differences'}; undo "
        "the change, start a new sweep, or keep the finished trials with --accept-differences"
    )
