"""What the commands that compose a configuration do."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw import compose, plugins, report, terminal
from expfw.api import Plugin, hookimpl
from expfw.config import make_plugins
from expfw.errors import ConfigError, ExpfwError
from expfw.one_run import LOG, Killed, Request, execute, identify
from expfw.run_state import FINISHED, PRUNED
from expfw.shipper import shipping


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Hydra's flags and overrides, by Hydra's own parser."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.prog = "expfw run"
    return parser.parse_args(list(arguments))


def show_help(command: str, files: tuple[str, ...], options: argparse.Namespace) -> None:
    """Groups with their choices, flags and examples."""
    if options.hydra_help:
        with compose.one_line_errors(options.overrides, files):
            compose.hydra(files, options.config_dir).hydra_help(options.config_name or "config", args_parser=_parser(), args=options)
        return
    catalogue = plugins.catalogue(files)
    groups = "\n".join(f"  {kind}={'|'.join(catalogue.names(kind))}" for kind in plugins.KINDS)
    several = "several values, separated by commas, make a sweep" if command == "sweep" else "values override the configuration"
    print(
        f"expfw {command} [OVERRIDES]: {several}\n\n"
        f"  expfw {command} model=mlp_keras dataset=digits train.epochs=3\n"
        f"  expfw sweep model.units=32,64 model.optimizer.learning_rate=0.01,0.1\n"
        f"  expfw run callback=[checkpoint,early_stopping]      replaces the list of callbacks\n"
        f"  expfw run +callback=tensorboard                     adds one\n\n"
        f"Choices (expfw plugins show NAME explains one):\n{groups}\n\n"
        "Flags: --cfg job prints the configuration, --info Hydra's view of it, -cn NAME another root, -cd FOLDER another conf."
    )


def _parser() -> argparse.ArgumentParser:
    from hydra._internal.utils import get_args_parser

    return get_args_parser()  # type: ignore[no-any-return, no-untyped-call]


def show_config(files: tuple[str, ...], options: argparse.Namespace) -> None:
    """`--cfg` and `--info`, as Hydra shows them; what cannot run is refused first."""
    name = options.config_name or "config"
    with compose.one_line_errors(options.overrides, files):
        machinery = compose.hydra(files, options.config_dir)
        if options.info:
            machinery.show_info(options.info, name, options.overrides)
        else:
            compose.compose(options.overrides, files, name, options.config_dir)
            machinery = compose.hydra(files, options.config_dir)
            machinery.show_cfg(name, options.overrides, options.cfg, options.package, options.resolve)


def run(files: tuple[str, ...], options: argparse.Namespace) -> int:
    """`expfw run`."""
    config = compose.compose(options.overrides, files, options.config_name or "config", options.config_dir)
    observers: list[Plugin] = [] if config.quiet else [terminal.Progress()]
    request = Request(config, identify(config, files), tuple(options.overrides), files)
    with shipping(config, files) as notes:
        try:
            result = execute(dataclasses.replace(request, announce_to=notes), observers)
        except (ExpfwError, KeyboardInterrupt):
            raise
        except Killed:
            return 143
        except Exception:
            import traceback

            traceback.print_exc()
            print(f"expfw: the run failed; its log is {LOG} in its folder, `expfw runs list` shows it", file=sys.stderr)
            return 1
    if not config.quiet:
        print(f"{result.status}  {result.name}  {result.steps} steps in {result.seconds:.1f} s  {_relative(result.folder)}")
        print(f"  {terminal.main_metrics(dict(result.metrics))}")
        print(f"next: expfw runs show {result.run_id}" + ("   expfw ui" if config.tracker else ""))
    return 0 if result.status in (FINISHED, PRUNED) else 1


def sweep(files: tuple[str, ...], options: argparse.Namespace) -> int:
    """`expfw sweep`."""
    from expfw import one_sweep

    display = SweepDisplay()
    quiet = any(o.replace(" ", "").lower() == "quiet=true" for o in options.overrides)
    config_name = options.config_name or "config"
    result = one_sweep.sweep(options.overrides, files, config_name, options.config_dir, [] if quiet else [display])
    if not quiet:
        from rich.console import Console

        title = f"sweep {result.id}  {result.status}  {len(result.trials)} trials  {_relative(result.folder)}"
        Console(width=None if sys.stdout.isatty() else 200).print(report.table(result.trials, result.mode, title))
        for line in report.failures(result.trials):
            print(line)
        if (command := report.best_command(result.trials, result.mode)) is not None:
            print(f"best: {command}")
        print(f"next: expfw sweeps status {result.id}   expfw ui")
    return 0 if result.status == FINISHED else 1


class SweepDisplay(Plugin):
    """A line for each trial that ended, and on a terminal a bar below them."""

    kind = "display"

    def __init__(self) -> None:
        super().__init__(config=None, name="sweep")
        self.ended = 0

    @hookimpl
    def expfw_sweep_started(self, sweep_id: str, folder: Path) -> None:
        print(f"sweep {sweep_id} in {_relative(folder)}", file=sys.stderr)

    @hookimpl
    def expfw_trial_ended(self, trial: Mapping[str, Any]) -> None:
        from expfw.ledger import Trial

        one = Trial(**trial)
        self.ended += 1
        objective = "" if one.objective is None else f"  {one.objective_metric} {terminal.number(one.objective)}"
        seconds = "" if one.seconds is None else f"  {one.seconds:.1f} s"
        print(f"{one.status:9} trial {one.number}  {one.name}{objective}{seconds}{'  ' + one.error if one.error else ''}", file=sys.stderr)


def ui(files: tuple[str, ...], runs_dir: Path, host: str, port: int, overrides: Sequence[str]) -> int:
    """`expfw ui`: runs the tracker's own server in the foreground."""
    config = compose.compose(overrides, files)
    trackers = make_plugins(config, plugins.catalogue(files), kinds=("tracker",))
    hook = plugins.manager(trackers, report=lambda line: None).hook
    command = hook.expfw_ui(runs_dir=runs_dir, host=host, port=port)
    if command is None:
        raise ConfigError("no tracker of this configuration has a user interface; add tracker=[mlflow]")
    print(f"http://{host}:{port}  (Ctrl-C ends it)\n$ {shlex.join(command)}")
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
        return 0


def _relative(folder: Path) -> Path:
    try:
        return folder.relative_to(Path.cwd())
    except ValueError:
        return folder
