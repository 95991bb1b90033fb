"""The commands that resume, verify, repeat and retry runs and sweeps."""

from __future__ import annotations

from collections.abc import Sequence

from expfw.api.result import FAILED, FINISHED, PRUNED
from expfw.cli import train
from expfw.config.compose import Composition
from expfw.errors import ConfigError, DataError, JournalError, TrustError, truncate_text
from expfw.plugins import disabling
from expfw.redaction import HIDDEN
from expfw.runs import exact_comparison, resume
from expfw.sweeps.resume import ResumeOptions
from expfw.system import cpu
from expfw.system.contained_paths import resolve_inside
from expfw.system.json_output import print_json, reserve_stdout_for_json
from expfw.system.redirection import redirect_noise
from expfw.tracking import run_index
from expfw.tracking.ledger import Ledger
from expfw.tracking.recorded_run import RUNNING
from expfw.tracking.run_index import Workspace


def resume_run(
    run_id: str, overrides: Sequence[str], accept_differences: bool, verify: bool, workspace: Workspace, as_json: bool
) -> int:
    """`expfw runs resume`."""
    run = workspace.find_run(run_id)
    if not verify:
        prepared = resume.prepare_resume(run, overrides, accept_differences)
        return train.run_prepared(prepared, as_json)
    with redirect_noise(), reserve_stdout_for_json():
        report = exact_comparison.verify_resume(run, overrides, accept_differences)
    if as_json:
        print_json({"id": run.id, "exact": report.is_exact, "text": report.text})
    else:
        print(report.text)
    return 0 if report.is_exact else 1


def rerun(run_id: str, secrets: Sequence[str], check: bool, workspace: Workspace, as_json: bool) -> int:
    """`expfw runs rerun`."""
    run = workspace.find_run(run_id)
    if check and run.status not in (FINISHED, PRUNED):
        raise ConfigError(
            f"run {run.id} is {run.status}; --check needs a finished run; to resume: "
            f"expfw runs resume {run.id}{workspace.runs_dir_option}"
        )
    cpu.limit_cores(run.cores)
    prepared, differences = resume.prepare_rerun(run, secrets)
    with train.print_run_at_exit(prepared.request, as_json, of=run.id) as json_fields:
        code = train.run_prepared(prepared, as_json=False)
        if not check or code != 0:
            return code
        new_run = run_index.find_run(workspace.runs_dir, prepared.request.id)
        report = exact_comparison.compare_runs(run.folder, new_run.folder, run.end_steps)
        json_fields["check"] = {"exact": report.is_exact, "text": report.text, "differences": differences}
        print(f"run {run.id} and its rerun {new_run.id}: {report.text}")
        for difference in differences:
            print(f"  {difference}")
    return 0 if report.is_exact else 1


def resume_sweep(sweep_id: str, accept_differences: bool, workspace: Workspace, as_json: bool) -> int:
    """`expfw sweeps resume`."""
    sweep = run_index.find_sweep(workspace.runs_dir, sweep_id)
    if sweep.status == FINISHED:
        raise ConfigError(f"sweep {sweep.id} is FINISHED; for other trials, start a new sweep")
    return _run_recorded_sweep(ResumeOptions(sweep, accept_differences, None), workspace, as_json)


def retry_trials(
    sweep_id: str, numbers: Sequence[int], failed: bool, accept_differences: bool, workspace: Workspace, as_json: bool
) -> int:
    """`expfw sweeps retry`."""
    sweep = run_index.find_sweep(workspace.runs_dir, sweep_id)
    statuses = {trial.number: trial.status for trial in Ledger(sweep.folder).read_trials()}
    failed_numbers = [number for number, status in statuses.items() if status == FAILED]
    for number in numbers:
        if number not in failed_numbers:
            raise ConfigError(
                f"trial {number} of sweep {sweep.id} is {statuses.get(number, 'unknown')}; expected a failed trial: "
                f"{', '.join(map(str, failed_numbers)) or 'none'}"
            )
    if not numbers and not failed:
        raise ConfigError(
            "no trials given; expected trial numbers, or --failed for all failed trials: expfw sweeps retry "
            f"{sweep.id} --failed{workspace.runs_dir_option}"
        )
    if not failed_numbers:
        raise ConfigError(f"sweep {sweep.id} has no failed trials to retry")
    options = ResumeOptions(sweep, accept_differences, sorted(set(numbers)) or failed_numbers)
    return _run_recorded_sweep(options, workspace, as_json)


def _run_recorded_sweep(options: ResumeOptions, workspace: Workspace, as_json: bool) -> int:
    sweep, record = options.entry, options.entry.first
    if sweep.status == RUNNING:
        status_command = f"expfw sweeps status {sweep.id}{workspace.runs_dir_option}"
        raise ConfigError(f"sweep {sweep.id} is already running; to see its progress: {status_command}")
    if "config_name" not in record:
        raise JournalError(
            f"the sweep in {sweep.folder} was recorded by another version of expfw and cannot be resumed; start a new "
            "sweep"
        )
    for path in sweep.folder.iterdir():
        resolve_inside(sweep.folder, path.name)  # the sweep would write through a link
    # `quiet` applied to the first command only.
    kept_overrides = [o for o in record["overrides"] if o.lstrip("+").partition("=")[0] != "quiet"]
    recorded_overrides = [*kept_overrides, *record.get("hydra", [])]
    if hidden_overrides := [override for override in recorded_overrides if HIDDEN in override]:
        raise ConfigError(
            f"{hidden_overrides[0]} of sweep {sweep.id} is a secret and not in the record, so the sweep cannot be "
            "resumed; start a new sweep"
        )
    hydra_overrides = [override for override in recorded_overrides if override.lstrip("+~").startswith("hydra")]
    if (hydra_overrides or record["config_dir"]) and not workspace.trusts_records:
        option = (*hydra_overrides, f"--config-dir {record['config_dir']}")[0]
        raise TrustError(
            f"the record of sweep {sweep.id} contains {truncate_text(option, 200)}; options of Hydra can run any "
            "program, so read the overrides of the sweep, then trust the record with --trust"
        )
    disabled_names = [name.removeprefix("no:") for name in record.get("disabled", [])]
    try:
        with disabling.use_variables(disabling.get_variables_disabling(disabled_names)):
            catalogue = workspace.trust.make_catalogue(f"sweep {sweep.id}", record["files"])
            composition = Composition(recorded_overrides, catalogue, record["config_name"], record["config_dir"])
            return train.run_sweep(composition, options, as_json)
    except DataError as error:
        error.add_note(f"(sweep {sweep.id} needs the data that it started with; restore the data)")
        raise
