"""Tables of runs and sweeps for the terminal and for trackers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.config.overrides import format_override
from expfw.errors import to_one_line, truncate_text
from expfw.system.formatting import format_number
from expfw.tracking.ledger import Trial, round_long_number, shorten_overrides
from expfw.tracking.ranking import SeedGroup, find_best_trial, rank_seed_groups

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_MAX_FAILURES = 12

_MAX_NOTE_LENGTH = 7500
"""Characters; trackers cut longer notes (MLflow at 8,000)."""


def _select_columns(groups: Sequence[SeedGroup]) -> tuple[list[str], list[str]]:
    """Returns the swept keys, and the metrics that get a column in addition to the objective."""
    keys = list(dict.fromkeys(pair.partition("=")[0] for group in groups for pair in group.swept_overrides))
    objectives = {group.metric for group in groups}
    candidates = ("test/accuracy", "val/accuracy", "test/loss", "val/loss")
    metrics = [m for m in candidates if m not in objectives and any(m in group.metrics for group in groups)]
    return keys, metrics[:2]


def tabulate_groups(groups: Sequence[SeedGroup], seeds: int = 1) -> tuple[list[str], list[list[str]]]:
    """Returns a header, and a row of texts for each seed group.

    Args:
        groups: seed groups, in the order of the rows.
        seeds: planned seeds of each group.
    """
    keys, metrics = _select_columns(groups)
    metric = next((group.metric for group in groups if group.metric), "objective")
    seeds = max([seeds, *(len(group.trials) for group in groups)])
    has_several_seeds = seeds > 1
    last = ["seeds"] if has_several_seeds else ["run"]
    header = [*(k.lstrip("+") for k in keys), metric, *metrics, "status", "seconds", *last]
    rows = []
    for group in groups:
        swept_values = {
            pair.partition("=")[0]: round_long_number(pair.partition("=")[2]) for pair in group.swept_overrides
        }
        metric_texts = [
            _format_objective(group),
            *("" if m not in group.metrics else format_number(group.metrics[m]) for m in metrics),
        ]
        seconds = "" if group.seconds is None else f"{group.seconds:.1f}"
        last_cell = f"{len(group.counted_trials)} of {seeds}" if has_several_seeds else group.trials[0].run_id or ""
        rows.append([*(swept_values.get(k, "") for k in keys), *metric_texts, group.status, seconds, last_cell])
    return header, rows


def _format_objective(group: SeedGroup) -> str:
    if group.objective is None:
        return ""
    return (
        format_number(group.objective)
        if group.half_interval is None
        else f"{format_number(group.objective)} ± {format_number(group.half_interval)}"
    )


def make_trials_table(trials: Sequence[Trial], mode: str, width: int, seeds: int = 1) -> Table:
    """Creates the table of seed groups, best first, with at most `width` characters; drops less important columns."""
    groups = rank_seed_groups(trials, mode)
    header, rows = tabulate_groups(groups, seeds)
    keys, metrics = _select_columns(groups)
    names = [*shorten_keys(header[: len(keys)]), *(name.replace("/", "/\n") for name in header[len(keys) :])]
    metric_columns = range(len(keys) + len(metrics), len(keys), -1)  # not the objective, which is never dropped
    columns, texts = drop_columns_to_fit(names, rows, [*metric_columns, len(names) - 2], width)
    return make_plain_table(columns, texts, no_wrap=("status", "run"))


def drop_columns_to_fit(
    header: Sequence[str], rows: Sequence[Sequence[str]], optional_columns: Sequence[int], width: int
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Drops `optional_columns`, in this order, until the table has at most `width` characters."""
    columns = dict(enumerate(zip(header, *rows, strict=True)))
    widths = {index: measure_column_width(texts) for index, texts in columns.items()}
    for index in optional_columns:
        if sum(widths[column] for column in columns) <= width:
            break
        del columns[index]
    kept_header, *rest = zip(*columns.values(), strict=True)
    return kept_header, rest


def measure_column_width(texts: Sequence[str]) -> int:
    """Returns the width of a column in characters, including the gap to the next column."""
    return 2 + max(map(len, "\n".join(texts).split("\n")))


def shorten_keys(keys: Sequence[str]) -> list[str]:
    """Returns keys without their group prefix if they stay unique."""
    return [pair.partition("=")[0] for pair in shorten_overrides([f"{key}=" for key in keys])]


def make_plain_table(header: Sequence[str], rows: Sequence[Sequence[str]], no_wrap: Sequence[str] = ()) -> Table:
    """Creates a table in the common style of all our tables; columns in `no_wrap` are never wrapped."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_header=any(header),
    )
    for name in header:
        table.add_column(name, overflow="fold", no_wrap=name in no_wrap)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def make_best_command(trials: Sequence[Trial], mode: str, plugin_arguments: Sequence[str]) -> str | None:
    """Returns the command that trains the best trial again; None if no trial has finished.

    Args:
        trials: all trials.
        mode: `min` or `max`.
        plugin_arguments: values of `-p`: plugin files, and `no:NAME` for disabled plugins.
    """
    best_trial = find_best_trial(trials, mode)
    if best_trial is None:
        return None
    default_runs_dir = format_override("runs_dir", Path("runs").absolute())  # added when the sweep was resumed
    ignored_prefixes = ("sweep.", "quiet=")  # options of the sweep command only
    overrides = [
        pair
        for pair in best_trial.overrides
        if pair != default_runs_dir and not pair.lstrip("+").startswith(ignored_prefixes)
    ]
    return shlex.join(["expfw", *(pair for file in plugin_arguments for pair in ("-p", file)), "run", *overrides])


def make_markdown_note(trials: Sequence[Trial], mode: str, plugin_arguments: Sequence[str]) -> str:
    """Returns the best command and the table as Markdown, for the description of a sweep's parent run.

    The command is first, because user interfaces show the first lines only. If there are too many trials, the note
    contains the best ones.
    """
    groups = rank_seed_groups(trials, mode)
    header, rows = tabulate_groups(groups)
    names = shorten_keys(header[: len(_select_columns(groups)[0])])
    command = make_best_command(trials, mode, plugin_arguments)
    lines = [f"Best: `` {command} ``" if command else "No trial has finished.", ""]
    lines += map(_format_markdown_row, ([*names, *header[len(names) :]], ["---"] * len(header)))
    remaining_length = _MAX_NOTE_LENGTH - sum(len(line) + 1 for line in lines)
    for index, row in enumerate(map(_format_markdown_row, rows)):
        remaining_length -= len(row) + 1
        if remaining_length < 0:
            lines.append(f"\nand {len(rows) - index} more")
            break
        lines.append(row)
    return "\n".join(lines)


def _format_markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def format_failures(trials: Sequence[Trial], max_length: int | None = None) -> list[str]:
    """Returns one line for each trial with an error.

    Args:
        trials: all trials.
        max_length: maximum characters of the error text; None for the full text.
    """
    lines = []
    for trial in trials:
        if trial.error:
            reason = to_one_line(trial.error)
            reason = reason if max_length is None else truncate_text(reason, max_length)
            tries = f", tried {trial.attempt} times" if trial.attempt > 1 else ""
            lines.append(f"{trial.title}: {reason}{tries}")
    return lines


def print_trials(
    console: Console,
    trials: Sequence[Trial],
    mode: str,
    title: str,
    plugin_arguments: Sequence[str],
    max_length: int | None = None,
    seeds: int = 1,
) -> None:
    """Prints the trials, their errors and the command that trains the best trial again.

    Args:
        console: console to print to.
        trials: all trials.
        mode: `min` or `max`.
        title: line above the table.
        plugin_arguments: values of `-p` for the command.
        max_length: maximum characters of an error text, which also limits the number of errors; None prints all.
        seeds: planned seeds of each configuration.
    """
    console.print(title, soft_wrap=True)
    console.print(make_trials_table(trials, mode, console.width, seeds))
    failure_lines = format_failures(trials, max_length)
    max_failures = len(failure_lines) if max_length is None else _MAX_FAILURES
    for line in [
        *failure_lines[:max_failures],
        *([f"and {len(failure_lines) - max_failures} more failures"] if len(failure_lines) > max_failures else []),
    ]:
        console.print(line, soft_wrap=True)
    if (command := make_best_command(trials, mode, plugin_arguments)) is not None:
        console.print(f"best: {command}", soft_wrap=True)  # one line, for copying


def serialize_trial(trial: Trial) -> dict[str, Any]:
    """Returns a trial as a dictionary for `--json`."""
    from dataclasses import asdict

    return {**asdict(trial), "name": trial.name}
