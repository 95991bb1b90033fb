"""The commands that list and show runs and sweeps."""

from __future__ import annotations

import logging
import shlex
import time
import webbrowser
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from expfw.api.result import FAILED, KILLED
from expfw.errors import ConfigError, JournalError, NotFoundError
from expfw.reports import console, sweep_summary
from expfw.reports.live import sweep_status
from expfw.reports.table import Column, Table
from expfw.system.formatting import format_value, join_some, pluralize
from expfw.system.json_output import print_json
from expfw.tracking import run_index
from expfw.tracking.recorded_run import DAMAGED, INTERRUPTED, RecordedRun, read_run
from expfw.tracking.run_folders import format_plugin_options
from expfw.tracking.run_index import Workspace
from expfw.tracking.shipper import delivery

log = logging.getLogger("expfw")
_NO_METRICS: Mapping[str, Any] = {"metrics": {}, "metrics_step": None, "metrics_epoch": None}
_COLUMNS = (Column("started", "code"), Column("status", "status"))


def list_runs(workspace: Workspace, as_json: bool) -> None:
    """`expfw runs list`."""
    all_recorded = run_index.list_all(workspace.runs_dir, includes_damaged=True)
    runs, values, rows = [run for run in all_recorded if not run.is_sweep and run.status != DAMAGED], [], []
    separator = "  " if console.make_console().width >= 100 else "\n"
    for run in runs:
        metrics, main_metrics = _NO_METRICS, ""
        with suppress(JournalError):  # no part of a damaged journal is read
            metrics = {name: getattr(run.result, name) for name in _NO_METRICS}
            main_metrics = console.format_main_metrics(run.result, max_count=2, separator=separator)
        values.append({**_describe(run), **metrics})
        rows.append([run.id, _format_start(run), run.status, run.name, main_metrics])
    _print_list("run", values, Table([Column("run", "code"), *_COLUMNS, "name", "metrics"], rows), workspace, as_json)
    if damaged := [run.id for run in all_recorded if run.status == DAMAGED]:
        log.warning(
            f"cannot list {pluralize(len(damaged), 'folder')} without a readable journal: {join_some(damaged)}; to "
            f"delete {damaged[0]}: expfw runs clean {damaged[0]}{workspace.runs_dir_option}"
        )
    unfinished = [run for run in runs if run.status in (INTERRUPTED, KILLED)]
    if unfinished and not as_json:
        count_note = f"   ({len(unfinished)} runs did not finish)" if len(unfinished) > 1 else ""
        print(f"to resume: {_make_resume_command(unfinished[0], workspace)}{count_note}")


def list_sweeps(workspace: Workspace, as_json: bool) -> None:
    """`expfw sweeps list`."""
    values, rows = [], []
    for sweep in run_index.list_sweeps(workspace.runs_dir):
        try:
            ended_count = sum(trial.has_result for trial in sweep_status.read_trials(sweep))
        except JournalError as error:  # the other sweeps are still listed
            log.warning("%s", error)
            ended_count = 0
        trials = sweep.first["trials"]
        values.append({**_describe(sweep), "ended": ended_count, "trials": trials})
        rows.append([sweep.id, _format_start(sweep), sweep.status, f"{ended_count}/{trials}", sweep.name])
    table = Table([Column("sweep", "code"), *_COLUMNS, "trials", "name"], rows)
    _print_list("sweep", values, table, workspace, as_json)


def _print_list(noun: str, values: Sequence[dict[str, Any]], table: Table, workspace: Workspace, as_json: bool) -> None:
    if not workspace.runs_dir.is_dir() and workspace.runs_dir != Path("runs"):
        folder = workspace.runs_dir.absolute()
        raise NotFoundError(f"runs folder {folder} does not exist; for another one: --runs-dir FOLDER")
    if as_json:
        print_json(values)
    elif values:
        console.make_console().print(table)
    else:
        print(f"no {noun}s in folder {workspace.runs_dir}; to start one: expfw {noun}")


def show_run(run_id: str, workspace: Workspace, as_json: bool) -> None:
    """`expfw runs show`."""
    run = run_index.find_run(workspace.runs_dir, run_id)
    try:
        starts = run.starts
    except JournalError as error:
        raise JournalError(f"{error}; to read the rest, back up the file, then delete that line") from error
    summary: dict[str, Any] = {
        **_describe(run),
        "started": _format_start(run),
        "steps": max((point.step for point in run.points), default=0),
        **{name: run.last[name] for name in ("steps", "epochs", "seconds", "error") if name in run.last},
        "metrics_step": run.result.metrics_step,
        "metrics_epoch": run.result.metrics_epoch,
        "overrides": "; then ".join(" ".join(start["overrides"]) or "none" for start in starts),
        **run.info,
    }
    messages = [record["text"] for record in run.select("message")]
    tracking = delivery.describe_progress(run.folder)
    if as_json:
        details = {"metrics": run.result.metrics, "messages": messages, "config": starts[-1]["params"]}
        print_json({**summary, "tracking": tracking, **details})
        return
    rows = [[key, format_value(value)] for key, value in summary.items() if value is not None]
    rows += [[name, format_value(value)] for name, value in sorted(run.result.metrics.items())]
    rows += [["message", text] for text in messages]
    rows += [[f"in {tracker}", progress] for tracker, progress in tracking.items()]
    errors = [record.get("exception") for record in run.select("failure")]
    if run.status == FAILED and errors[-1:] == [ConfigError.__name__] and not summary["steps"]:
        # Resuming would fail again.
        files = [word for file in starts[-1].get("files", {}) for word in ("-p", file)]
        rerun_command = shlex.join(["expfw", *files, "run", *starts[-1]["overrides"]])
        rows.append(["how to fix it", f"correct the configuration, then start a new run: {rerun_command}"])
    elif run.status in (INTERRUPTED, KILLED, FAILED):
        rows.append(["to resume", _make_resume_command(run, workspace)])
    console.make_console().print(Table(["", ""], rows))


def show_sweep(sweep_id: str, watch: bool, workspace: Workspace, as_json: bool) -> None:
    """`expfw sweeps status`."""
    if watch and as_json:
        raise ConfigError(
            f"--watch cannot be combined with --json; for JSON, repeat `expfw sweeps status {sweep_id} --json`"
        )
    sweep = run_index.find_sweep(workspace.runs_dir, sweep_id)
    if watch:
        sweep_status.watch_sweep(sweep)
        sweep = read_run(sweep.folder)
    trials = sweep_status.read_trials(sweep)
    if as_json:
        print_json({**_describe(sweep), "trials": [sweep_summary.serialize_trial(trial) for trial in trials]})
        return
    sweep_summary.print_trials(
        console.make_console(),
        trials,
        sweep.first["objective"]["mode"],
        f"sweep {sweep.id}  {sweep.status}  {sweep_status.format_counts(sweep, trials)}",
        [*sweep.first["files"], *sweep.first.get("disabled", [])],
        seeds=sweep.first.get("seeds", 1),
    )
    if sweep.status in (INTERRUPTED, KILLED, FAILED):
        print(f"to resume: {_make_resume_command(sweep, workspace)}")


def write_sweep_report(sweep_id: str, open_browser: bool, workspace: Workspace, as_json: bool) -> None:
    """`expfw sweeps report`."""
    from expfw.reports.html import report as html_report

    sweep = run_index.find_sweep(workspace.runs_dir, sweep_id)
    path = html_report.write_report(sweep.folder, sweep_status.read_trials(sweep), sweep.status)
    if as_json:
        print_json({"id": sweep.id, "status": sweep.status, "report": path})
    else:
        print(path)
    if open_browser:
        webbrowser.open(path.as_uri())


def _make_resume_command(run: RecordedRun, workspace: Workspace) -> str:
    """Returns the command that resumes a run or sweep."""
    noun, plugin_options = "sweeps" if run.is_sweep else "runs", format_plugin_options(run.first["files"])
    return f"expfw{plugin_options} {noun} resume {run.id}{workspace.runs_dir_option}"


def _describe(run: RecordedRun) -> dict[str, Any]:
    return {"id": run.id, "name": run.name, "status": run.status, "folder": str(run.folder)}


def _format_start(run: RecordedRun) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.first["time"]))
