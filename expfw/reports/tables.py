"""Tables of runs and sweeps, for the terminal and for the tracker."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.config.overrides import override
from expfw.errors import one_line, shortened
from expfw.system.formatting import number
from expfw.tracking.ledger import Trial, rounded, short_words
from expfw.tracking.ranking import Together, best, ranked

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_FEW_FAILURES = 12

_LONGEST_NOTE = 7500
"""Characters: trackers cut longer ones (MLflow at 8,000)."""


def _columns(ones: Sequence[Together]) -> tuple[list[str], list[str]]:
    """Swept keys, and the metrics worth a column beside the objective."""
    keys = list(dict.fromkeys(word.partition("=")[0] for one in ones for word in one.swept))
    objectives = {one.metric for one in ones}
    wanted = ("test/accuracy", "val/accuracy", "test/loss", "val/loss")
    metrics = [m for m in wanted if m not in objectives and any(m in one.metrics for one in ones)]
    return keys, metrics[:2]


def cells(ones: Sequence[Together], seeds: int = 1) -> tuple[list[str], list[list[str]]]:
    """A header, and a row of texts for each of these configurations, which are to be tried with so many seeds."""
    keys, metrics = _columns(ones)
    metric = next((one.metric for one in ones if one.metric), "objective")
    seeds = max([seeds, *(len(one.trials) for one in ones)])
    several = seeds > 1
    last = ["seeds"] if several else ["run"]
    header = [*(k.lstrip("+") for k in keys), metric, *metrics, "status", "seconds", *last]
    rows = []
    for one in ones:
        swept = {word.partition("=")[0]: rounded(word.partition("=")[2]) for word in one.swept}
        shown = [_with_interval(one), *("" if m not in one.metrics else number(one.metrics[m]) for m in metrics)]
        seconds = "" if one.seconds is None else f"{one.seconds:.1f}"
        who = f"{len(one.counted)} of {seeds}" if several else one.trials[0].run_id or ""
        rows.append([*(swept.get(k, "") for k in keys), *shown, one.status, seconds, who])
    return header, rows


def _with_interval(one: Together) -> str:
    if one.objective is None:
        return ""
    return number(one.objective) if one.interval is None else f"{number(one.objective)} ± {number(one.interval)}"


def table(trials: Sequence[Trial], mode: str, width: int, seeds: int = 1) -> Table:
    """The configurations, best first; what tells least is left out where `width` characters have no room for all."""
    ones = ranked(trials, mode)
    header, rows = cells(ones, seeds)
    keys, metrics = _columns(ones)
    names = [*short_names(header[: len(keys)]), *(name.replace("/", "/\n") for name in header[len(keys) :])]
    beside = range(len(keys) + len(metrics), len(keys), -1)  # the objective, which stays
    columns, texts = narrowed(names, rows, [*beside, len(names) - 2], width)
    return plain_table(columns, texts, whole=("status", "run"))


def narrowed(
    header: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[int], width: int
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """A table without as many of its `spare` columns, in that order, as there is no room for in `width` characters."""
    columns = dict(enumerate(zip(header, *rows, strict=True)))
    widths = {place: column_width(texts) for place, texts in columns.items()}
    for place in spare:
        if sum(widths[left] for left in columns) <= width:
            break
        del columns[place]
    shown, *rest = zip(*columns.values(), strict=True)
    return shown, rest


def column_width(texts: Sequence[str]) -> int:
    """Characters that a column of these texts takes, with what is between columns."""
    return 2 + max(map(len, "\n".join(texts).split("\n")))


def short_names(keys: Sequence[str]) -> list[str]:
    """Keys without their groups' prefixes, where that stays clear."""
    return [pair.partition("=")[0] for pair in short_words([f"{key}=" for key in keys])]


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]], whole: Sequence[str] = ()) -> Table:
    """Rows of text with a header, in the one style of all our tables; columns `whole` are never broken."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_header=any(header),
    )
    for name in header:
        made.add_column(name, overflow="fold", no_wrap=name in whole)
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def best_command(trials: Sequence[Trial], mode: str, files: Sequence[str]) -> str | None:
    """The command that makes the best trial again, with the plugin files it needs; `no:NAME` among them: without."""
    found = best(trials, mode)
    if found is None:
        return None
    usual = override("runs_dir", Path("runs").absolute())  # a sweep that went on has it
    left_out = ("sweep.", "quiet=")  # what was about that command
    overrides = [word for word in found.overrides if word != usual and not word.lstrip("+").startswith(left_out)]
    return shlex.join(["expfw", *(word for file in files for word in ("-p", file)), "run", *overrides])


def markdown(trials: Sequence[Trial], mode: str, files: Sequence[str]) -> str:
    """The same command and table, as the description of a sweep's parent run; its first lines are seen at once.

    Of many trials only the best ones.
    """
    ones = ranked(trials, mode)
    header, rows = cells(ones)
    names = short_names(header[: len(_columns(ones)[0])])
    command = best_command(trials, mode, files)
    lines = [f"Best: `` {command} ``" if command else "No trial has come to a good end.", ""]
    lines += map(_markdown_row, ([*names, *header[len(names) :]], ["---"] * len(header)))
    room = _LONGEST_NOTE - sum(len(line) + 1 for line in lines)
    for place, row in enumerate(map(_markdown_row, rows)):
        room -= len(row) + 1
        if room < 0:
            lines.append(f"\nand {len(rows) - place} more")
            break
        lines.append(row)
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def failures(trials: Sequence[Trial], longest: int | None = None) -> list[str]:
    """One line for each trial that went wrong.

    Args:
        longest: characters of what went wrong; None for all.
    """
    lines = []
    for trial in trials:
        if trial.error:
            reason = one_line(trial.error)
            reason = reason if longest is None else shortened(reason, longest)
            tries = f", tried {trial.attempt} times" if trial.attempt > 1 else ""
            lines.append(f"{trial.title}: {reason}{tries}")
    return lines


def show(
    screen: Console,
    trials: Sequence[Trial],
    mode: str,
    title: str,
    files: Sequence[str],
    longest: int | None = None,
    seeds: int = 1,
) -> None:
    """Prints the trials, what went wrong with any, and how to make the best one again.

    Args:
        longest: characters of what is said of a failure, and only of the first ones; None for all.
        seeds: of each configuration.
    """
    screen.print(title, soft_wrap=True)
    screen.print(table(trials, mode, screen.width, seeds))
    told = failures(trials, longest)
    few = len(told) if longest is None else _FEW_FAILURES
    for line in [*told[:few], *([f"and {len(told) - few} more failures"] if len(told) > few else [])]:
        screen.print(line, soft_wrap=True)
    if (command := best_command(trials, mode, files)) is not None:
        screen.print(f"best: {command}", soft_wrap=True)  # to be copied as one line


def as_json(trial: Trial) -> dict[str, Any]:
    """A trial for `--json`."""
    from dataclasses import asdict

    return {**asdict(trial), "name": trial.name}
