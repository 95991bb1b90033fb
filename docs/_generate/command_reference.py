"""All commands and configuration keys as text, for two pages of the documentation."""

from __future__ import annotations

from collections.abc import Iterator

import click

from expfw.api import option_schema
from expfw.api.run_config import RunConfig
from expfw.cli.main import main
from expfw.plugins.kinds import KINDS


def render_commands() -> str:
    """Returns the `--help` text of every command."""
    return "\n".join(_render_command(main, click.Context(main, info_name="expfw", **main.context_settings)))


def _render_command(command: click.Command, context: click.Context) -> Iterator[str]:
    depth = context.command_path.count(" ")
    yield f"{'#' * min(depth + 2, 4)} {context.command_path}\n"
    context.terminal_width = 100
    yield f"```text\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.commands[name]
            yield from _render_command(inner, click.Context(inner, info_name=name, parent=context))


def render_configuration() -> str:
    """Returns a table of all keys that do not belong to a plugin: type, default, help."""
    rows = [option for option in option_schema.list_options(RunConfig) if option.name not in KINDS]
    lines = ["| key | type | default | description |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{o.name}` | {_escape_cell(o.type)} | {_format_default(o.default)} | {_escape_cell(o.help)} |" for o in rows
    ]
    return "\n".join(lines) + "\n"


def _format_default(default: object) -> str:
    if default in ((), [], {}, ""):
        return "none"
    return "null" if default is None else f"`{default}`"


def _escape_cell(text: str) -> str:
    return text.replace("|", "or").replace("<", "&lt;")


SECTIONS = {"commands": render_commands, "configuration": render_configuration}
