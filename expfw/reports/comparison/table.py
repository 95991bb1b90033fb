"""Comparison of runs for the terminal: a column for each run, or a row for each if the columns do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from expfw.reports import tables
from expfw.reports.comparison.compared_runs import RunComparison, mark_best_values, shorten_parameter_keys
from expfw.system import formatting

if TYPE_CHECKING:
    from rich.console import Console

_GAP, _MAX_TEXT_LENGTH = 2, 24
_BEST_MARK = "*"


def print_comparison(console: Console, comparison: RunComparison, show_all: bool) -> None:
    """Prints a comparison.

    Args:
        console: console to print to.
        comparison: the runs.
        show_all: whether to print the parameters that are the same, too.
    """
    header, sections = _tabulate_by_columns(comparison, show_all)
    rows = [row for section in sections for row in section]
    if _measure_table(header, rows) <= console.width:
        for section in sections[1:]:
            section.insert(0, [""] * len(header))
        console.print(tables.make_plain_table(header, [row for section in sections for row in section], header[1:]))
    else:
        _print_rows(console, comparison)
        if show_all:
            same_rows = [[key, format_parameter(value)] for key, value in comparison.params[1].items()]
            console.print(tables.make_plain_table(["the same in all runs", "value"], same_rows))
    for line in _make_notes(comparison, show_all):
        console.print(line)


def _tabulate_by_columns(comparison: RunComparison, show_all: bool) -> tuple[list[str], list[list[list[str]]]]:
    differing, same = comparison.params
    header = ["", *(run.id for run in comparison.runs)]
    if len(comparison.runs) == 2:
        header.append("difference")
    run_rows = [
        ["status", *(run.entry.status for run in comparison.runs)],
        [
            "duration",
            *("" if run.seconds is None else formatting.format_duration(run.seconds) for run in comparison.runs),
        ],
    ]
    names = [run.entry.name for run in comparison.runs]
    if len(set(names)) == len(names) and all(len(name) <= _MAX_TEXT_LENGTH for name in names):
        run_rows.insert(0, ["name", *names])
    param_rows = [[key, *map(format_parameter, values)] for key, values in differing.items()]
    if show_all:
        param_rows += [[key, *[format_parameter(value)] * len(comparison.runs)] for key, value in same.items()]
    metric_rows = [_make_metric_row(comparison, metric) for metric in comparison.metrics]
    objective_row = _make_objective_row(comparison)
    environment_rows = [[name, *values] for name, values in comparison.environment.items()]
    sections = [run_rows, param_rows, [*([objective_row] if objective_row else []), *metric_rows], environment_rows]
    return header, [[row + [""] * (len(header) - len(row)) for row in section] for section in sections if section]


def _make_objective_row(comparison: RunComparison) -> list[str] | None:
    """Returns the row of the objective; None if it equals the last value of the metric."""
    values, metrics = [run.objective for run in comparison.runs], {run.metric for run in comparison.runs}
    if len(metrics) > 1 or values == comparison.get_values(metric := metrics.pop()):
        return None
    marks = mark_best_values(values, comparison.get_mode(metric))
    return [f"best {metric}", *map(_format_marked_value, values, marks), *_format_difference(values)]


def _make_metric_row(comparison: RunComparison, metric: str) -> list[str]:
    values = comparison.get_values(metric)
    return [metric, *map(_format_marked_value, values, comparison.mark_best_runs(metric)), *_format_difference(values)]


def _format_marked_value(value: float | None, is_best: bool) -> str:
    return "-" if value is None else f"{formatting.format_number(value)}{_BEST_MARK if is_best else ''}"


def _format_difference(values: Sequence[float | None]) -> list[str]:
    if len(values) != 2:
        return []
    first, second = values
    return ["" if first is None or second is None else f"{second - first:+.3g}"]


def _print_rows(console: Console, comparison: RunComparison) -> None:
    """Prints a row for each run with as many columns as fit, and a note about the omitted columns."""
    differing, _ = comparison.params
    names = dict(zip(differing, shorten_parameter_keys(differing), strict=True))
    columns = [("run", [run.id for run in comparison.runs])]
    param_columns = [(names[key], [format_parameter(value) for value in values]) for key, values in differing.items()]
    param_columns.sort(key=lambda column: -len(set(column[1])))  # most distinct values first
    metric_columns = [
        (m, list(map(_format_marked_value, comparison.get_values(m), comparison.mark_best_runs(m))))
        for m in comparison.metrics
    ]
    objective_metric = comparison.runs[0].metric
    metric_columns.sort(key=lambda column: column[0] != objective_metric)
    status_column = ("status", [run.entry.status for run in comparison.runs])
    # The objective first, then parameters and metrics in turn.
    early_columns, late_columns = ([], [status_column]) if len(set(status_column[1])) == 1 else ([status_column], [])
    candidates = [
        *metric_columns[:1],
        *early_columns,
        *param_columns[:3],
        *metric_columns[1:2],
        *late_columns,
        *param_columns[3:],
        *metric_columns[2:],
    ]
    remaining_width = console.width - _measure_column(columns[0])
    fitting_columns = []
    for column in candidates:
        if (width := _measure_column(column)) <= remaining_width:
            remaining_width -= width
            fitting_columns.append(column)
    columns += sorted(fitting_columns, key=lambda column: (column in metric_columns, column is status_column))
    header = [name.replace("/", "/\n") for name, _ in columns]
    rows = [list(row) for row in zip(*(texts for _, texts in columns), strict=True)]
    console.print(tables.make_plain_table(header, rows, header))
    if omitted_names := [name for name, _ in candidates if name not in {name for name, _ in columns}]:
        console.print(
            "omitted columns: "
            f"{', '.join(omitted_names[:8])}{f' and {len(omitted_names) - 8} more' if len(omitted_names) > 8 else ''}"
        )
        console.print("to see more: a wider terminal, fewer runs, --metric NAME, --json or --html")


def _measure_column(column: tuple[str, Sequence[str]]) -> int:
    return _GAP + max(len(part) for part in (*column[0].split("/"), *column[1])) + ("/" in column[0])


def _measure_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    return sum(map(tables.measure_column_width, zip(header, *rows, strict=True)))


def _make_notes(comparison: RunComparison, show_all: bool) -> list[str]:
    differing, same = comparison.params
    same_text = f"{formatting.pluralize(len(same), 'parameter')} {'is' if len(same) == 1 else 'are'} the same"
    lines = []
    if not differing:
        lines.append(f"all {same_text}" if len(same) > 1 else same_text)
    elif not show_all:
        lines.append(f"{same_text} (--all shows them)")
    has_marks = any(any(comparison.mark_best_runs(metric)) for metric in comparison.metrics)
    lines += [f"{_BEST_MARK} best value"] if has_marks else []
    environment = comparison.environment
    lines.append(
        f"environment differences: {', '.join(environment)}" if environment else "versions and threads are the same"
    )
    return lines


def format_parameter(value: Any) -> str:
    """Formats a parameter for display."""
    if value is None:
        return "-"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _MAX_TEXT_LENGTH else f"{text[: _MAX_TEXT_LENGTH - 3]}..."
