"""The commands that list and show runs and sweeps."""

from __future__ import annotations

import logging
import shlex
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expfw.api.result import FAILED, KILLED
from expfw.cli.output import Output
from expfw.errors import ConfigError, JournalError, NotFoundError
from expfw.reports import console, tables
from expfw.reports.live import sweep_status
from expfw.system.formatting import format_value
from expfw.system.json_output import print_json
from expfw.tracking import journal, run_index
from expfw.tracking.ledger import WAITING
from expfw.tracking.run_index import INTERRUPTED, RUNNING
from expfw.tracking.shipper import delivery
from expfw.tracking.workspace import Workspace

log = logging.getLogger("expfw")
_TWO_METRICS_COLUMNS = 100  # smallest width with two metrics in one line
_RESULT_FIELDS = ("steps", "epochs", "seconds", "error")


def list_runs(workspace: Workspace, output: Output) -> None:
    """`expfw runs list`."""
    _check_runs_dir(workspace)
    rows, values, readable_folders = [], [], []
    separator = "\n" if console.make_console().width < _TWO_METRICS_COLUMNS else "  "
    for entry in workspace.list_runs():
        metrics = _read_metrics(entry)
        readable_folders.append(entry.folder)
        values.append({**_describe_entry(entry), "metrics": metrics})
        main_metrics = console.format_main_metrics(metrics, max_count=2, separator=separator)
        rows.append([entry.id, _format_start_time(entry), entry.status, entry.name, main_metrics])
    header = ["run", "started", "status", "name", "metrics"]
    empty_message = f"no runs in folder {workspace.runs_dir}; to start one: expfw run"
    _print_rows(output, values, header, rows, empty_message)
    _warn_of_unreadable(run_index.list_damaged_entries(workspace.runs_dir, readable_folders), workspace)
    unfinished = [value["id"] for value in values if value["status"] in (INTERRUPTED, KILLED)]
    if unfinished and not output.is_json:
        count_note = f"   ({len(unfinished)} runs did not finish)" if len(unfinished) > 1 else ""
        print(f"to resume: expfw runs resume {unfinished[0]}{workspace.runs_dir_option}{count_note}")


def show_run(run_id: str, workspace: Workspace, output: Output) -> None:
    """`expfw runs show`."""
    entry = workspace.find_run(run_id)
    try:
        records, _ = journal.read_records(entry.folder / journal.NAME)
    except JournalError as error:
        raise JournalError(f"{error}; to read the rest, back up the file, then delete that line") from error
    metrics: dict[str, float] = {}
    info: dict[str, Any] = {}
    for record in records:
        metrics.update(record["values"] if record["kind"] == "metrics" else {})
        info.update(record["values"] if record["kind"] == "info" else {})
    messages = [record["text"] for record in records if record["kind"] == "message"]
    start_records = [record for record in records if record["kind"] in ("run_started", "run_resumed")]
    steps = max((record["step"] for record in records if record["kind"] == "metrics"), default=0)
    result = {"steps": steps} | {name: entry.last[name] for name in _RESULT_FIELDS if name in entry.last}
    overrides = "; then ".join(" ".join(start_record["overrides"]) or "none" for start_record in start_records)
    summary = {
        **_describe_entry(entry),
        "started": _format_start_time(entry),
        **result,
        "overrides": overrides,
        **info,
    }
    tracking = delivery.describe_progress(entry.folder)
    if output.is_json:
        summary["tracking"] = tracking
        print_json({**summary, "metrics": metrics, "messages": messages, "config": start_records[-1]["params"]})
        return
    rows = [[key, format_value(value)] for key, value in summary.items() if value is not None]
    rows += [[name, format_value(value)] for name, value in sorted(metrics.items())]
    rows += [["message", text] for text in messages]
    rows += [[f"in {tracker}", progress] for tracker, progress in tracking.items()]
    if _is_configuration_failure(records):
        files = [word for file in start_records[-1].get("files", {}) for word in ("-p", file)]
        rerun_command = shlex.join(["expfw", *files, "run", *start_records[-1]["overrides"]])
        rows.append(["how to fix it", f"correct the configuration, then start a new run: {rerun_command}"])
    elif entry.status in (INTERRUPTED, KILLED, FAILED):
        rows.append(["to resume", f"expfw runs resume {entry.id}{workspace.runs_dir_option}"])
    console.make_console().print(tables.make_plain_table(["", ""], rows))


def _is_configuration_failure(records: Sequence[journal.Record]) -> bool:
    """Whether the configuration made the run fail before the first step; resuming it would fail again."""
    if records[-1]["kind"] != "run_ended" or records[-1]["status"] != FAILED or records[-1]["steps"] > 0:
        return False
    failures = [record for record in records if record["kind"] == "failure"]
    return bool(failures) and failures[-1].get("exception") == ConfigError.__name__


def list_sweeps(workspace: Workspace, output: Output) -> None:
    """`expfw sweeps list`."""
    _check_runs_dir(workspace)
    rows, values = [], []
    for entry in workspace.list_sweeps():
        try:
            ended_count = sum(trial.status not in (WAITING, RUNNING) for trial in sweep_status.read_trials(entry))
        except JournalError as error:  # the other sweeps are still listed
            log.warning("%s", error)
            ended_count = 0
        values.append({**_describe_entry(entry), "ended": ended_count, "trials": entry.first["trials"]})
        rows.append(
            [entry.id, _format_start_time(entry), entry.status, f"{ended_count}/{entry.first['trials']}", entry.name]
        )
    header = ["sweep", "started", "status", "trials", "name"]
    empty_message = f"no sweeps in folder {workspace.runs_dir}; to start one: expfw sweep"
    _print_rows(output, values, header, rows, empty_message)


def show_sweep(sweep_id: str, workspace: Workspace, output: Output, watch: bool) -> None:
    """`expfw sweeps status`."""
    if watch and output.is_json:
        raise ConfigError(
            f"--watch cannot be combined with --json; for JSON, repeat `expfw sweeps status {sweep_id} --json`"
        )
    entry = workspace.find_sweep(sweep_id)
    if watch:
        sweep_status.watch_sweep(entry)
        entry = run_index.read_entry(entry.folder)
    trials = sweep_status.read_trials(entry)
    if output.is_json:
        print_json({**_describe_entry(entry), "trials": [tables.serialize_trial(trial) for trial in trials]})
        return
    title = f"sweep {entry.id}  {entry.status}  {sweep_status.format_counts(entry, trials)}"
    plugin_arguments = [*entry.first["files"], *entry.first.get("disabled", [])]
    tables.print_trials(
        console.make_console(),
        trials,
        entry.first["objective"]["mode"],
        title,
        plugin_arguments,
        seeds=sweep_status.get_seed_count(entry),
    )
    if entry.status in (INTERRUPTED, KILLED, FAILED):
        print(f"to resume: expfw sweeps resume {entry.id}{workspace.runs_dir_option}")


def write_sweep_report(sweep_id: str, workspace: Workspace, open_browser: bool, output: Output) -> None:
    """`expfw sweeps report`."""
    from expfw.reports.html import report as html_report

    entry = workspace.find_sweep(sweep_id)
    path = html_report.write_report(entry.folder, sweep_status.read_trials(entry), entry.status)
    if output.is_json:
        print_json({"id": entry.id, "status": entry.status, "report": path})
    else:
        print(path)
    if open_browser:
        webbrowser.open(path.as_uri())


def _check_runs_dir(workspace: Workspace) -> None:
    """Raises NotFoundError if the runs folder does not exist and is not the default one."""
    if not workspace.runs_dir.is_dir() and workspace.runs_dir != Path("runs"):
        raise NotFoundError(
            f"runs folder {workspace.runs_dir.absolute()} does not exist; for another one: --runs-dir FOLDER"
        )


def _warn_of_unreadable(entries: Sequence[run_index.IndexEntry], workspace: Workspace) -> None:
    if entries:
        ids = " ".join(entry.id for entry in entries[:5]) + (" ..." if len(entries) > 5 else "")
        subject = "one folder has" if len(entries) == 1 else f"{len(entries)} folders have"
        delete_command = f"expfw runs clean {entries[0].id}{workspace.runs_dir_option}"
        log.warning(
            "%s no readable journal and cannot be listed: %s; to delete %s: %s",
            subject,
            ids,
            entries[0].id,
            delete_command,
        )


def _read_metrics(entry: run_index.IndexEntry) -> dict[str, float]:
    """Returns the last value of each metric, also of a run in progress."""
    if entry.last["kind"] == "run_ended":
        return dict(entry.last["metrics"])
    metrics: dict[str, float] = {}
    try:
        for _, values in journal.read_points(entry.folder / journal.NAME):
            metrics.update(values)
    except JournalError:
        return metrics  # no part of a damaged journal is read
    return metrics


def _describe_entry(entry: run_index.IndexEntry) -> dict[str, Any]:
    return {"id": entry.id, "name": entry.name, "status": entry.status, "folder": str(entry.folder)}


def _format_start_time(entry: run_index.IndexEntry) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.first["time"]))


def _print_rows(output: Output, values: Any, header: list[str], rows: list[list[str]], empty_message: str) -> None:
    if output.is_json:
        print_json(values)
    elif rows:
        # In a narrow terminal, long metrics would leave no space for the name.
        metrics = ("metrics",) * (console.make_console().width >= _TWO_METRICS_COLUMNS)
        unwrapped_columns = ("run", "sweep", "status", "started", *metrics)
        console.make_console().print(tables.make_plain_table(header, rows, no_wrap=unwrapped_columns))
    else:
        print(empty_message)
