"""Trials of a sweep as a table, their failures, and the command that trains the best one again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from expfw.errors import to_one_line, truncate_text
from expfw.reports.table import Column, Table
from expfw.system.formatting import format_number
from expfw.tracking.ledger import Trial, round_long_number, shorten_overrides, split_overrides
from expfw.tracking.ranking import SeedGroup, find_best_trial, rank_seed_groups

if TYPE_CHECKING:
    from rich.console import Console

_OTHER_METRICS = tuple(
    f"{name}{weights}"
    for name in ("test/accuracy", "val/accuracy", "test/loss", "val/loss")
    for weights in ("", " (last)", " (best)")
)
"""Metrics of which the first two that the trials have get a column, after the objective. See `Result.metrics`."""
_MAX_FAILURES = 12
_MAX_NOTE_LENGTH = 7500
"""Characters; trackers cut longer notes (MLflow at 8,000)."""


def make_trials_table(groups: Sequence[SeedGroup], seeds: int = 1) -> Table:
    """Creates a table with a row for each seed group, in this order; `seeds` of each were planned."""
    seeds = max([seeds, *(len(group.trials) for group in groups)])
    swept_values = [split_overrides(group.swept_overrides) for group in groups]
    keys = list(dict.fromkeys(key for values in swept_values for key in values))
    objective_metric = next((group.metric for group in groups if group.metric), "objective")
    metrics_by_group = [group.metrics for group in groups]
    recorded_metrics = {name for metrics in metrics_by_group for name in metrics} - {objective_metric}
    metrics = [name for name in _OTHER_METRICS if name in recorded_metrics][:2]
    unit, positions = "epoch", [group.epochs for group in groups]
    if any(group.epochs is None and group.steps is not None for group in groups):
        unit, positions = "step", [group.steps for group in groups]
    has_positions = any(position is not None for position in positions)
    columns = [
        *(
            Column(name, format=round_long_number, tooltip=key)
            for key, name in zip(keys, shorten_keys(keys), strict=True)
        ),
        Column(objective_metric),
        *[Column(unit, "number", drop_order=4, tooltip="of all metrics in the row")] * has_positions,
        *(Column(name, drop_order=2 - index) for index, name in enumerate(metrics)),
        Column("status", "status"),
        Column("seconds", format="{:.1f}".format, drop_order=3),
        Column("run" if seeds == 1 else "seeds", "code"),
    ]
    rows = []
    for group, position, values, group_metrics in zip(groups, positions, swept_values, metrics_by_group, strict=True):
        objective: float | str | None = group.objective
        if group.objective is not None and group.half_interval is not None:
            objective = f"{format_number(group.objective)} ± {format_number(group.half_interval)}"
        last_value = group.trials[0].run_id if seeds == 1 else f"{len(group.counted_trials)} of {seeds}"
        metric_values = [objective, *[position] * has_positions, *(group_metrics.get(name) for name in metrics)]
        rows.append([*(values.get(key) for key in keys), *metric_values, group.status, group.seconds, last_value])
    return Table(columns, rows)


def shorten_keys(keys: Sequence[str]) -> list[str]:
    """Returns keys without their group prefix if they stay unique."""
    return [pair.partition("=")[0] for pair in shorten_overrides([f"{key}=" for key in keys])]


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
    ignored_prefixes = ("sweep.", "quiet=")  # options of the sweep command only
    overrides = [o for o in best_trial.overrides if not o.lstrip("+").startswith(ignored_prefixes)]
    return shlex.join(
        ["expfw", *(argument for file in plugin_arguments for argument in ("-p", file)), "run", *overrides]
    )


def make_markdown_note(trials: Sequence[Trial], mode: str, plugin_arguments: Sequence[str]) -> str:
    """Returns the best command and the best trials as Markdown, for the description of a sweep's parent run.

    The command is first, because user interfaces show the first lines only.
    """
    command = make_best_command(trials, mode, plugin_arguments)
    first_line = f"Best: `` {command} ``" if command else "No trial has finished."
    table = make_trials_table(rank_seed_groups(trials, mode))
    return f"{first_line}\n\n{table.to_markdown(_MAX_NOTE_LENGTH - len(first_line))}"


def format_failures(trials: Sequence[Trial], max_length: int | None = None) -> list[str]:
    """Returns one line for each trial with an error, with at most `max_length` characters of its text."""
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

    `max_length` limits the characters of an error, and also the number of errors.
    """
    console.print(title, soft_wrap=True)
    console.print(make_trials_table(rank_seed_groups(trials, mode), seeds))
    lines = format_failures(trials, max_length)
    if max_length is not None and len(lines) > _MAX_FAILURES:
        lines[_MAX_FAILURES:] = [f"and {len(lines) - _MAX_FAILURES} more failures"]
    if (command := make_best_command(trials, mode, plugin_arguments)) is not None:
        lines.append(f"best: {command}")
    for line in lines:
        console.print(line, soft_wrap=True)  # one line, for copying


def serialize_trial(trial: Trial) -> dict[str, Any]:
    """Returns a trial as a dictionary for `--json`."""
    return {**asdict(trial), "name": trial.name}
