"""Tables of runs and sweeps, for the terminal and for the tracker."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from expfw.errors import one_line
from expfw.ledger import Trial, short_words
from expfw.run_state import FINISHED
from expfw.terminal import number

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_LONGEST_NOTE = 7500
"""Characters: trackers cut longer ones (MLflow at 8,000)."""


def ranked(trials: Sequence[Trial], mode: str) -> list[Trial]:
    """Best objective first; those without one last."""
    sign = 1 if mode == "min" else -1

    def key(trial: Trial) -> tuple[bool, float, int]:
        value = trial.objective
        absent = value is None or value != value
        return (absent, 0.0 if absent else sign * value, trial.number)  # type: ignore[operator]

    return sorted(trials, key=key)


def best(trials: Sequence[Trial], mode: str) -> Trial | None:
    """The finished trial with the best objective; None where there is none."""
    finished = [t for t in trials if t.status == FINISHED and t.objective is not None and t.objective == t.objective]
    return next(iter(ranked(finished, mode)), None)


def _columns(trials: Sequence[Trial]) -> tuple[list[str], list[str]]:
    """Swept keys, and the metrics worth a column beside the objective."""
    keys = list(dict.fromkeys(word.partition("=")[0] for t in trials for word in t.swept))
    objectives = {t.objective_metric for t in trials}
    wanted = ("test/accuracy", "val/accuracy", "test/loss", "val/loss")
    metrics = [m for m in wanted if m not in objectives and any(m in (t.metrics or {}) for t in trials)]
    return keys, metrics[:2]


def _rows(trials: Sequence[Trial], mode: str) -> tuple[list[str], list[list[str]]]:
    keys, metrics = _columns(trials)
    metric = next((t.objective_metric for t in trials if t.objective_metric), "objective")
    header = [*(k.lstrip("+") for k in keys), metric, *metrics, "status", "seconds", "run"]
    rows = []
    for trial in ranked(trials, mode):
        swept = {word.partition("=")[0]: word.partition("=")[2] for word in trial.swept}
        values = [trial.objective, *((trial.metrics or {}).get(m) for m in metrics)]
        shown = ["" if v is None else number(v) for v in values]
        seconds = "" if trial.seconds is None else f"{trial.seconds:.1f}"
        rows.append([*(swept.get(k, "") for k in keys), *shown, trial.status, seconds, trial.run_id or ""])
    return header, rows


def table(trials: Sequence[Trial], mode: str, title: str) -> Table:
    """The trials, best first; narrow enough for 80 columns where keys and values are."""
    header, rows = _rows(trials, mode)
    names = _short_names(header[: len(_columns(trials)[0])])
    others = [name.replace("/", "/\n") for name in header[len(names) :]]
    return plain_table(title, [*names, *others], rows, whole=("status", "run"))


def _short_names(keys: Sequence[str]) -> list[str]:
    """Keys without their groups' prefixes, where that stays clear."""
    return [pair.partition("=")[0] for pair in short_words([f"{key}=" for key in keys])]


def plain_table(
    title: str | None, header: Sequence[str], rows: Sequence[Sequence[str]], whole: Sequence[str] = ()
) -> Table:
    """Rows of text with a header, in the one style of all our tables; columns `whole` are never broken."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
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
    """The command that makes the best trial again, with the plugin files it needs."""
    found = best(trials, mode)
    if found is None:
        return None
    return shlex.join(["expfw", *(word for file in files for word in ("-p", file)), "run", *found.overrides])


def markdown(trials: Sequence[Trial], mode: str, files: Sequence[str]) -> str:
    """The same command and table, as the description of a sweep's parent run; its first lines are seen at once.

    Of many trials only the best ones.
    """
    header, rows = _rows(trials, mode)
    names = _short_names(header[: len(_columns(trials)[0])])
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


def failures(trials: Sequence[Trial]) -> list[str]:
    """One line for each trial that went wrong."""
    return [one_line(f"trial {t.number} ({t.name}): {t.error}") for t in trials if t.error]


def show(screen: Console, trials: Sequence[Trial], mode: str, title: str, files: Sequence[str]) -> None:
    """Prints the trials, what went wrong with any, and how to make the best one again."""
    screen.print(table(trials, mode, title))
    for line in failures(trials):
        screen.print(line)
    if (command := best_command(trials, mode, files)) is not None:
        screen.print(f"best: {command}", soft_wrap=True)  # to be copied as one line


def as_json(trial: Trial) -> dict[str, Any]:
    """A trial for `--json`."""
    from dataclasses import asdict

    return {**asdict(trial), "name": trial.name}
