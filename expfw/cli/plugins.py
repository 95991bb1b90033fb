"""The commands `plugins ...`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from expfw.cli.groups import CommandGroup, json_option
from expfw.cli.output import Output
from expfw.errors import ConfigError

if TYPE_CHECKING:
    from expfw.plugins.catalogue import Catalogue


@click.group(cls=CommandGroup)
def plugins() -> None:
    """List, show, check and create plugins.

    \b
    expfw plugins list
    expfw plugins show mlp_keras        # its options
    expfw -p mine.py plugins check mine
    """


@plugins.command("list", short_help="List all plugins.")
@json_option
@click.pass_obj
def plugins_list(catalogue: Catalogue, output: Output) -> None:
    """List all plugins: models, backends, callbacks, datasets and trackers.

    \b
    expfw plugins list
    expfw -p mine.py plugins list --json

    The list comes from package metadata. --json imports each plugin to add its options and hooks.
    """
    from expfw.cli import plugin_listing

    plugin_listing.list_plugins(catalogue, output)


@plugins.command("show")
@click.argument("arguments", nargs=-1, metavar="NAME | --order [KEY=VALUE]...")
@click.option("--order", is_flag=True, help="Show, for each hook, the plugins in call order.")
@json_option
@click.pass_obj
def plugins_show(catalogue: Catalogue, arguments: tuple[str, ...], order: bool, output: Output) -> None:
    """Show a plugin's description, options and hooks.

    \b
    expfw plugins show mlp_keras
    expfw plugins show --order +callback=early_stopping
    """
    from expfw.cli import plugin_listing

    if order:
        plugin_listing.show_hook_order(catalogue, arguments, output)
        return
    if len(arguments) != 1:
        raise ConfigError(f"{len(arguments) or 'no'} names given; expected one: expfw plugins show NAME")
    plugin_listing.show_plugin(catalogue, arguments[0], output)


@plugins.command("check", short_help="Check plugins for problems.")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def plugins_check(catalogue: Catalogue, name: str | None, output: Output) -> None:
    """Check one plugin, or all, for problems.

    \b
    expfw plugins check
    expfw -p mine.py plugins check mine

    Checks class, options, methods, hooks, versions and import time of each plugin in a separate process, without
    training.

    Exit code 0: no problems; 1: problems found; 2: no such plugin.
    """
    from expfw.cli import plugin_listing

    sys.exit(plugin_listing.check_plugins(catalogue, name, output))


@plugins.command("new", short_help="Create a package with a new plugin.")
@click.argument("name")
@click.option(
    "--kind", required=True, metavar="KIND", help="Kind of plugin: model, backend, callback, dataset or tracker."
)
@click.option(
    "--folder",
    default=".",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder in which to create expfw-NAME/.",
)
@json_option
def plugins_new(name: str, kind: str, folder: Path, output: Output) -> None:
    """Create a package with a new plugin, its options, a test and CI, ready to install.

    \b
    expfw plugins new wide-net --kind model
    """
    from expfw.cli import plugin_listing
    from expfw.plugins.scaffold import naming, new

    names = naming.make_names(kind, name)
    distribution = new.write_distribution(names, folder)
    plugin_listing.print_new_plugin(distribution.folder, distribution.files, names.option, distribution.command, output)
