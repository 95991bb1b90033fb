"""Candidates for parameters of commands, for `shell_complete`. Imports modules of expfw only when it is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from expfw.errors import ExpfwError

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def make_items(values: Mapping[str, str], word: str) -> list[CompletionItem]:
    """Returns the values that begin with `word`, with their help."""
    return [CompletionItem(value, help=text) for value, text in values.items() if value.startswith(word)]


def complete_list(values: Iterable[str]) -> Completer:
    """Completes the last of several values with commas between them."""

    def complete(_context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
        given, comma, _ = word.rpartition(",")
        return make_items({f"{given}{comma}{v}": "" for v in values if v not in given.split(",")}, word)

    return complete


def complete_overrides(context: click.Context, parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Completes an override."""
    from expfw.cli.completion import overrides

    values = overrides.find_candidates(word, context.params.get(str(parameter.name)) or (), context.obj)
    return [CompletionItem(word, type="file")] if values is None else make_items(values, word)


def complete_ids(*kinds: str) -> Completer:
    """Completes IDs of `runs` or `sweeps`, newest first, and overrides."""

    def complete(context: click.Context, parameter: click.Parameter, word: str) -> list[CompletionItem]:
        if "=" in word:
            return complete_overrides(context, parameter, word)
        from expfw.tracking import run_index

        recorded = run_index.list_all(context.params["runs_dir"])
        matching = (run for run in recorded if ("sweeps" if run.is_sweep else "runs") in kinds)
        return make_items({run.id: f"{run.status} {run.name}" for run in matching}, word)

    return complete


def complete_plugins(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Completes names of plugins."""
    entries = (entry for kind_entries in context.obj.entries.values() for entry in kind_entries)
    return make_items({entry.name: f"{entry.kind}: {entry.read_first_sentence()}" for entry in entries}, word)


def complete_export_formats(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Completes the export formats of all usable backends and models."""
    formats: dict[str, str] = {}
    for entry in (*context.obj.entries["backend"], *context.obj.entries["model"]):
        if context.obj.find_problem(entry) is None:
            with suppress(ExpfwError):
                formats |= dict.fromkeys(entry.load().export_formats, "")
    return make_items(formats, word)
