"""The tables of a sweep's report, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from expfw.reports.html.parameters import Parameter
from expfw.system.formatting import number
from expfw.tracking.ledger import Trial

_SHORT = 24
_OTHERS = ("test/accuracy", "val/accuracy", "test/loss", "val/loss")


@dataclass(frozen=True)
class Column:
    """One column over all trials.

    Attributes:
        kind: `number`, `text`, `status` or `code`: how it looks; about: more of its name, beside the mouse.
        keys: what a number is sorted by; empty texts come last. Without them, the texts.
    """

    name: str
    texts: Sequence[str]
    kind: str = "text"
    keys: Sequence[str] | None = None
    about: str = ""

    @property
    def head(self) -> str:
        numeric = ' class="number"' if self.kind == "number" else ""
        title = f' title="{escape(self.about)}"' if self.about else ""
        return f'<th scope="col"{numeric}{title}><button type="button">{escape(self.name)}</button></th>'

    def cell(self, row: int) -> str:
        text = escape(self.texts[row])
        if self.kind == "number":
            key = escape(self.texts[row] if self.keys is None else self.keys[row])
            return f'<td class="number" data-value="{key}">{text}</td>'
        if self.kind == "status":
            return f"<td>{status(self.texts[row])}</td>"
        if self.kind == "code":
            return f'<td class="whole"><code>{text}</code></td>'
        short = len(self.texts[row]) <= _SHORT
        return f'<td class="whole">{text}</td>' if short else f'<td><div class="long">{text}</div></td>'


def status(text: str) -> str:
    """A status in its colour."""
    return f'<span class="status {escape(text)}">{escape(text)}</span>'


def trials_table(
    trials: Sequence[Trial], parameters: Sequence[Parameter], metric: str, order: Sequence[int], best: int | None
) -> str:
    """All trials with all that was swept; a click on a header sorts by it.

    Args:
        order: the rows as they are shown first; best: the number of the best trial.
    """
    top = next((row for row in order if trials[row].number == best), None)
    return rows_table("All trials", _columns(trials, parameters, metric), order, top)


def rows_table(label: str, columns: Sequence[Column], order: Sequence[int], best: int | None) -> str:
    """Rows of columns in that order, one of them the best; a click on a header sorts by it."""
    rows = [
        f"<tr{' class=best' if row == best else ''}>{''.join(column.cell(row) for column in columns)}</tr>"
        for row in order
    ]
    return _scrolling(label, "".join(column.head for column in columns), rows)


def _columns(trials: Sequence[Trial], parameters: Sequence[Parameter], metric: str) -> list[Column]:
    objectives = {trial.objective_metric for trial in trials}
    others = [m for m in _OTHERS if m not in objectives and any(m in (t.metrics or {}) for t in trials)][:2]
    return [
        Column("trial", [str(trial.number) for trial in trials], "number"),
        *(_swept(parameter) for parameter in parameters),
        measured(metric, [trial.objective for trial in trials]),
        *(measured(name, [(trial.metrics or {}).get(name) for trial in trials]) for name in others),
        Column("status", [trial.status for trial in trials], "status"),
        Column("seconds", ["" if t.seconds is None else f"{t.seconds:.1f}" for t in trials], "number"),
        Column("run", [trial.run_id or "" for trial in trials], "code"),
        Column("folder", ["" if t.folder is None else f"trials/{Path(t.folder).name}" for t in trials], "code"),
    ]


def configurations_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts, in their order."""
    columns = [
        Column(name, texts, "status" if name == "status" else "text")
        for name, texts in zip(header, zip(*rows, strict=True), strict=True)
    ]
    made = [f"<tr>{''.join(column.cell(row) for column in columns)}</tr>" for row in range(len(rows))]
    return _scrolling("All configurations", "".join(column.head for column in columns), made)


def _swept(parameter: Parameter) -> Column:
    texts = ["" if text is None else text for text in parameter.texts]
    return Column(parameter.name, texts, "text" if parameter.numbers is None else "number", about=parameter.key)


def measured(name: str, values: Sequence[float | None]) -> Column:
    """The values of a metric."""
    texts = ["" if value is None else number(value) for value in values]
    return Column(name, texts, "number", [_key(value) for value in values])


def _key(value: float | None) -> str:
    """As JavaScript reads a number; nothing for what is none."""
    return "" if value is None or value != value else repr(value).replace("inf", "Infinity")


def failures_table(trials: Sequence[Trial]) -> str:
    """What went wrong with which trial."""
    rows = [
        f'<tr><td class="number">{trial.number}</td><td>{escape(trial.name)}</td><td>{status(trial.status)}</td>'
        f'<td class="reason">{escape(trial.error or "it was interrupted")}</td></tr>'
        for trial in trials
    ]
    heads = [f'<th scope="col"><span>{name}</span></th>' for name in ("trial", "swept", "status", "reason")]
    return _scrolling("Failures", "".join(heads), rows)


def _scrolling(label: str, heads: str, rows: Sequence[str]) -> str:
    return (
        f'<div class="card scroll" tabindex="0" role="region" aria-label="{label}"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def importance_table(shares: Sequence[tuple[Parameter, float | None]]) -> str:
    """A bar for each parameter."""
    rows = [
        f'<tr><td>{escape(parameter.name)}</td><td><div class="bar">{_bar(share)}</div></td>'
        f'<td class="number">{"cannot be said" if share is None else f"{share:.0%}"}</td></tr>'
        for parameter, share in shares
    ]
    return f'<div class="card"><table class="bars"><tbody>{"".join(rows)}</tbody></table></div>'


def _bar(share: float | None) -> str:
    return f'<div style="width:{share:.1%}"></div>' if share else ""
