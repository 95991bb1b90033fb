"""HTML page of a sweep report: one file that contains everything it needs."""

from __future__ import annotations

import importlib.util
import json
import shlex
import string
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from expfw.api.result import FAILED, FINISHED, KILLED, PRUNED
from expfw.reports.html.charts import Figure
from expfw.tracking.ledger import Trial
from expfw.version import __version__

_TEMPLATES = Path(__file__).parent / "template"


@dataclass(frozen=True)
class SweepSummary:
    """Summary of a sweep, without its trials.

    Attributes:
        id: ID of the sweep.
        name: name of the sweep.
        status: status of the sweep.
        overrides: overrides of the sweep.
        plugin_arguments: values of `-p` that its commands need.
        metric: name of the objective metric.
        mode: `min` or `max`.
        planned_trials: total number of trials.
        start_time: start, in seconds since 1970.
        seconds: wall time in seconds, without interruptions.
    """

    id: str
    name: str
    status: str
    overrides: Sequence[str]
    plugin_arguments: Sequence[str]
    metric: str
    mode: str
    planned_trials: int
    start_time: float
    seconds: float


def render_page(title: str, sections: Sequence[str], figures: dict[str, Figure], hover_texts: dict[int, str]) -> str:
    """Returns the complete page, with its style, Plotly, figures and script."""
    plotly_spec = importlib.util.find_spec("plotly")  # the import is slow, and only one file of the package is needed
    if plotly_spec is None or plotly_spec.origin is None:
        raise FileNotFoundError("the package plotly is not installed; install it with: pip install plotly")
    template = string.Template((_TEMPLATES / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title),
        css=(_TEMPLATES / "page.css").read_text(encoding="utf-8"),
        body="\n".join(section for section in sections if section),
        plotly=(Path(plotly_spec.origin).parent / "package_data" / "plotly.min.js").read_text(encoding="utf-8"),
        figures=_dump_json({"figures": figures, "hover": hover_texts}),
        javascript=(_TEMPLATES / "page.js").read_text(encoding="utf-8"),
    )


def _dump_json(value: Any) -> str:
    """Returns JSON that is safe in a script element."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def render_header(summary: SweepSummary, trials: Sequence[Trial], best_command: str | None) -> str:
    """Renders the header: status, counts, and the commands that repeat the best trial and the sweep."""
    ended_trials = [trial for trial in trials if trial.status in (FINISHED, PRUNED, FAILED, KILLED)]
    descriptions = {
        "Status": f'<span class="status {escape(summary.status)}">{escape(summary.status)}</span>',
        "Trials": escape(f"{len(ended_trials)} of {summary.planned_trials}{_format_status_counts(trials)}"),
        "Objective": escape(f"{summary.metric}, {'lower' if summary.mode == 'min' else 'higher'} is better"),
        "Started": time.strftime("%Y-%m-%d %H:%M", time.localtime(summary.start_time)),
        "Duration": format_exact_duration(summary.seconds),
    }
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in descriptions.items())
    sweep_command = shlex.join(
        [
            "expfw",
            *(argument for file in summary.plugin_arguments for argument in ("-p", file)),
            "sweep",
            *summary.overrides,
        ]
    )
    best_html = (
        _render_command("Train the best trial again", best_command) if best_command else "<p>No trial has finished.</p>"
    )
    return (
        f'<header><h1>{escape(summary.name)}</h1><p class="quiet">sweep {escape(summary.id)}</p>'
        f'<dl class="summary">{rows}</dl></header>'
        f'<section class="card" id="best">{best_html}</section>'
        f'<section class="card" id="sweep">{_render_command("Run this sweep again", sweep_command)}</section>'
    )


def _format_status_counts(trials: Sequence[Trial]) -> str:
    other_statuses = [status for status in dict.fromkeys(trial.status for trial in trials) if status != FINISHED]
    counts = [
        f"{sum(trial.status == status for trial in trials)} {status.lower()}" for status in sorted(other_statuses)
    ]
    return f" ({', '.join(counts)})" if counts else ""


def _render_command(label: str, command: str) -> str:
    return (
        f'<p class="label">{label}</p><div class="command"><div class="code">{escape(command)}</div>'
        '<button type="button" class="copy">Copy</button></div>'
    )


def format_exact_duration(seconds: float) -> str:
    """Formats a duration: `8.2 s`, `4 min 10 s`, `3 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_seconds = divmod(round(seconds), 60)
    return f"{minutes} min {rest_seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def render_footer(command: str) -> str:
    """Renders the footer: time, version, and the command that writes the page again."""
    timestamp = time.strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"<footer>Written at {timestamp} by expfw {__version__}. To update this page: "
        f"<code>{escape(command)}</code></footer>"
    )
