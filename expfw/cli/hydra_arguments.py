"""Hydra's options and overrides on the command line, with their help."""

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
    """Parses Hydra's options and overrides with Hydra's parser.

    Args:
        arguments: arguments after the command.
        command: name of the command.
        flags: additional options of the command, for suggestions.

    Raises:
        ConfigError: if an option is unknown or has no value.
    """
    # Quoted, because Hydra would read retry(2) as a function.
    quoted_arguments = [re.sub(r"^(sweep\.on_failure=)([^']*\([^']*\))$", r"\1'\2'", word) for word in arguments]
    options = _make_parser(command, flags).parse_args(quoted_arguments)
    package = options.package
    if package is not None and (not options.cfg or package.startswith("no:") or package.endswith(".py")):
        suggestion = did_you_mean(f"--p{package}", flags)  # -plan is parsed as -p lan
        raise ConfigError(
            f"after the command, -p {package} means Hydra's --package, which needs --cfg.{suggestion} Put a plugin "
            f"file, or no:NAME, before the command: expfw -p {package} {command} ..."
        )
    return options


def show_help(command: str, catalogue: Catalogue, options: argparse.Namespace) -> None:
    """Prints the usage, examples, choices and options of a command."""
    if options.hydra_help:
        with one_line_errors(options.overrides, catalogue):
            make_hydra(catalogue, options.config_dir).hydra_help(
                options.config_name or "config", args_parser=_make_parser(), args=options
            )
        return
    loader = make_hydra(catalogue, options.config_dir).config_loader
    groups = "\n".join(_format_choices(group, loader.get_group_options(group)) for group in (*kinds.KINDS, *PRESETS))
    summary = {
        "run": "Train one model. Each KEY=VALUE overrides the configuration.",
        "sweep": "Train with many combinations of values. Separate the values by commas.",
    }.get(command, "Show a model's layers, parameters, FLOPs and memory without training it.")
    plan_help = (
        "  --plan          List the trials without running them.\n"
        "  --plan --build  Also build each distinct model; show parameters, memory, time.\n"
        "  --plan --all    List every trial of a long plan.\n"
    )
    second_example = {"run": "dataset=npz dataset.path=mine.npz", "show": "model=cnn"}.get(
        command, "'model.units=int(interval(8,512))' sweep.trials=30"
    )
    example_values = "model.units=32,64" if command == "sweep" else "train.epochs=3"
    print(
        f"Usage: expfw {command} [OPTIONS] [KEY=VALUE]...\n\n  {summary}\n\n"
        f"  expfw {command} model=mlp_keras dataset=digits {example_values}\n  expfw {command} {second_example}\n"
        f"  expfw {command} callback=[checkpoint]       # replace the list of callbacks\n"
        f"  expfw {command} +callback=tensorboard       # add one callback\n\n"
        f"Choices, as in model=cnn (details of a plugin: expfw plugins show NAME):\n{groups}\n\n"
        f"Options:\n{plan_help if command == 'sweep' else ''}"
        "  --cfg job       Print the configuration and exit.\n"
        "  --info          Print Hydra's search path, defaults and plugins, and exit.\n"
        "  -cn NAME        Use the root configuration NAME.yaml instead of config.yaml.\n"
        "  -cd FOLDER      Add a folder of configurations. ./conf is always searched.\n"
        "  --json          Print the result as JSON.\n"
        "  -h, --help      Show this message and exit.\n\n"
        f"To load plugins from FILE, put -p before the command: expfw -p FILE {command} ..."
    )


def _format_choices(group: str, names: Sequence[str]) -> str:
    """Formats a group and its choices in lines shorter than 80 columns."""
    first, further = f"  {group:<12}", " " * 14
    return textwrap.fill(", ".join(names), 78, initial_indent=first, subsequent_indent=further, break_on_hyphens=False)


def _make_parser(command: str = "run", flags: Sequence[str] = ()) -> argparse.ArgumentParser:
    from hydra._internal.utils import get_args_parser

    def reject(message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        suggestion = did_you_mean(unknown, [*flags, *parser._option_string_actions]) if unknown.startswith("-") else ""
        raise ConfigError(f"{message}.{suggestion} See `expfw {command} --help`")

    parser: argparse.ArgumentParser = get_args_parser()
    parser.error = reject  # type: ignore[method-assign]  # argparse would print all its options and exit
    return parser


def show_config(catalogue: Catalogue, options: argparse.Namespace) -> None:
    """Prints the output of Hydra's `--cfg` or `--info`; raises an error if the configuration cannot run."""
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
    """Options of `run` and `sweep` that are not Hydra's.

    Attributes:
        plan: list the trials without running them.
        build: also build each distinct model once.
        everything: print all trials, even if there are many.
        as_json: print the result as JSON.
    """

    plan: bool = False
    build: bool = False
    everything: bool = False
    as_json: bool = False

    def check(self, is_sweep: bool) -> None:
        """Raises ConfigError if the options cannot be combined."""
        given_flags = [name for name, field in FLAG_FIELDS.items() if getattr(self, field) and field != "as_json"]
        if given_flags and not is_sweep:
            raise ConfigError(
                f"{given_flags[0]} is an option of `expfw sweep`, not of `expfw run`; to show a model without training "
                "it: expfw show"
            )
        if given_flags and not self.plan:
            raise ConfigError(f"{given_flags[0]} needs --plan: expfw sweep --plan {given_flags[0]} model.units=32,64")


def parse_flags(arguments: Sequence[str]) -> tuple[PlanFlags, list[str]]:
    """Returns these options and all other arguments."""
    flags = PlanFlags(**{field: name in arguments for name, field in FLAG_FIELDS.items()})
    return flags, [word for word in arguments if word not in FLAG_FIELDS]
