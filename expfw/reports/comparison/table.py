"""Runs side by side for the terminal: a column for each run, or a row for each where they are too many for that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from expfw.reports import tables
from expfw.reports.comparison.collected import Collected, best, short_names
from expfw.system import formatting

if TYPE_CHECKING:
    from rich.console import Console

_GAP, _LONGEST = 2, 24
_MARK = "*"


def show(screen: Console, found: Collected, everything: bool) -> None:
    """Prints them.

    Args:
        everything: also the parameters that are the same.
    """
    header, sections = _by_columns(found, everything)
    rows = [row for section in sections for row in section]
    if _width(header, rows) <= screen.width:
        for section in sections[1:]:
            section.insert(0, [""] * len(header))
        screen.print(tables.plain_table(header, [row for section in sections for row in section], header[1:]))
    else:
        _show_rows(screen, found)
        if everything:
            same = [[key, text(value)] for key, value in found.params[1].items()]
            screen.print(tables.plain_table(["the same in all", "value"], same))
    for line in _said(found, everything):
        screen.print(line)


def _by_columns(found: Collected, everything: bool) -> tuple[list[str], list[list[list[str]]]]:
    differ, same = found.params
    header = ["", *(run.id for run in found.runs)]
    if len(found.runs) == 2:
        header.append("difference")
    facts = [
        ["status", *(run.entry.status for run in found.runs)],
        ["took", *("" if run.seconds is None else formatting.duration(run.seconds) for run in found.runs)],
    ]
    names = [run.entry.name for run in found.runs]
    if len(set(names)) == len(names) and all(len(name) <= _LONGEST for name in names):
        facts.insert(0, ["name", *names])
    params = [[key, *map(text, values)] for key, values in differ.items()]
    if everything:
        params += [[key, *[text(value)] * len(found.runs)] for key, value in same.items()]
    metrics = [_metric_row(found, metric) for metric in found.metrics]
    objective = _objective_row(found)
    around = [[name, *values] for name, values in found.surroundings.items()]
    sections = [facts, params, [*([objective] if objective else []), *metrics], around]
    return header, [[row + [""] * (len(header) - len(row)) for row in section] for section in sections if section]


def _objective_row(found: Collected) -> list[str] | None:
    """What the runs were judged by, where that is more than the last value of the metric."""
    values, metrics = [run.objective for run in found.runs], {run.metric for run in found.runs}
    if len(metrics) > 1 or values == found.values(metric := metrics.pop()):
        return None
    marks = best(values, found.mode(metric))
    return [f"{metric} at its best", *map(_marked, values, marks), *_difference(values)]


def _metric_row(found: Collected, metric: str) -> list[str]:
    values = found.values(metric)
    return [metric, *map(_marked, values, found.best(metric)), *_difference(values)]


def _marked(value: float | None, is_best: bool) -> str:
    return "-" if value is None else f"{formatting.number(value)}{_MARK if is_best else ''}"


def _difference(values: Sequence[float | None]) -> list[str]:
    if len(values) != 2:
        return []
    first, second = values
    return ["" if first is None or second is None else f"{second - first:+.3g}"]


def _show_rows(screen: Console, found: Collected) -> None:
    """A row for each run, as many columns as there is room for, and a note on those that have none."""
    differ, _ = found.params
    names = dict(zip(differ, short_names(differ), strict=True))
    columns = [("run", [run.id for run in found.runs])]
    optional = [(names[key], [text(value) for value in values]) for key, values in differ.items()]
    optional.sort(key=lambda column: -len(set(column[1])))  # what tells more of the runs apart
    metrics = [(m, list(map(_marked, found.values(m), found.best(m)))) for m in found.metrics]
    objective = found.runs[0].metric
    metrics.sort(key=lambda column: column[0] != objective)
    status = ("status", [run.entry.status for run in found.runs])
    # The objective first, then in turn what was set and what came of it.
    early, late = ([], [status]) if len(set(status[1])) == 1 else ([status], [])
    wanted = [*metrics[:1], *early, *optional[:3], *metrics[1:2], *late, *optional[3:], *metrics[2:]]
    room = screen.width - _wide(columns[0])
    chosen = []
    for column in wanted:
        if (needed := _wide(column)) <= room:
            room -= needed
            chosen.append(column)
    columns += sorted(chosen, key=lambda column: (column in metrics, column is status))
    heads = [name.replace("/", "/\n") for name, _ in columns]
    rows = [list(row) for row in zip(*(texts for _, texts in columns), strict=True)]
    screen.print(tables.plain_table(heads, rows, heads))
    if left := [name for name, _ in wanted if name not in {name for name, _ in columns}]:
        screen.print(f"no room for {', '.join(left[:8])}{f' and {len(left) - 8} more' if len(left) > 8 else ''}:")
        screen.print("a wider terminal, fewer runs, --metric NAME, --json or --html show more")


def _wide(column: tuple[str, Sequence[str]]) -> int:
    return _GAP + max(len(part) for part in (*column[0].split("/"), *column[1])) + ("/" in column[0])


def _width(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    return sum(map(tables.column_width, zip(header, *rows, strict=True)))


def _said(found: Collected, everything: bool) -> list[str]:
    differ, same = found.params
    are_the_same = f"{formatting.many(len(same), 'parameter')} {'is' if len(same) == 1 else 'are'} the same"
    lines = []
    if not differ:
        lines.append(f"all {are_the_same}" if len(same) > 1 else are_the_same)
    elif not everything:
        lines.append(f"{are_the_same} (--all shows them)")
    marked = any(any(found.best(metric)) for metric in found.metrics)
    lines += [f"{_MARK} the best one"] if marked else []
    around = found.surroundings
    lines.append(f"surroundings that differ: {', '.join(around)}" if around else "versions and threads are the same")
    return lines


def text(value: Any) -> str:
    """A parameter for people."""
    if value is None:
        return "-"
    made = f"{value:.6g}" if isinstance(value, float) else str(value)
    return made if len(made) <= _LONGEST else f"{made[: _LONGEST - 3]}..."
