"""The commands about plugins."""

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
    """Models, backends, callbacks, datasets, trackers.

    \b
    expfw plugins list
    expfw plugins show mlp_keras        # what can be set
    expfw -p mine.py plugins check mine
    """


@plugins.command("list", short_help="All plugins, from their metadata.")
@json_option
@click.pass_obj
def plugins_list(catalogue: Catalogue, output: Output) -> None:
    """All plugins, from their metadata; nothing is imported, but for --json, which has all about each.

    \b
    expfw plugins list
    expfw -p mine.py plugins list --json
    """
    from expfw.cli import plugin_listing

    plugin_listing.list_plugins(catalogue, output)


@plugins.command("show")
@click.argument("words", nargs=-1, metavar="NAME | --order [KEY=VALUE]...")
@click.option("--order", is_flag=True, help="For each hook, whom a run with these overrides calls, in that order.")
@json_option
@click.pass_obj
def plugins_show(catalogue: Catalogue, words: tuple[str, ...], order: bool, output: Output) -> None:
    """One plugin: what it is, its options, its hooks.

    \b
    expfw plugins show mlp_keras
    expfw plugins show --order +callback=early_stopping
    """
    from expfw.cli import plugin_listing

    if order:
        plugin_listing.show_hook_order(catalogue, words, output)
        return
    if len(words) != 1:
        raise ConfigError(f"{len(words) or 'no'} names; expected one: expfw plugins show NAME")
    plugin_listing.show_plugin(catalogue, words[0], output)


@plugins.command("check", short_help="What is wrong with a plugin, without running it.")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def plugins_check(catalogue: Catalogue, name: str | None, output: Output) -> None:
    """What is wrong with a plugin, or with all, without running it; exit code 1 where something is.

    Class, options, methods, hooks, versions, and what importing it costs; each in a process of its own.

    \b
    expfw plugins check
    expfw -p mine.py plugins check mine
    """
    from expfw.cli import plugin_listing

    sys.exit(plugin_listing.check_plugins(catalogue, name, output))


@plugins.command("new", short_help="Write a distribution with a new plugin in it.")
@click.argument("name")
@click.option("--kind", required=True, metavar="KIND", help="model, backend, callback, dataset or tracker.")
@click.option(
    "--folder", default=".", type=click.Path(path_type=Path), help="Where expfw-NAME/ is to be made; by default here."
)
@json_option
def plugins_new(name: str, kind: str, folder: Path, output: Output) -> None:
    """Write a distribution with a new plugin in it: options, test, CI, ready to be installed and changed.

    \b
    expfw plugins new wide-net --kind model
    """
    from expfw.cli import plugin_listing
    from expfw.plugins.scaffold import naming, new

    names = naming.make_names(kind, name)
    distribution = new.write_distribution(names, folder)
    plugin_listing.print_new_plugin(distribution.folder, distribution.files, names.option, distribution.command, output)
