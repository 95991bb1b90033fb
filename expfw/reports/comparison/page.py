"""Runs side by side as a page: one HTML file that needs no network."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from expfw.reports.comparison.collected import Collected, best, short_names
from expfw.reports.comparison.table import text
from expfw.reports.html import charts, curves, tables
from expfw.reports.html.page import footer
from expfw.reports.html.page import page as whole
from expfw.reports.html.sections import card, section
from expfw.reports.html.tables import Column
from expfw.system import formatting
from expfw.tracking import run_folders
from expfw.tracking.ranking import place

_MOST_FIGURES = 16


def made(found: Collected, runs_dir: Path) -> str:
    """The text of the page."""
    same = found.params[1]
    words = ["expfw", "runs", "compare", *(run.id for run in found.runs)]
    again = f"{shlex.join(words)} --html{run_folders.option(runs_dir)}"
    title = " and ".join(run.id for run in found.runs) if len(found.runs) < 4 else f"{len(found.runs)} runs"
    drawn = _learning(found)
    names = list(dict.fromkeys(run.entry.name for run in found.runs))
    quiet = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    first = found.runs[0]
    judged = (
        f"A click on a header sorts by it. The runs were judged by {first.metric}, "
        f"{'less' if first.mode == 'min' else 'more'} is better."
    )
    body = [
        f'<header><h1>{escape(title)} side by side</h1><p class="quiet">{escape(quiet)}</p></header>',
        section("runs", "Runs", _runs(found), [judged]),
        _parameters(found),
        section("learning", "Learning curves", "".join(card(*one) for one in drawn.items()), _of_curves(found, drawn)),
        _surroundings(found),
        section("same", f"The same in all: {formatting.many(len(same), 'parameter')}", _same(same), []),
        footer(again),
    ]
    figures = {f"{name}-plot": figure for name, figure in drawn.items()}
    hover = {number: _hover(found, number) for number in range(len(found.runs))}
    return whole(f"{title} side by side", body, figures, hover)


def _hover(found: Collected, number: int) -> str:
    run = found.runs[number]
    words = [f"{run.id}  {run.entry.status}", run.entry.name]
    if run.objective is not None:
        words.append(f"{run.metric} {formatting.number(run.objective)}")
    return "<br>".join(map(charts.plain, words))


def _best_place(found: Collected) -> int | None:
    marks = best([run.objective for run in found.runs], found.runs[0].mode)
    return next((number for number, mark in enumerate(marks) if mark), None)


def _runs(found: Collected) -> str:
    """A row for each run: what it came to, and how long it took."""
    runs = found.runs
    columns = [
        Column("run", [run.id for run in runs], "code"),
        Column("name", [run.entry.name for run in runs]),
        Column("status", [run.entry.status for run in runs], "status"),
        *(tables.measured(name, found.values(name)) for name in found.metrics),
        Column("seconds", ["" if run.seconds is None else f"{run.seconds:.1f}" for run in runs], "number"),
    ]
    return tables.rows_table("Runs", columns, range(len(runs)), _best_place(found))


def _parameters(found: Collected) -> str:
    """A row for each run again: what it was given that others were not."""
    differ, _ = found.params
    if not differ:
        return section("parameters", "Parameters", "", ["All are the same."])
    columns = [Column("run", [run.id for run in found.runs], "code")]
    named = zip(short_names(differ), differ.items(), strict=True)
    for name, (key, values) in sorted(named, key=lambda one: -len(set(map(text, one[1][1])))):  # what tells more, first
        columns.append(Column(name, list(map(text, values)), _kind(values), about=key))
    table = tables.rows_table("Parameters", columns, range(len(found.runs)), _best_place(found))
    return section("parameters", "Parameters that differ", table, [])


def _kind(values: Sequence[object]) -> str:
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    return "number" if numbers else "text"


def _learning(found: Collected) -> dict[str, charts.Figure]:
    """All runs in one figure for each metric, the best one above the others."""
    runs = found.runs
    order = sorted(range(len(runs)), key=lambda number: place(runs[number].objective, runs[0].mode))
    sources = [curves.Source(number, _label(found, number), runs[number].entry.folder) for number in order]
    metrics = sorted(found.metrics, key=lambda name: (name != runs[0].metric, not name.startswith("val/"), name))
    read = curves.of_runs(sources, metrics)
    chosen = list(read.by_metric.items())[:_MOST_FIGURES]
    top = _best_place(found)
    return {f"learning-{n}": charts.learning(name, lines, top) for n, (name, lines) in enumerate(chosen)}


def _label(found: Collected, number: int) -> str:
    run = found.runs[number]
    return f"{run.id} {run.entry.name}"


def _of_curves(found: Collected, drawn: Mapping[str, charts.Figure]) -> list[str]:
    if not drawn:
        return ["No run has a metric with more than one point."]
    said = ["The better a run, the more its line stands out from the page; the best one is thick."]
    if len(found.runs) > curves.MOST_CURVES:
        said.append(f"The best {curves.MOST_CURVES} runs.")
    return said


def _surroundings(found: Collected) -> str:
    if not found.surroundings:
        return section("surroundings", "Surroundings", "", ["Versions, commit and threads are the same."])
    columns = [Column("run", [run.id for run in found.runs], "code")]
    columns += [Column(name, values) for name, values in found.surroundings.items()]
    table = tables.rows_table("Surroundings", columns, range(len(found.runs)), None)
    return section("surroundings", "Surroundings that differ", table, [])


def _same(params: Mapping[str, object]) -> str:
    columns = [
        Column("parameter", list(params), "code"),
        Column("value", [text(value) for value in params.values()]),
    ]
    table = tables.rows_table("The same in all", columns, range(len(params)), None)
    return f"<details><summary>Show them</summary>{table}</details>"
