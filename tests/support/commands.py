"""Every command of expfw, with its context, by what is typed."""

import click

from expfw.cli.main import main


def _all(command, context):
    yield command, context
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _all(inner, click.Context(inner, info_name=name, parent=context, **inner.context_settings))


ALL = {
    context.command_path: (command, context)
    for command, context in _all(main, click.Context(main, info_name="expfw", **main.context_settings))
}
COMPOSING = ("run", "sweep", "show")
