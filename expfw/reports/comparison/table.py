"""Comparison of runs for the terminal: a column for each run, or a row for each if the columns do not fit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from expfw.errors import truncate_text
from expfw.reports.comparison.compared_runs import RunComparison
from expfw.reports.sweep_summary import shorten_keys
from expfw.reports.table import Column, Table
from expfw.system import formatting

if TYPE_CHECKING:
    from rich.console import Console

_MAX_TEXT_LENGTH = 24
BEST_MARK = "*"


def print_comparison(console: Console, comparison: RunComparison, show_all: bool) -> None:
    """Prints a comparison; `show_all` adds the parameters that are the same."""
    table = _make_table_of_columns(comparison, show_all)
    if sum(table.measure_columns()) <= console.width:
        console.print(table)
    else:
        table = make_table_of_rows(comparison)
        console.print(table)
        fitting_titles = {column.title for column in table.fit(console.width).columns}
        if titles := [column.title for column in table.columns if column.title not in fitting_titles]:
            more = f" and {len(titles) - 8} more" if len(titles) > 8 else ""
            console.print(f"omitted columns: {', '.join(titles[:8])}{more}")
            console.print("to see more: a wider terminal, fewer runs, --metric NAME, --json or --html")
        if show_all:
            console.print(make_table_of_same_parameters(comparison))
    differing, same = comparison.params
    same_text = f"{formatting.pluralize(len(same), 'parameter')} {'is' if len(same) == 1 else 'are'} the same"
    if not differing:
        console.print(f"all {same_text}" if len(same) > 1 else same_text)
    elif not show_all:
        console.print(f"{same_text} (--all shows them)")
    if any(comparison.find_best_values(metric) for metric in comparison.metrics):
        console.print(f"{BEST_MARK} best value")
    names = ", ".join(comparison.environment)
    console.print(f"environment differences: {names}" if names else "versions and threads are the same")
    if count := len(comparison.other_packages):
        text = f"{formatting.pluralize(count, 'other package')} {'has' if count == 1 else 'have'} different versions"
        console.print(f"{text}, which do not affect results (--json and --html list them)")


def _make_table_of_columns(comparison: RunComparison, show_all: bool) -> Table:
    runs, (differing, same) = comparison.runs, comparison.params
    sections = [
        [
            ["name", *(format_parameter(run.name) for run in runs)],
            ["status", *(run.status for run in runs)],
            ["duration", *(formatting.format_duration(seconds) for seconds in comparison.seconds)],
        ],
        [[key, *map(format_parameter, values)] for key, values in differing.items()],
        [[key, *[format_parameter(value)] * len(runs)] for key, value in same.items()] if show_all else [],
        _make_metric_rows(comparison),
        [[name, *values] for name, values in comparison.environment.items()],
    ]
    columns = [Column(""), *(Column(run.id, "code") for run in runs), *[Column("difference")] * (len(runs) == 2)]
    rows: list[list[str | None]] = []
    for section in sections:
        if section and rows:
            rows.append([None] * len(columns))
        rows += [[*row, *[None] * (len(columns) - len(row))] for row in section]
    return Table(columns, rows)


def _make_metric_rows(comparison: RunComparison) -> list[list[str]]:
    """Returns a row for each metric, after a row with the epoch or step of the metrics."""
    rows = [["metrics of", *(run.result.position or "-" for run in comparison.runs)]]
    for metric in comparison.metrics:
        values, best_values = comparison.get_values(metric), comparison.find_best_values(metric)
        row = [metric, *("-" if value is None else _format_metric(best_values, value) for value in values)]
        if len(values) == 2 and values[0] is not None and values[1] is not None:
            row.append(f"{values[1] - values[0]:+.3g}")
        rows.append(row)
    return rows


def _format_metric(best_values: Collection[float], value: float) -> str:
    return f"{formatting.format_number(value)}{BEST_MARK if value in best_values else ''}"


def make_table_of_rows(comparison: RunComparison) -> Table:
    """Returns a table with a row for each run; the objective and the parameters with most distinct values fit first."""
    runs, (differing, _) = comparison.runs, comparison.params
    columns: list[tuple[Column, Sequence[Any]]] = [(Column("run", "code"), [run.id for run in runs])]
    keys = sorted(differing, key=lambda key: -len(set(map(format_parameter, differing[key]))))
    names = shorten_keys([key.removesuffix(".plugin").removesuffix(".name") for key in keys])
    for rank, (key, name) in enumerate(zip(keys, names, strict=True)):
        column = Column(name, format=format_parameter, drop_order=1000 - rank if rank < 3 else 800 - rank, tooltip=key)
        columns.append((column, differing[key]))
    columns += [
        (Column("metrics of", "code", drop_order=940), [run.result.position for run in runs]),
        (Column("status", "status", drop_order=900), [run.status for run in runs]),
        (Column("seconds", format="{:.1f}".format, drop_order=2), comparison.seconds),
        (Column("name", drop_order=1), [run.name for run in runs]),
    ]
    metrics = sorted(comparison.metrics, key=lambda metric: metric != comparison.targets[0][0])
    for rank, metric in enumerate(metrics):
        values = comparison.get_values(metric)
        format_value = partial(_format_metric, comparison.find_best_values(metric))
        # The objective is never dropped; the second metric is as important as the first three parameters.
        drop_order = (0, 950)[rank] if rank < 2 else 600 - rank
        columns.append((Column(metric, format=format_value, drop_order=drop_order), values))
    return Table([column for column, _ in columns], list(zip(*(values for _, values in columns), strict=True)))


def make_table_of_same_parameters(comparison: RunComparison) -> Table:
    """Returns a table of the parameters that are the same in all runs."""
    columns = [Column("the same in all runs", "code"), Column("value", format=format_parameter)]
    return Table(columns, list(comparison.params[1].items()))


def format_parameter(value: Any) -> str:
    """Formats a parameter for display."""
    text = "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return truncate_text(text, _MAX_TEXT_LENGTH)
