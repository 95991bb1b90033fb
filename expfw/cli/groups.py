"""What the commands share: a group that helps whoever mistypes one, and options."""

from __future__ import annotations

from pathlib import Path

import click

from expfw.errors import ExpfwError, did_you_mean


class CommandGroup(click.Group):
    """Commands in the order in which they are defined; none gets the help, an unknown one a suggestion."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:  # click's own way would make its help one line of an error
            click.echo(ctx.get_help(), err=True)
            raise SystemExit(2)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            suggestion = did_you_mean(args[0], self.commands)
            raise ExpfwError(f"no command {args[0]!r}.{suggestion} There are: {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
runs_dir_option = click.option(
    "--runs-dir", default="runs", show_default=True, type=click.Path(path_type=Path), help="The runs folder."
)
accept_option = click.option(
    "--accept-differences", is_flag=True, help="Go on though machine, packages or data differ from before."
)
