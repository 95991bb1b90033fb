"""What the commands that only look print: runs, sweeps, plugins, as tables or JSON."""

from __future__ import annotations

import logging
import shlex
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expfw.api.run import FAILED, KILLED
from expfw.errors import ConfigError, JournalError, NotFoundError
from expfw.reports import console, tables
from expfw.reports.live import sweep_status
from expfw.system.json_output import print_json
from expfw.tracking import journal, run_folders, run_index
from expfw.tracking.ledger import WAITING
from expfw.tracking.run_index import INTERRUPTED, RUNNING
from expfw.tracking.shipper import delivery

log = logging.getLogger("expfw")
_BOTH_METRICS = 100  # columns, from which on both fit into a line
_END = ("steps", "epochs", "seconds", "error")


def runs(runs_dir: Path, as_json: bool) -> None:
    """`expfw runs list`."""
    _check_there(runs_dir)
    rows, values, known = [], [], []
    between = "\n" if console.screen().width < _BOTH_METRICS else "  "
    for entry in run_index.runs(runs_dir):
        metrics = _metrics(entry)
        known.append(entry.folder)
        values.append({**_what(entry), "metrics": metrics})
        told = console.main_metrics(metrics, most=2, between=between)
        rows.append([entry.id, _when(entry), entry.status, entry.name, told])
    header = ["run", "started", "status", "name", "metrics"]
    _print(as_json, values, header, rows, empty=f"no runs in {runs_dir}; begin with: expfw run")
    _tell_of_unreadable(run_index.unreadable(runs_dir, known), runs_dir)
    unfinished = [value["id"] for value in values if value["status"] in (INTERRUPTED, KILLED)]
    if unfinished and not as_json:
        more = f"   ({len(unfinished)} runs did not come to their end)" if len(unfinished) > 1 else ""
        print(f"to go on: expfw runs resume {unfinished[0]}{run_folders.option(runs_dir)}{more}")


def run(run_id: str, runs_dir: Path, as_json: bool) -> None:
    """`expfw runs show`."""
    entry = run_index.find_run(runs_dir, run_id)
    try:
        records, _ = journal.read(entry.folder / journal.NAME)
    except JournalError as error:
        raise JournalError(f"{error}; to see the rest, take that line out, and keep a copy") from error
    metrics: dict[str, float] = {}
    facts: dict[str, Any] = {}
    for record in records:
        metrics.update(record["values"] if record["kind"] == "metrics" else {})
        facts.update(record["values"] if record["kind"] == "facts" else {})
    messages = [record["text"] for record in records if record["kind"] == "message"]
    lives = [record for record in records if record["kind"] in ("run_started", "run_resumed")]
    steps = max((record["step"] for record in records if record["kind"] == "metrics"), default=0)
    ended = {"steps": steps} | {name: entry.last[name] for name in _END if name in entry.last}
    overrides = "; then ".join(" ".join(life["overrides"]) or "as it was" for life in lives)
    shown = {**_what(entry), "started": _when(entry), **ended, "overrides": overrides, **facts}
    tracked = delivery.progress(entry.folder)
    if as_json:
        shown["tracking"] = tracked
        print_json({**shown, "metrics": metrics, "messages": messages, "config": lives[-1]["params"]})
        return
    rows = [[key, _text(value)] for key, value in shown.items() if value is not None]
    rows += [[name, _text(value)] for name, value in sorted(metrics.items())]
    rows += [["message", text] for text in messages]
    rows += [[f"in {tracker}", how] for tracker, how in tracked.items()]
    if _was_a_mistake(records):
        files = [word for file in lives[-1].get("files", {}) for word in ("-p", file)]
        again = shlex.join(["expfw", *files, "run", *lives[-1]["overrides"]])
        rows.append(["what to do", f"correct that, and begin anew: {again}"])
    elif entry.status in (INTERRUPTED, KILLED, FAILED):
        rows.append(["to go on", f"expfw runs resume {entry.id}{run_folders.option(runs_dir)}"])
    console.screen().print(tables.plain_table(["", ""], rows))


def _was_a_mistake(records: Sequence[journal.Record]) -> bool:
    """Whether it failed by its configuration, before the first step: going on with that can only fail again."""
    if records[-1]["kind"] != "run_ended" or records[-1]["status"] != FAILED or records[-1]["steps"] > 0:
        return False
    failures = [record for record in records if record["kind"] == "failure"]
    return bool(failures) and failures[-1].get("exception") == ConfigError.__name__


def sweeps(runs_dir: Path, as_json: bool) -> None:
    """`expfw sweeps list`."""
    _check_there(runs_dir)
    rows, values = [], []
    for entry in run_index.sweeps(runs_dir):
        try:
            done = sum(trial.status not in (WAITING, RUNNING) for trial in sweep_status.trials(entry))
        except JournalError as error:  # the others are listed all the same
            log.warning("%s", error)
            done = 0
        values.append({**_what(entry), "ended": done, "trials": entry.first["trials"]})
        rows.append([entry.id, _when(entry), entry.status, f"{done}/{entry.first['trials']}", entry.name])
    header = ["sweep", "started", "status", "trials", "name"]
    _print(as_json, values, header, rows, empty=f"no sweeps in {runs_dir}; begin with: expfw sweep")


def sweep(sweep_id: str, runs_dir: Path, as_json: bool, watch: bool) -> None:
    """`expfw sweeps status`."""
    if watch and as_json:
        raise ConfigError(
            "--watch keeps a table up to date for people, --json says once how it is; take one of them, a program asks "
            f"`expfw sweeps status {sweep_id} --json` every now and then"
        )
    entry = run_index.find_sweep(runs_dir, sweep_id)
    if watch:
        sweep_status.watch(entry)
        entry = run_index.entry(entry.folder)
    trials = sweep_status.trials(entry)
    if as_json:
        print_json({**_what(entry), "trials": [tables.as_json(trial) for trial in trials]})
        return
    title = f"sweep {entry.id}  {entry.status}  {sweep_status.counts(entry, trials)}"
    plugins = [*entry.first["files"], *entry.first.get("switched_off", [])]
    tables.show(
        console.screen(), trials, entry.first["objective"]["mode"], title, plugins, seeds=sweep_status.seeds(entry)
    )
    if entry.status in (INTERRUPTED, KILLED, FAILED):
        print(f"to go on: expfw sweeps resume {entry.id}{run_folders.option(runs_dir)}")


def sweep_report(sweep_id: str, runs_dir: Path, opened: bool, as_json: bool = False) -> None:
    """`expfw sweeps report`."""
    from expfw.reports.html import report as html_report

    entry = run_index.find_sweep(runs_dir, sweep_id)
    path = html_report.write(entry.folder, sweep_status.trials(entry), entry.status)
    if as_json:
        print_json({"id": entry.id, "status": entry.status, "report": path})
    else:
        print(path)
    if opened:
        webbrowser.open(path.as_uri())


def _check_there(runs_dir: Path) -> None:
    """That a folder which somebody named is one; the usual one is made by the first run."""
    if not runs_dir.is_dir() and runs_dir != Path("runs"):
        raise NotFoundError(f"there is no folder {runs_dir.absolute()}; give the runs folder with --runs-dir FOLDER")


def _tell_of_unreadable(ones: Sequence[run_index.Entry], runs_dir: Path) -> None:
    if ones:
        ids = " ".join(one.id for one in ones[:5]) + (" ..." if len(ones) > 5 else "")
        what = "one folder has" if len(ones) == 1 else f"{len(ones)} folders have"
        delete = f"expfw runs clean {ones[0].id}{run_folders.option(runs_dir)}"
        log.warning(
            "%s no journal that can be read, and no row here: %s; to delete %s: %s", what, ids, ones[0].id, delete
        )


def _metrics(entry: run_index.Entry) -> dict[str, float]:
    """The last values; of a run that has not ended, by what it has logged so far."""
    if entry.last["kind"] == "run_ended":
        return dict(entry.last["metrics"])
    metrics: dict[str, float] = {}
    try:
        for _, values in journal.points(entry.folder / journal.NAME):
            metrics.update(values)
    except JournalError:
        return metrics  # a damaged journal is not read in part
    return metrics


def _what(entry: run_index.Entry) -> dict[str, Any]:
    return {"id": entry.id, "name": entry.name, "status": entry.status, "folder": str(entry.folder)}


def _when(entry: run_index.Entry) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.first["time"]))


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "null" if value is None else str(value)


def _print(as_json: bool, values: Any, header: list[str], rows: list[list[str]], empty: str) -> None:
    if as_json:
        print_json(values)
    elif rows:
        metrics = ("metrics",) * (console.screen().width >= _BOTH_METRICS)  # else a long one leaves no name room
        whole = ("run", "sweep", "status", "started", *metrics)
        console.screen().print(tables.plain_table(header, rows, whole=whole))
    else:
        print(empty)
