"""Every command and every key of the configuration as text: what docs/_generate/generate.py puts into two pages."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import click

from expfw.api import schema
from expfw.api.settings import RunConfig
from expfw.cli import hydra_arguments
from expfw.cli.completion.candidates import COMPOSING
from expfw.cli.main import main
from expfw.plugins.kinds import KINDS


def all_commands() -> str:
    """Each command of `expfw`: what it does, examples, options, as its `--help` has them."""
    return "\n".join(_commands(main, click.Context(main, info_name="expfw", **main.context_settings)))


def _commands(command: click.Command, context: click.Context) -> Iterator[str]:
    depth = context.command_path.count(" ")
    yield f"{'#' * min(depth + 2, 4)} {context.command_path}\n"
    yield f"```text\n{_help(command, context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.commands[name]
            yield from _commands(inner, click.Context(inner, info_name=name, parent=context))


def _help(command: click.Command, context: click.Context) -> str:
    if command.name not in COMPOSING or context.parent is None or context.parent.parent is not None:
        context.terminal_width = 100
        return command.get_help(context)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        hydra_arguments.show_help(str(command.name), (), hydra_arguments.parse(["--help"], str(command.name)))
    return printed.getvalue()


def configuration() -> str:
    """Every key that does not belong to a plugin: type, default, help."""
    rows = [option for option in schema.options(RunConfig) if option.name not in KINDS]
    lines = ["| key | type | default | |", "| --- | --- | --- | --- |"]
    lines += [f"| `{o.name}` | {_cell(o.type)} | {_value(o.default)} | {_cell(o.help)} |" for o in rows]
    return "\n".join(lines) + "\n"


def _value(default: object) -> str:
    if default in ((), [], {}, ""):
        return "none"
    return "null" if default is None else f"`{default}`"


def _cell(text: str) -> str:
    return text.replace("|", "or").replace("<", "&lt;")


SECTIONS = {"commands": all_commands, "configuration": configuration}
