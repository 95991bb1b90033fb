"""The commands `expfw plugins ...`."""

from __future__ import annotations

from pathlib import Path

import click

from expfw.cli.completion.candidates import complete_list, complete_plugins
from expfw.cli.groups import CommandGroup, json_option

_KINDS = ("model", "backend", "callback", "dataset", "tracker")

plugins = CommandGroup(
    "plugins",
    help="""List, show, check and create plugins.

    \b
    expfw plugins list
    expfw plugins show mlp_keras        # its options
    expfw -p mine.py plugins check mine
    """,
)
plugins.add(
    "list",
    "expfw.cli.plugin_listing.list_plugins",
    options=[json_option],
    help="""List models, backends, callbacks, datasets and trackers.

    \b
    expfw plugins list
    expfw -p mine.py plugins list --json

    The list comes from package metadata. --json imports each plugin to add its options and hooks.
    """,
)
plugins.add(
    "show",
    "expfw.cli.plugin_listing.show_plugins",
    click.argument("arguments", nargs=-1, metavar="NAME | --order [KEY=VALUE]...", shell_complete=complete_plugins),
    click.option("--order", is_flag=True, help="Show, for each hook, the plugins in call order."),
    options=[json_option],
    help="""Show a plugin's description, options and hooks.

    \b
    expfw plugins show mlp_keras
    expfw plugins show --order +callback=early_stopping
    """,
)
plugins.add(
    "check",
    "expfw.cli.plugin_listing.check_plugins",
    click.argument("name", required=False, shell_complete=complete_plugins),
    options=[json_option],
    help="""Check one plugin, or all, for problems.

    \b
    expfw plugins check
    expfw -p mine.py plugins check mine

    Checks class, options, methods, hooks, versions and import time of each plugin in a separate process, without
    training.

    Exit code 0: no problems; 1: problems found; 2: no such plugin.
    """,
)
plugins.add(
    "new",
    "expfw.cli.plugin_listing.create_plugin",
    click.argument("name"),
    click.option(
        "--kind",
        required=True,
        metavar="KIND",
        shell_complete=complete_list(_KINDS),
        help="Kind of plugin: model, backend, callback, dataset or tracker.",
    ),
    click.option(
        "--folder",
        default=".",
        show_default=True,
        type=click.Path(path_type=Path),
        help="Folder in which to create expfw-NAME/.",
    ),
    options=[json_option],
    help="""Create a package with a plugin, its options, a test and CI.

    \b
    expfw plugins new wide-net --kind model
    """,
)
