"""The command group class, and the parameters that several commands share."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from expfw.cli.completion.candidates import complete_ids

if TYPE_CHECKING:
    from expfw.plugins.catalogue import Catalogue

run_argument = click.argument("run_id", shell_complete=complete_ids("runs"))
sweep_argument = click.argument("sweep_id", shell_complete=complete_ids("sweeps"))
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
runs_dir_option = click.option(
    "--runs-dir",
    default="runs",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder that contains the runs.",
)
trust_option = click.option(
    "--trust",
    "trusts_records",
    is_flag=True,
    help="Also run code that the record names: plugin files, options of Hydra.",
)
accept_option = click.option(
    "--accept-differences", is_flag=True, help="Resume even if machine, packages or data have changed."
)


class CommandGroup(click.Group):
    """A group that lists its commands in their order of definition; without a command it prints the help."""

    def add(
        self,
        name: str,
        function: str,
        *parameters: Callable[[click.Command], click.Command],
        help: str,
        cls: type[click.Command] = click.Command,
        options: Sequence[Callable[[click.Command], click.Command]] = (runs_dir_option, json_option),
    ) -> None:
        """Adds a command with these parameters and options.

        The command imports `function`, a dotted name, and calls it with the parameters by name. With `--runs-dir`, the
        function gets a `workspace` instead; commands for plugins get the `catalogue`. It exits with the returned code;
        None means 0.
        """

        @click.pass_obj
        def call_function(catalogue: Catalogue, /, runs_dir: Path | None = None, **arguments: object) -> None:
            if runs_dir is not None:
                from expfw.tracking.run_index import Workspace

                trusts_records = bool(arguments.pop("trusts_records", False))
                arguments["workspace"] = Workspace(runs_dir, catalogue, trusts_records)
            elif "composition" not in arguments:
                arguments["catalogue"] = catalogue
            module, _, function_name = function.rpartition(".")
            sys.exit(getattr(importlib.import_module(module), function_name)(**arguments))

        command = cls(name, callback=call_function, help=help)
        for add_parameter in (*parameters, *options):
            add_parameter(command)
        self.add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:  # click would print its help as a one-line error
            click.echo(ctx.get_help(), err=True)
            raise SystemExit(2)
        return super().parse_args(ctx, args)
