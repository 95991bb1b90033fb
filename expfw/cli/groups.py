"""The command group class and the options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from expfw.cli.output import Output
from expfw.errors import ExpfwError, did_you_mean

if TYPE_CHECKING:
    from expfw.tracking.workspace import Workspace


class CommandGroup(click.Group):
    """A group that lists its commands in their order of definition.

    Without a command it prints the help; for an unknown command it suggests a similar one.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:  # click would print its help as a one-line error
            click.echo(ctx.get_help(), err=True)
            raise SystemExit(2)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            suggestion = did_you_mean(args[0], self.commands)
            raise ExpfwError(f"unknown command {args[0]!r}.{suggestion} Available: {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)


def _make_workspace(context: click.Context, parameter: click.Parameter, runs_dir: Path) -> Workspace:
    from expfw.tracking.workspace import Workspace

    return Workspace(runs_dir, context.obj)


json_option = click.option(
    "--json",
    "output",
    is_flag=True,
    callback=lambda _context, _parameter, value: Output(value),
    help="Print the result as JSON.",
)
runs_dir_option = click.option(
    "--runs-dir",
    "workspace",
    default="runs",
    show_default=True,
    type=click.Path(path_type=Path),
    callback=_make_workspace,
    help="Folder that contains the runs.",
)
accept_option = click.option(
    "--accept-differences", is_flag=True, help="Resume even if machine, packages or data have changed."
)
