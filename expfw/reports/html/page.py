"""HTML page with tables and figures: one file that contains everything it needs."""

from __future__ import annotations

import json
import string
import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from expfw.reports.html.figures import Figure
from expfw.reports.table import Table
from expfw.version import __version__

_TEMPLATES = Path(__file__).parent / "template"


class Page:
    """A page to which sections are added in their order.

    Args:
        title: title of the page.
        hover_texts: text of each trial or run, by the number that is in `customdata` of the figures.
    """

    def __init__(self, title: str, hover_texts: Mapping[int, str]) -> None:
        self._title = title
        self._hover_texts = hover_texts
        self._html: list[str] = []
        self._figures: dict[str, Figure] = {}

    def add_html(self, html: str) -> None:
        """Adds HTML without changes."""
        self._html.append(html)

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
        self.add_html(f'<section id="{section_id}"><h2>{escape(title)}</h2>{paragraph}{contents_html}</section>')

    def add_footer(self, command: str) -> None:
        """Adds time, version, and the command that writes the page again."""
        timestamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self.add_html(
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
            body="\n".join(self._html),
            plotly=get_plotlyjs(),
            figures=figures.replace("<", "\\u003c"),  # safe in a script element
            javascript=(_TEMPLATES / "page.js").read_text(encoding="utf-8"),
        )
