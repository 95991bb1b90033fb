"""What the commands that compose a configuration do."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import tempfile
import textwrap
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn

from expfw import folders, left_out, outcome, plugins, report, terminal
from expfw.api import Backend
from expfw.compose import compose
from expfw.config import make_plugins
from expfw.display.run_display import RunDisplay
from expfw.display.sweep_display import SweepDisplay
from expfw.errors import ConfigError, ExpfwError, did_you_mean
from expfw.explain import one_line_errors
from expfw.grammar import readable
from expfw.hydra_setup import hydra
from expfw.json_output import people_on_stderr, print_json
from expfw.one_run import Request, execute, request
from expfw.run_state import FINISHED, PRUNED, Result
from expfw.settings import PRESETS, RunConfig
from expfw.shipping import shipping
from expfw.sweep_plan import GoingOn
from expfw.sweep_result import SweepResult

_TOLD_ALREADY = 100
"""Characters of a failure that was told while the sweep went on."""


def parse(arguments: Sequence[str], command: str = "run", flags: Sequence[str] = ()) -> argparse.Namespace:
    """Hydra's flags and overrides, by Hydra's own parser.

    Args:
        command: that they are of; flags: what else it knows.

    Raises:
        ConfigError: a flag that does not exist, or one without its value.
    """
    quoted = [re.sub(r"^(sweep\.on_failure=)([^']*\([^']*\))$", r"\1'\2'", word) for word in arguments]  # no function
    options = _parser(command, flags).parse_args(quoted)
    package = options.package
    if package is not None and (not options.cfg or package.startswith("no:") or package.endswith(".py")):
        dashes = did_you_mean(f"--p{package}", flags)  # -plan is -p lan
        raise ConfigError(
            f"-p {package} is Hydra's --package here, which goes with --cfg.{dashes} A plugin file, or no:NAME, goes "
            f"before the command: expfw -p {package} {command} ..."
        )
    return options


def show_help(command: str, files: tuple[str, ...], options: argparse.Namespace) -> None:
    """Groups with their choices, flags and examples."""
    if options.hydra_help:
        with one_line_errors(options.overrides, files):
            hydra(files, options.config_dir).hydra_help(
                options.config_name or "config", args_parser=_parser(), args=options
            )
        return
    loader = hydra(files, options.config_dir).config_loader
    groups = "\n".join(_choices(group, loader.get_group_options(group)) for group in (*plugins.KINDS, *PRESETS))
    several = "values with commas between make a sweep" if command == "sweep" else "values override the configuration"
    ahead = (
        "--plan lists the trials and starts none; --plan --build also builds\n"
        "one of each distinct model: parameters, memory, time (--all: every trial);\n"
    )
    another = {"run": "dataset=npz dataset.path=mine.npz", "show": "model=cnn"}.get(
        command, "'model.units=int(interval(8,512))' sweep.trials=30"
    )
    values = "model.units=32,64" if command == "sweep" else "train.epochs=3"
    print(
        f"expfw {command} [KEY=VALUE ...]   ({several})\n\n"
        f"  expfw {command} model=mlp_keras dataset=digits {values}\n"
        f"  expfw {command} {another}\n"
        f"  expfw {command} callback=[checkpoint]       # replaces the list of callbacks\n"
        f"  expfw {command} +callback=tensorboard       # adds one\n\n"
        f"Choices, as in model=cnn (expfw plugins show NAME explains one):\n{groups}\n\n"
        f"Flags: {ahead if command == 'sweep' else ''}--cfg job prints the configuration, --info Hydra's view of it;\n"
        "-cn NAME takes another root, -cd FOLDER adds a folder of configurations.\n"
        "--json prints JSON. ./conf is searched already. -p FILE goes before the command."
    )


def _choices(group: str, names: Sequence[str]) -> str:
    """A group and what it may be, in lines of less than 80 columns."""
    first, further = f"  {group:<12}", " " * 14
    return textwrap.fill(", ".join(names), 78, initial_indent=first, subsequent_indent=further, break_on_hyphens=False)


def _parser(command: str = "run", flags: Sequence[str] = ()) -> argparse.ArgumentParser:
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


def show_config(files: tuple[str, ...], options: argparse.Namespace) -> None:
    """`--cfg` and `--info`, as Hydra shows them; what cannot run is refused first."""
    name = options.config_name or "config"
    with one_line_errors(options.overrides, files):
        if options.info:
            hydra(files, options.config_dir).show_info(options.info, name, readable(options.overrides))
        else:
            compose(options.overrides, files, name, options.config_dir)
            machinery = hydra(files, options.config_dir)
            machinery.show_cfg(name, readable(options.overrides), options.cfg, options.package, options.resolve)


def run(files: tuple[str, ...], options: argparse.Namespace, as_json: bool = False) -> int:
    """`expfw run`."""
    config = compose(options.overrides, files, options.config_name or "config", options.config_dir)
    (backend,) = make_plugins(config, plugins.catalogue(files), kinds=("backend",))
    assert isinstance(backend, Backend)
    role = backend.role()
    if role == "serve":
        with terminal.noise_to(Path(os.devnull)):
            backend.serve(config)
        return 0
    if role == "follow":
        return _follow(config, files)
    return shown(request(config, files, overrides=tuple(options.overrides)), as_json)


def shown(made: Request, as_json: bool = False) -> int:
    """Makes a run, or goes on with one, with a shipper and a display; returns the exit code.

    Args:
        as_json: whether its result is printed for programs.
    """
    if as_json:
        with outcome.run_as_json(made):
            return shown(made)
    try:
        return _exit_code(train(made))
    except ExpfwError:
        raise
    except Exception:
        traceback.print_exc()  # a note at its end says which run, and where
        return 1


def train(made: Request) -> Result:
    """The same; returns the result.

    Raises:
        Exception: what `one_run.execute` raises.
    """
    config = made.config
    display = RunDisplay()
    _say_notice(config)
    with shipping(config, made.files) as notes:
        with nullcontext() if config.quiet else display.shown():
            result = execute(dataclasses.replace(made, announce_to=notes), () if config.quiet else (display,))
        if not config.quiet:
            _tell(result, config)
    return result


def _tell(result: Result, config: RunConfig) -> None:
    """What a run came to, where it is, and the next useful command."""
    spent = f"{terminal.many(result.steps, 'step')} in {result.seconds:.1f} s"
    screen = terminal.screen()
    screen.print(f"{result.status}  {result.name}  {spent}  {folders.relative(result.folder)}")
    screen.print(terminal.main_metrics(result.metrics))
    if result.stop_reason is not None:
        screen.print(f"ended before its last step: {result.stop_reason}")
    show = f"expfw runs show {result.run_id}{folders.option(config.runs_dir)}"
    screen.print(f"next: {show}{_ui(config, result.run_id)}", soft_wrap=True)


def _say_notice(config: RunConfig) -> None:
    if config.notice is not None and not config.quiet:
        terminal.screen(stderr=True).print(config.notice)


def _ui(config: RunConfig, identity: str) -> str:
    return f"   expfw ui {identity}{folders.option(config.runs_dir)}" if config.tracker else ""


def _exit_code(result: Result) -> int:
    return 0 if result.status in (FINISHED, PRUNED) else 1


def _follow(config: RunConfig, files: tuple[str, ...]) -> int:
    """Makes a run together with the process that keeps its record; what this one writes is thrown away."""
    with tempfile.TemporaryDirectory(prefix="expfw-") as folder:
        alone = dataclasses.replace(config, runs_dir=folder, cache_gib=0.0, tracker={})
        result = execute(request(alone, files))
    print(f"{result.status}  {terminal.many(result.steps, 'step')}; the record is where the first process runs")
    return _exit_code(result)


def sweep(files: tuple[str, ...], options: argparse.Namespace, as_json: bool = False) -> int:
    """`expfw sweep`."""
    name = options.config_name or "config"
    return sweep_by(options.overrides, files, name, options.config_dir, as_json=as_json)


def sweep_by(
    overrides: Sequence[str],
    files: tuple[str, ...],
    config_name: str,
    config_dir: str | None,
    going_on: GoingOn | None = None,
    as_json: bool = False,
) -> int:
    """Makes a sweep, or goes on with one, with a display; returns the exit code."""
    with people_on_stderr() if as_json else nullcontext() as stdout:
        result = swept(overrides, files, config_name, config_dir, going_on)
        if as_json:
            print_json(outcome.of_sweep(result, [*files, *left_out.switched_off()]), stdout)
    return 0 if result.status == FINISHED else 1


def swept(
    overrides: Sequence[str],
    files: tuple[str, ...],
    config_name: str = "config",
    config_dir: str | None = None,
    going_on: GoingOn | None = None,
    failures: bool = True,
) -> SweepResult:
    """The same; returns the result, and tells of trials that failed, or leaves them to that."""
    from expfw import one_sweep

    display = SweepDisplay(failures)
    with display.shown():
        result = one_sweep.sweep(overrides, files, config_name, config_dir, [display], going_on)
    if not result.config.quiet:
        _tell_of_sweep(result, files)
    return result


def _tell_of_sweep(result: SweepResult, files: Sequence[str]) -> None:
    screen, mode = terminal.screen(), result.config.objective.mode
    trials = terminal.many(len(result.trials), "trial")
    title = f"sweep {result.id}  {result.status}  {trials}  {folders.relative(result.folder)}"
    report.show(
        screen, result.trials, mode, title, [*files, *left_out.switched_off()], _TOLD_ALREADY, result.config.sweep.seeds
    )
    screen.print(f"report: {folders.relative(result.report)}", soft_wrap=True)
    status = f"expfw sweeps status {result.id}{folders.option(result.config.runs_dir)}"
    screen.print(f"next: {status}{_ui(result.config, result.id)}", soft_wrap=True)
