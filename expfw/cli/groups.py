"""The command group class and the options that several commands share."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from expfw.cli.completion.candidates import complete_ids
from expfw.errors import ExpfwError, did_you_mean

if TYPE_CHECKING:
    from expfw.tracking.workspace import Workspace


class CommandGroup(click.Group):
    """A group that lists its commands in their order of definition.

    Without a command it prints the help; for an unknown command it suggests a similar one.
    """

    def add(
        self,
        name: str,
        function: str,
        *parameters: Callable[[click.Command], click.Command],
        help: str,
        short_help: str | None = None,
        cls: type[click.Command] = click.Command,
        needs_runs: bool = True,
        has_json: bool = True,
    ) -> None:
        """Adds a command with these parameters, `--runs-dir` and `--json`.

        The command imports `function`, a dotted name, and calls it with the parameters by name, `workspace`, or
        `catalogue` if it does not need runs, and `as_json`. It exits with the returned code; None means 0.
        """

        def call_function(**arguments: object) -> None:
            if not needs_runs:
                arguments["catalogue"] = click.get_current_context().obj
            module, _, function_name = function.rpartition(".")
            sys.exit(getattr(importlib.import_module(module), function_name)(**arguments))

        command = cls(name, callback=call_function, help=help, short_help=short_help)
        for add_parameter in parameters:
            add_parameter(command)
        if needs_runs:
            runs_dir_option(command)
        if has_json:
            json_option(command)
        self.add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:  # click would print its help as a one-line error
            click.echo(ctx.get_help(), err=True)
            raise SystemExit(2)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not ctx.resilient_parsing:
            suggestion = did_you_mean(args[0], self.commands)
            raise ExpfwError(f"unknown command {args[0]!r}.{suggestion} Available: {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)


def _make_workspace(context: click.Context, parameter: click.Parameter, runs_dir: Path) -> Workspace:
    from expfw.tracking.workspace import Workspace

    return Workspace(runs_dir, context.obj)


run_argument = click.argument("run_id", shell_complete=complete_ids("runs"))
sweep_argument = click.argument("sweep_id", shell_complete=complete_ids("sweeps"))
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
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
