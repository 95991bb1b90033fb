"""Report of a sweep: one HTML file in the sweep folder that needs no network."""

from __future__ import annotations

import itertools
import logging
import shlex
import time
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from expfw.api.result import FAILED, FINISHED, KILLED, PRUNED
from expfw.reports.html import sections
from expfw.reports.html.figures import make_hover_text
from expfw.reports.html.page import Page
from expfw.reports.html.sections import Overview
from expfw.reports.sweep_summary import make_best_command
from expfw.system import atomic_files
from expfw.system.formatting import format_duration
from expfw.tracking import run_folders
from expfw.tracking.ledger import Trial
from expfw.tracking.recorded_run import RecordedRun, read_run

log = logging.getLogger("expfw")
REPORT_NAME = "report.html"


def try_write_report(
    sweep_folder: Path, trials: Sequence[Trial], status: str, add_artifact: Callable[[Path], None]
) -> None:
    """Writes the report and passes it to `add_artifact`; if this fails, logs a warning and returns."""
    try:
        add_artifact(write_report(sweep_folder, trials, status))
    except Exception as error:
        log.warning("cannot write the report of the sweep: %s: %s", type(error).__name__, error)


def write_report(sweep_folder: Path, trials: Sequence[Trial], status: str) -> Path:
    """Writes `report.html` atomically and returns its path; trials with unreadable journals have no curves."""
    sweep = read_run(sweep_folder)
    objective = sweep.starts[-1]["objective"]
    overview = Overview(sweep_folder, trials, str(objective["mode"]), str(objective["metric"]))
    title = sweep.name or "sweep"
    hover_texts = {
        trial.number: make_hover_text(
            f"trial {trial.number}  {trial.status}", trial.name.split(" ")[:12], trial.objective_metric, trial.objective
        )
        for trial in trials
    }
    page = Page(f"{title} · sweep {sweep.id}", hover_texts)
    page.add_html(f'<header><h1>{escape(title)}</h1><p class="quiet">sweep {escape(sweep.id)}</p>')
    page.add_html(f"{_render_summary(sweep, overview, status)}</header>{_render_commands(sweep, overview)}")
    sections.add_configurations(page, overview)
    sections.add_trials(page, overview)
    sections.add_parallel_coordinates(page, overview)
    sections.add_objective_against(page, overview)
    sections.add_learning_curves(page, overview)
    sections.add_importance(page, overview)
    sections.add_failures(page, overview)
    page.add_footer(f"expfw sweeps report {sweep.id}{run_folders.format_runs_dir_option(sweep.runs_dir)}")
    path = sweep_folder / REPORT_NAME
    atomic_files.write_bytes(path, page.render().encode("utf-8", "replace"))
    return path


def _render_summary(sweep: RecordedRun, overview: Overview, status: str) -> str:
    ended_count = sum(trial.status in (FINISHED, PRUNED, FAILED, KILLED) for trial in overview.trials)
    counts = Counter(trial.status.lower() for trial in overview.trials if trial.status != FINISHED)
    count_texts = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    pairs = itertools.pairwise(sweep.records)
    # The time of an interruption, which ends with a resume, does not count.
    seconds = sum(after["time"] - before["time"] for before, after in pairs if after["kind"] != "sweep_resumed")
    descriptions = {
        "Status": status,
        "Trials": f"{ended_count} of {sweep.starts[-1]['trials']}{f' ({count_texts})' if count_texts else ''}",
        "Objective": f"{overview.metric}, {'lower' if overview.mode == 'min' else 'higher'} is better",
        "Started": time.strftime("%Y-%m-%d %H:%M", time.localtime(sweep.first["time"])),
        "Duration": format_duration(seconds),
    }
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in descriptions.items())
    return f'<dl class="summary">{items}</dl>'


def _render_commands(sweep: RecordedRun, overview: Overview) -> str:
    """Renders the commands that repeat the best trial and the sweep."""
    start = sweep.starts[-1]
    plugin_arguments = [*start["files"], *start.get("disabled", [])]
    arguments = [*(argument for file in plugin_arguments for argument in ("-p", file)), "sweep", *start["overrides"]]
    commands = {
        "Train the best trial again": make_best_command(overview.trials, overview.mode, plugin_arguments),
        "Run this sweep again": shlex.join(["expfw", *arguments]),
    }
    cards = ""
    for section_id, (label, command) in zip(("best", "sweep"), commands.items(), strict=True):
        content = "<p>No trial has finished.</p>"
        if command is not None:
            code = f'<div class="code">{escape(command)}</div><button type="button" class="copy">Copy</button>'
            content = f'<p class="label">{label}</p><div class="command">{code}</div>'
        cards += f'<section class="card" id="{section_id}">{content}</section>'
    return cards
