"""Commands whose arguments are overrides, with Hydra's options: `run`, `sweep` and `show`."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import click

from expfw.cli.completion.candidates import complete_overrides
from expfw.errors import ConfigError
from expfw.redaction import redact_lines

_INFO_KINDS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
_PARAMETERS = (
    click.Argument(["overrides"], nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_overrides),
    click.Option(
        ["--cfg", "-c"], type=click.Choice(["job", "hydra", "all"]), help="Print the configuration (job) and exit."
    ),
    click.Option(["--resolve"], is_flag=True, help="With --cfg: replace interpolations by their values."),
    click.Option(
        ["--info", "-i"],
        is_flag=False,
        flag_value="all",
        type=click.Choice(_INFO_KINDS),
        metavar="[KIND]",
        help="Print Hydra's search path, defaults and plugins, and exit.",
    ),
    click.Option(
        ["--config-name", "-cn"],
        metavar="NAME",
        default="config",
        help="Use the root configuration NAME.yaml instead of config.yaml.",
    ),
    click.Option(
        ["--config-dir", "-cd"],
        metavar="FOLDER",
        type=click.Path(),
        is_eager=True,  # for `--help`
        help="Add a folder of configurations. ./conf is always searched.",
    ),
)


class HydraCommand(click.Command):
    """A command with overrides and Hydra's options; its help lists the choices of each group."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _PARAMETERS
        self.epilog = f"To load plugins from FILE: expfw -p FILE {self.name} ..."

    def invoke(self, ctx: click.Context) -> Any:
        from expfw.config.compose import Composition
        from expfw.config.error_messages import one_line_errors
        from expfw.config.plugin_source import make_hydra
        from expfw.config.quoting import quote_overrides

        cfg, resolve, info = (ctx.params.pop(name) for name in ("cfg", "resolve", "info"))
        overrides, name, folder = (ctx.params.pop(key) for key in ("overrides", "config_name", "config_dir"))
        composition = ctx.params["composition"] = Composition(overrides, ctx.obj, name, folder)
        if cfg is None and info is None:
            return super().invoke(ctx)
        if ctx.params["as_json"]:
            raise ConfigError("--json cannot be combined with --cfg or --info, which print text; omit --json")
        output = io.StringIO()
        with one_line_errors(overrides, ctx.obj), contextlib.redirect_stdout(output):
            if cfg is None:
                make_hydra(ctx.obj, folder).show_info(info, name, quote_overrides(overrides))
            else:
                composition.compose()  # raises an error if it cannot run
                make_hydra(ctx.obj, folder).show_cfg(name, quote_overrides(overrides), cfg, None, resolve)
        print(redact_lines(output.getvalue().rstrip("\n")))
        return None

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from expfw.api.run_config import PRESETS
        from expfw.config.plugin_source import make_hydra
        from expfw.plugins.catalogue import get_catalogue
        from expfw.plugins.kinds import KINDS

        super().format_help_text(ctx, formatter)
        loader = make_hydra(ctx.obj or get_catalogue(), ctx.params.get("config_dir")).config_loader
        with formatter.section("Choices, as in model=cnn (details of a plugin: expfw plugins show NAME)"):
            formatter.write_dl([(group, ", ".join(loader.get_group_options(group))) for group in (*KINDS, *PRESETS)])
