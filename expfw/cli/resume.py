"""The commands that resume, verify, repeat and retry runs and sweeps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from expfw.api.result import FAILED, FINISHED, PRUNED
from expfw.cli import json_results, train
from expfw.cli.output import TEXT, Output
from expfw.config.overrides import format_override
from expfw.errors import ConfigError, DataError, JournalError
from expfw.plugins import disabling
from expfw.plugins.catalogue import get_catalogue
from expfw.redaction import HIDDEN
from expfw.runs import exact_comparison, recorded_setup, resume, verification
from expfw.runs.recorded_setup import RecordedSetup
from expfw.sweeps.resume import ResumeOptions
from expfw.system import cpu
from expfw.system.json_output import print_json, reserve_stdout_for_json
from expfw.system.redirection import redirect_noise
from expfw.tracking.ledger import Ledger
from expfw.tracking.run_index import RUNNING, IndexEntry
from expfw.tracking.workspace import Workspace


def resume_run(
    run_id: str, workspace: Workspace, overrides: Sequence[str], accept_differences: bool, output: Output
) -> int:
    """`expfw runs resume`."""
    return train.run_prepared(
        resume.prepare_resume(_read_recorded_run(run_id, workspace), workspace.runs_dir, overrides, accept_differences),
        output,
    )


def verify_run(
    run_id: str, workspace: Workspace, secrets: Sequence[str], accept_differences: bool, output: Output
) -> int:
    """`expfw runs resume --verify`."""
    recorded_run = _read_recorded_run(run_id, workspace)
    with redirect_noise(Path(os.devnull)), reserve_stdout_for_json():
        report = verification.verify_resume(recorded_run, secrets, accept_differences)
    if output.is_json:
        print_json({"id": recorded_run.entry.id, "exact": report.is_exact, "text": report.text})
    else:
        print(report.text)
    return 0 if report.is_exact else 1


def rerun(run_id: str, workspace: Workspace, secrets: Sequence[str], check: bool, output: Output) -> int:
    """`expfw runs rerun`."""
    recorded_run = _read_recorded_run(run_id, workspace)
    if check and recorded_run.entry.status not in (FINISHED, PRUNED):
        raise ConfigError(
            f"run {recorded_run.entry.id} is {recorded_run.entry.status}; --check needs a finished run; to resume: "
            f"expfw runs resume {recorded_run.entry.id}{workspace.runs_dir_option}"
        )
    cpu.limit_cores(recorded_run.cores)
    prepared, differences = resume.prepare_rerun(recorded_run, workspace.runs_dir, secrets)
    no_json: AbstractContextManager[dict[str, Any]] = nullcontext({})
    with (
        json_results.print_run_at_exit(prepared.request, of=recorded_run.entry.id)
        if output.is_json
        else no_json as json_fields
    ):
        code = train.run_prepared(prepared, TEXT)
        if not check or code != 0:
            return code
        rerun_entry = workspace.find_run(prepared.request.id)
        report = exact_comparison.compare_runs(recorded_run.entry.folder, rerun_entry.folder, recorded_run.end_steps)
        json_fields["check"] = {"exact": report.is_exact, "text": report.text, "differences": differences}
        print(f"run {recorded_run.entry.id} and its rerun {rerun_entry.id}: {report.text}")
        for difference in differences:
            print(f"  {difference}")
    return 0 if report.is_exact else 1


def resume_sweep(sweep_id: str, workspace: Workspace, accept_differences: bool, output: Output) -> int:
    """`expfw sweeps resume`."""
    entry = _find_ended_sweep(sweep_id, workspace)
    if entry.status == FINISHED:
        raise ConfigError(f"sweep {entry.id} is FINISHED; for other trials, start a new sweep")
    return _run_recorded_sweep(entry, workspace, accept_differences, None, output)


def retry_trials(
    sweep_id: str,
    workspace: Workspace,
    numbers: Sequence[int],
    all_failed: bool,
    accept_differences: bool,
    output: Output,
) -> int:
    """`expfw sweeps retry`."""
    entry = _find_ended_sweep(sweep_id, workspace)
    trials = {trial.number: trial for trial in Ledger(entry.folder).read_trials()}
    failed_numbers = [number for number, trial in trials.items() if trial.status == FAILED]
    if wrong_numbers := [number for number in numbers if number not in failed_numbers]:
        status = trials[wrong_numbers[0]].status if wrong_numbers[0] in trials else "unknown"
        failed_list = ", ".join(map(str, failed_numbers)) or "none"
        raise ConfigError(
            f"trial {wrong_numbers[0]} of sweep {entry.id} is {status}; expected a failed trial: {failed_list}"
        )
    if not numbers and not all_failed:
        runs_dir_option = workspace.runs_dir_option
        raise ConfigError(
            "no trials given; expected trial numbers, or --failed for all failed trials: expfw sweeps retry "
            f"{entry.id} --failed{runs_dir_option}"
        )
    if not failed_numbers:
        raise ConfigError(f"sweep {entry.id} has no failed trials to retry")
    return _run_recorded_sweep(entry, workspace, accept_differences, sorted(set(numbers)) or failed_numbers, output)


def _find_ended_sweep(sweep_id: str, workspace: Workspace) -> IndexEntry:
    entry = workspace.find_sweep(sweep_id)
    if entry.status == RUNNING:
        status_command = f"expfw sweeps status {entry.id}{workspace.runs_dir_option}"
        raise ConfigError(f"sweep {entry.id} is already running; to see its progress: {status_command}")
    return entry


def _run_recorded_sweep(
    entry: IndexEntry,
    workspace: Workspace,
    accept_differences: bool,
    retry_numbers: Sequence[int] | None,
    output: Output,
) -> int:
    first_record = entry.first
    if "config_name" not in first_record:
        raise JournalError(
            f"the sweep in {entry.folder} was recorded by another version of expfw and cannot be resumed; start a new "
            "sweep"
        )
    # `quiet` applied to the first command only.
    kept_overrides = [word for word in first_record["overrides"] if word.lstrip("+").partition("=")[0] != "quiet"]
    recorded_overrides = [*kept_overrides, *first_record.get("hydra", [])]
    if hidden_overrides := [word for word in recorded_overrides if HIDDEN in word]:
        raise ConfigError(
            f"{hidden_overrides[0]} of sweep {entry.id} is a secret and not in the record, so the sweep cannot be "
            "resumed; start a new sweep"
        )
    if missing_files := [file for file in first_record["files"] if not Path(file).is_file()]:
        raise ConfigError(f"sweep {entry.id} needs the plugin file {missing_files[0]}, which is missing; restore it")
    overrides = [*recorded_overrides, format_override("runs_dir", workspace.runs_dir.absolute())]
    resume_options = ResumeOptions(entry, accept_differences, retry_numbers)
    config_name, config_dir = first_record["config_name"], first_record["config_dir"]
    disabled_names = [word.removeprefix("no:") for word in first_record.get("disabled", [])]
    try:
        with disabling.use_variables(disabling.get_variables_disabling(disabled_names)):
            catalogue = get_catalogue(tuple(first_record["files"]))
            return train.run_sweep(overrides, catalogue, config_name, config_dir, resume_options, output)
    except DataError as error:
        error.add_note(f"(sweep {entry.id} needs the data that it started with; restore the data)")
        raise


def _read_recorded_run(run_id: str, workspace: Workspace) -> RecordedSetup:
    return recorded_setup.read_recorded_setup(workspace.find_run(run_id))
