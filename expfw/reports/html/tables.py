"""Tables of a sweep report as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from expfw.reports.html.parameters import Parameter
from expfw.system.formatting import format_number
from expfw.tracking.ledger import Trial

_MAX_UNWRAPPED_LENGTH = 24
_OTHER_METRICS = ("test/accuracy", "val/accuracy", "test/loss", "val/loss")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: text of the header.
        texts: text of each row.
        kind: format of the cells: `number`, `text`, `status` or `code`.
        sort_keys: sort key of each row, for numbers; by default the texts. Empty keys are sorted last.
        tooltip: longer name, shown when the mouse is over the header.
    """

    name: str
    texts: Sequence[str]
    kind: str = "text"
    sort_keys: Sequence[str] | None = None
    tooltip: str = ""

    @property
    def header_html(self) -> str:
        numeric = ' class="number"' if self.kind == "number" else ""
        title = f' title="{escape(self.tooltip)}"' if self.tooltip else ""
        return f'<th scope="col"{numeric}{title}><button type="button">{escape(self.name)}</button></th>'

    def render_cell(self, row: int) -> str:
        text = escape(self.texts[row])
        if self.kind == "number":
            key = escape(self.texts[row] if self.sort_keys is None else self.sort_keys[row])
            return f'<td class="number" data-value="{key}">{text}</td>'
        if self.kind == "status":
            return f"<td>{render_status(self.texts[row])}</td>"
        if self.kind == "code":
            return f'<td class="whole"><code>{text}</code></td>'
        short = len(self.texts[row]) <= _MAX_UNWRAPPED_LENGTH
        return f'<td class="whole">{text}</td>' if short else f'<td><div class="long">{text}</div></td>'


def render_status(text: str) -> str:
    """Renders a status in its colour."""
    return f'<span class="status {escape(text)}">{escape(text)}</span>'


def render_trials_table(
    trials: Sequence[Trial], parameters: Sequence[Parameter], metric: str, order: Sequence[int], best_number: int | None
) -> str:
    """Renders all trials with their swept parameters; a click on a header sorts by its column.

    Args:
        trials: all trials.
        parameters: swept parameters.
        metric: name of the objective metric.
        order: initial order of the rows.
        best_number: number of the best trial, or None.
    """
    best_row = next((row for row in order if trials[row].number == best_number), None)
    return render_rows_table("All trials", _make_columns(trials, parameters, metric), order, best_row)


def render_rows_table(label: str, columns: Sequence[Column], order: Sequence[int], best_row: int | None) -> str:
    """Renders rows in this order and marks the best one; a click on a header sorts by its column."""
    rows = [
        f"<tr{' class=best' if row == best_row else ''}>{''.join(column.render_cell(row) for column in columns)}</tr>"
        for row in order
    ]
    return _render_scrolling_table(label, "".join(column.header_html for column in columns), rows)


def _make_columns(trials: Sequence[Trial], parameters: Sequence[Parameter], metric: str) -> list[Column]:
    objectives = {trial.objective_metric for trial in trials}
    other_metrics = [m for m in _OTHER_METRICS if m not in objectives and any(m in (t.metrics or {}) for t in trials)][
        :2
    ]
    return [
        Column("trial", [str(trial.number) for trial in trials], "number"),
        *(_make_parameter_column(parameter) for parameter in parameters),
        make_metric_column(metric, [trial.objective for trial in trials]),
        *(make_metric_column(name, [(trial.metrics or {}).get(name) for trial in trials]) for name in other_metrics),
        Column("status", [trial.status for trial in trials], "status"),
        Column("seconds", ["" if t.seconds is None else f"{t.seconds:.1f}" for t in trials], "number"),
        Column("run", [trial.run_id or "" for trial in trials], "code"),
        Column("folder", ["" if t.folder is None else f"trials/{Path(t.folder).name}" for t in trials], "code"),
    ]


def render_configurations_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Renders rows of text in this order."""
    columns = [
        Column(name, texts, "status" if name == "status" else "text")
        for name, texts in zip(header, zip(*rows, strict=True), strict=True)
    ]
    html_rows = [f"<tr>{''.join(column.render_cell(row) for column in columns)}</tr>" for row in range(len(rows))]
    return _render_scrolling_table("All configurations", "".join(column.header_html for column in columns), html_rows)


def _make_parameter_column(parameter: Parameter) -> Column:
    texts = ["" if text is None else text for text in parameter.texts]
    return Column(parameter.name, texts, "text" if parameter.numbers is None else "number", tooltip=parameter.key)


def make_metric_column(name: str, values: Sequence[float | None]) -> Column:
    """Creates the column of a metric."""
    texts = ["" if value is None else format_number(value) for value in values]
    return Column(name, texts, "number", [_format_sort_key(value) for value in values])


def _format_sort_key(value: float | None) -> str:
    """Formats a number for JavaScript; returns an empty string if it is missing or NaN."""
    return "" if value is None or value != value else repr(value).replace("inf", "Infinity")


def render_failures_table(trials: Sequence[Trial]) -> str:
    """Renders the failed trials with their errors."""
    rows = [
        f'<tr><td class="number">{trial.number}</td><td>{escape(trial.name)}</td><td>{render_status(trial.status)}</td>'
        f'<td class="reason">{escape(trial.error or "interrupted")}</td></tr>'
        for trial in trials
    ]
    header_cells = [f'<th scope="col"><span>{name}</span></th>' for name in ("trial", "parameters", "status", "reason")]
    return _render_scrolling_table("Failures", "".join(header_cells), rows)


def _render_scrolling_table(label: str, header_html: str, rows: Sequence[str]) -> str:
    return (
        f'<div class="card scroll" tabindex="0" role="region" aria-label="{label}"><table>'
        f"<thead><tr>{header_html}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def render_importance_table(importances: Sequence[tuple[Parameter, float | None]]) -> str:
    """Renders a bar for each parameter."""
    rows = [
        f'<tr><td>{escape(parameter.name)}</td><td><div class="bar">{_render_bar(share)}</div></td>'
        f'<td class="number">{"not available" if share is None else f"{share:.0%}"}</td></tr>'
        for parameter, share in importances
    ]
    return f'<div class="card"><table class="bars"><tbody>{"".join(rows)}</tbody></table></div>'


def _render_bar(share: float | None) -> str:
    return f'<div style="width:{share:.1%}"></div>' if share else ""
