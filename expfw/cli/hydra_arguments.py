"""Hydra's flags and overrides on the command line, with their help."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from expfw.api.run_config import PRESETS
from expfw.config.compose import compose
from expfw.config.error_messages import one_line_errors
from expfw.config.plugin_source import make_hydra
from expfw.config.quoting import quote_overrides
from expfw.errors import ConfigError, did_you_mean
from expfw.plugins import kinds
from expfw.plugins.catalogue import Catalogue


def parse_arguments(arguments: Sequence[str], command: str = "run", flags: Sequence[str] = ()) -> argparse.Namespace:
    """Hydra's flags and overrides, by Hydra's own parser.

    Args:
        command: that they are of; flags: what else it knows.

    Raises:
        ConfigError: a flag that does not exist, or one without its value.
    """
    quoted_arguments = [
        re.sub(r"^(sweep\.on_failure=)([^']*\([^']*\))$", r"\1'\2'", word) for word in arguments
    ]  # no function
    options = _make_parser(command, flags).parse_args(quoted_arguments)
    package = options.package
    if package is not None and (not options.cfg or package.startswith("no:") or package.endswith(".py")):
        suggestion = did_you_mean(f"--p{package}", flags)  # -plan is -p lan
        raise ConfigError(
            f"-p {package} is Hydra's --package here, which goes with --cfg.{suggestion} A plugin file, or no:NAME, "
            f"goes before the command: expfw -p {package} {command} ..."
        )
    return options


def show_help(command: str, catalogue: Catalogue, options: argparse.Namespace) -> None:
    """Groups with their choices, flags and examples."""
    if options.hydra_help:
        with one_line_errors(options.overrides, catalogue):
            make_hydra(catalogue, options.config_dir).hydra_help(
                options.config_name or "config", args_parser=_make_parser(), args=options
            )
        return
    loader = make_hydra(catalogue, options.config_dir).config_loader
    groups = "\n".join(_format_choices(group, loader.get_group_options(group)) for group in (*kinds.KINDS, *PRESETS))
    values_help = (
        "values with commas between make a sweep" if command == "sweep" else "values override the configuration"
    )
    plan_help = (
        "--plan lists the trials and starts none; --plan --build also builds\n"
        "one of each distinct model: parameters, memory, time (--all: every trial);\n"
    )
    second_example = {"run": "dataset=npz dataset.path=mine.npz", "show": "model=cnn"}.get(
        command, "'model.units=int(interval(8,512))' sweep.trials=30"
    )
    example_values = "model.units=32,64" if command == "sweep" else "train.epochs=3"
    print(
        f"expfw {command} [KEY=VALUE ...]   ({values_help})\n\n  expfw {command} model=mlp_keras dataset=digits "
        f"{example_values}\n  expfw {command} {second_example}\n  expfw {command} callback=[checkpoint]       # "
        f"replaces the list of callbacks\n  expfw {command} +callback=tensorboard       # adds one\n\nChoices, as in "
        f"model=cnn (expfw plugins show NAME explains one):\n{groups}\n\nFlags: "
        f"{plan_help if command == 'sweep' else ''}--cfg job prints the configuration, --info Hydra's view of it;\n-cn "
        "NAME takes another root, -cd FOLDER adds a folder of configurations.\n--json prints JSON. ./conf is searched "
        "already. -p FILE goes before the command."
    )


def _format_choices(group: str, names: Sequence[str]) -> str:
    """A group and what it may be, in lines of less than 80 columns."""
    first, further = f"  {group:<12}", " " * 14
    return textwrap.fill(", ".join(names), 78, initial_indent=first, subsequent_indent=further, break_on_hyphens=False)


def _make_parser(command: str = "run", flags: Sequence[str] = ()) -> argparse.ArgumentParser:
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        suggestion = did_you_mean(unknown, [*flags, *parser._option_string_actions]) if unknown.startswith("-") else ""
        raise ConfigError(
            f"{message}{f'.{suggestion}' if suggestion else ';'} `expfw {command} --help` shows what there is"
        )

    parser: argparse.ArgumentParser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]  # its own prints the usage of all flags, and exits
    return parser


def show_config(catalogue: Catalogue, options: argparse.Namespace) -> None:
    """`--cfg` and `--info`, as Hydra shows them; what cannot run is refused first."""
    name = options.config_name or "config"
    with one_line_errors(options.overrides, catalogue):
        if options.info:
            make_hydra(catalogue, options.config_dir).show_info(options.info, name, quote_overrides(options.overrides))
        else:
            compose(options.overrides, catalogue, name, options.config_dir)
            hydra_instance = make_hydra(catalogue, options.config_dir)
            hydra_instance.show_cfg(
                name, quote_overrides(options.overrides), options.cfg, options.package, options.resolve
            )


FLAG_FIELDS = {"--plan": "plan", "--build": "build", "--all": "everything", "--json": "as_json"}


@dataclass(frozen=True)
class PlanFlags:
    """Which of them were given.

    Attributes:
        plan: list the trials, start none; build: build one of each distinct model, too.
        everything: print every trial, however many there are.
    """

    plan: bool = False
    build: bool = False
    everything: bool = False
    as_json: bool = False

    def check(self, is_sweep: bool) -> None:
        """Raises ConfigError where they do not go together."""
        given_flags = [name for name, field in FLAG_FIELDS.items() if getattr(self, field) and field != "as_json"]
        if given_flags and not is_sweep:
            raise ConfigError(
                f"{given_flags[0]} is a flag of `expfw sweep`, not of `expfw run`; `expfw show` tells what a run "
                "would train"
            )
        if given_flags and not self.plan:
            raise ConfigError(
                f"{given_flags[0]} goes with --plan, as in: expfw sweep --plan {given_flags[0]} model.units=32,64"
            )


def parse_flags(arguments: Sequence[str]) -> tuple[PlanFlags, list[str]]:
    """These flags, and all other arguments."""
    flags = PlanFlags(**{field: name in arguments for name, field in FLAG_FIELDS.items()})
    return flags, [word for word in arguments if word not in FLAG_FIELDS]
