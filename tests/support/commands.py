"""All commands of expfw with their contexts, by their full names."""

import click

from expfw.cli.main import main


def _walk_commands(command, context):
    yield command, context
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _walk_commands(
                inner, click.Context(inner, info_name=name, parent=context, **inner.context_settings)
            )


COMMANDS = {
    context.command_path: (command, context)
    for command, context in _walk_commands(main, click.Context(main, info_name="expfw", **main.context_settings))
}
