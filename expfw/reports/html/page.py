"""HTML page with tables and figures: one file that contains everything it needs."""

from __future__ import annotations

import json
import string
import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from expfw.reports.html import curves
from expfw.reports.html.figures import Figure, draw_learning_curves
from expfw.reports.table import Table
from expfw.system.formatting import pluralize
from expfw.version import __version__

_TEMPLATES = Path(__file__).parent / "template"
_MAX_CURVE_FIGURES = 16


class Page:
    """A page to which sections are added in their order.

    Args:
        title: title of the page.
        hover_texts: text of each trial or run, by the number that is in `customdata` of the figures.

    Attributes:
        html: parts of the body.
    """

    def __init__(self, title: str, hover_texts: Mapping[int, str]) -> None:
        self._title = title
        self._hover_texts = hover_texts
        self.html: list[str] = []
        self._figures: dict[str, Figure] = {}

    def add_section(
        self,
        section_id: str,
        title: str,
        sentences: Sequence[str],
        *contents: Table | Figure,
        best_row: int | None = None,
    ) -> None:
        """Adds a section: title, explanation and content.

        Args:
            section_id: ID of the section's element; figures have the IDs `ID-0`, `ID-1` and so on.
            title: title of the section.
            sentences: explanation, in one paragraph.
            contents: tables and figures.
            best_row: row to mark in the tables.
        """
        parts = []
        for index, content in enumerate(contents):
            if isinstance(content, Table):
                parts.append(content.to_html(title, best_row))
            else:
                plot_id = f"{section_id}-{index}"
                self._figures[plot_id] = content
                plot = f'<div class="plot" id="{plot_id}" style="height:{content["layout"]["height"]}px"></div>'
                parts.append(f'<div class="card figure">{plot}</div>')
        paragraph = f'<p class="quiet">{escape(" ".join(sentences))}</p>' if sentences else ""
        contents_html = f'<div class="contents">{"".join(parts)}</div>'
        self.html.append(f'<section id="{section_id}"><h2>{escape(title)}</h2>{paragraph}{contents_html}</section>')

    def add_learning_curves(
        self, noun: str, ranked_runs: Sequence[tuple[int, str, Path]], metrics: Sequence[str], best_number: int | None
    ) -> None:
        """Adds a figure for each metric over the steps, with the best run on top of the others.

        Args:
            noun: `run` or `trial`.
            ranked_runs: number on the page, name and folder of each run, best first.
            metrics: names of metrics.
            best_number: number of the best run, or None.
        """
        curves_by_metric, unreadable_count = curves.read_curves(ranked_runs, metrics)
        drawn = [draw_learning_curves(metric, lines, best_number) for metric, lines in curves_by_metric.items()]
        sentences = [f"Better {noun}s have stronger colours. The best {noun} has a thick line."]
        if not drawn:
            sentences = [f"No {noun} has a metric with more than one point."]
        elif len(ranked_runs) > curves.MAX_CURVES:
            sentences.append(f"Shows the best {curves.MAX_CURVES} {noun}s.")
        if any(len(line.steps) == curves.MAX_POINTS for lines in curves_by_metric.values() for line in lines):
            sentences.append(f"Long curves show {curves.MAX_POINTS} evenly spaced points.")
        if unreadable_count:
            sentences.append(f"The journals of {pluralize(unreadable_count, noun)} cannot be read.")
        self.add_section("learning", "Learning curves", sentences, *drawn[:_MAX_CURVE_FIGURES])

    def add_footer(self, command: str) -> None:
        """Adds time, version, and the command that writes the page again."""
        timestamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self.html.append(
            f"<footer>Written at {timestamp} by expfw {__version__}. To update this page: "
            f"<code>{escape(command)}</code></footer>"
        )

    def render(self) -> str:
        """Returns the complete page, with its style, Plotly, figures and script."""
        from plotly.offline import get_plotlyjs

        figures = json.dumps(
            {"figures": self._figures, "hover": self._hover_texts}, allow_nan=False, separators=(",", ":")
        )
        return string.Template((_TEMPLATES / "page.html").read_text(encoding="utf-8")).substitute(
            title=escape(self._title),
            css=(_TEMPLATES / "page.css").read_text(encoding="utf-8"),
            body="\n".join(self.html),
            plotly=get_plotlyjs(),
            figures=figures.replace("<", "\\u003c"),  # safe in a script element
            javascript=(_TEMPLATES / "page.js").read_text(encoding="utf-8"),
        )
