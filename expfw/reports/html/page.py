"""The page of a sweep's report, from its sections to one text of HTML that needs no other file."""

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

from expfw.api.run import FAILED, FINISHED, KILLED, PRUNED
from expfw.reports.html.charts import Figure
from expfw.tracking.ledger import Trial
from expfw.version import __version__

_TEMPLATES = Path(__file__).parent / "template"


@dataclass(frozen=True)
class SweepSummary:
    """What a sweep is, beside its trials.

    Attributes:
        metric: what trials are compared by, in the direction of `mode`.
        planned_trials: how many trials it has in all.
        start_time: seconds since 1970; seconds: how long it went on, without the breaks between its lives.
        plugin_arguments: values of `-p` that its commands need.
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
    """The whole file: style, Plotly, figures and script are in it."""
    plotly_spec = importlib.util.find_spec("plotly")  # to import it takes long, and only one file of it is needed
    if plotly_spec is None or plotly_spec.origin is None:
        raise FileNotFoundError("the package plotly is not installed")
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
    """JSON that can stand in a page's script."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def render_header(summary: SweepSummary, trials: Sequence[Trial], best_command: str | None) -> str:
    """What it is, how it went, how to make the best trial again."""
    ended_trials = [trial for trial in trials if trial.status in (FINISHED, PRUNED, FAILED, KILLED)]
    descriptions = {
        "Status": f'<span class="status {escape(summary.status)}">{escape(summary.status)}</span>',
        "Trials": escape(f"{len(ended_trials)} of {summary.planned_trials}{_format_status_counts(trials)}"),
        "Objective": escape(f"{summary.metric}, {'less' if summary.mode == 'min' else 'more'} is better"),
        "Started": time.strftime("%Y-%m-%d %H:%M", time.localtime(summary.start_time)),
        "Took": format_exact_duration(summary.seconds),
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
        _render_command("The best trial again", best_command)
        if best_command
        else "<p>No trial has come to a good end.</p>"
    )
    return (
        f'<header><h1>{escape(summary.name)}</h1><p class="quiet">sweep {escape(summary.id)}</p>'
        f'<dl class="facts">{rows}</dl></header>'
        f'<section class="card" id="best">{best_html}</section>'
        f'<section class="card" id="sweep">{_render_command("This sweep again", sweep_command)}</section>'
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
    """For people: `8.2 s`, `4 min 10 s`, `3 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_seconds = divmod(round(seconds), 60)
    return f"{minutes} min {rest_seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def render_footer(command: str) -> str:
    """When it was written, by what, and how to do so again."""
    timestamp = time.strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"<footer>Written at {timestamp} by expfw {__version__}. To write it anew: "
        f"<code>{escape(command)}</code></footer>"
    )
