"""The command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expfw.cli.completion.shells import (
    LINE_VARIABLE,
    NO_FILES_EXIT_CODE,
    SHELL_VARIABLE,
    SHELLS,
    format_candidates,
    make_script,
)
from expfw.cli.groups import CommandGroup, json_option, runs_dir_option
from expfw.cli.output import Output
from expfw.cli.plugins import plugins
from expfw.cli.runs.commands import runs
from expfw.cli.sweeps import sweeps
from expfw.errors import ConfigError, ExpfwError, to_one_line
from expfw.system.garbage_collection import collect_rarely, skip_final_collection
from expfw.system.signals import Killed, ignore_signals, raise_on_signals
from expfw.version import __version__

if TYPE_CHECKING:
    from expfw.plugins.catalogue import Catalogue
    from expfw.tracking.workspace import Workspace

OK, RUN_FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130  # exit codes; for an ExpfwError, see its `exit_code`
_PASS_THROUGH = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-p",
    "--plugin",
    "plugin_arguments",
    multiple=True,
    metavar="FILE|no:NAME",
    help="Load plugins from this Python file; no:NAME disables a plugin or distribution. Can be repeated.",
)
@click.version_option(__version__)
@click.pass_context
def main(ctx: click.Context, plugin_arguments: tuple[str, ...]) -> None:
    """Train models with TensorFlow, sweep with Hydra, compare in MLflow.

    \b
    expfw run model=mlp_keras dataset=digits
    expfw sweep model.units=32,64 model.optimizer.learning_rate=0.01,0.1
    expfw ui
    """
    from expfw.plugins import disabling
    from expfw.plugins.catalogue import get_catalogue

    files = tuple(dict.fromkeys(str(Path(word).absolute()) for word in plugin_arguments if not word.startswith("no:")))
    if disabling.get_variables():
        get_catalogue(files).warn_of_unknown_names()
    if disabled_names := [word.removeprefix("no:") for word in plugin_arguments if word.startswith("no:")]:
        get_catalogue(files).check_plugin_names(disabled_names)
        variables = disabling.get_variables_disabling(disabled_names)
        ctx.with_resource(disabling.use_variables(variables))  # also for child processes
    ctx.obj = get_catalogue(files)


@main.command(context_settings=_PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def run(catalogue: Catalogue, arguments: tuple[str, ...]) -> None:
    """Train one model."""
    _run_or_sweep(catalogue, arguments, is_sweep=False)


@main.command(context_settings=_PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def sweep(catalogue: Catalogue, arguments: tuple[str, ...]) -> None:
    """Train with many combinations of values."""
    _run_or_sweep(catalogue, arguments, is_sweep=True)


@main.command(context_settings=_PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def show(catalogue: Catalogue, arguments: tuple[str, ...]) -> None:
    """Show a model's layers, parameters, FLOPs and memory."""
    from expfw.cli import hydra_arguments
    from expfw.cli.show import show_model

    options = hydra_arguments.parse_arguments(
        [argument for argument in arguments if argument != "--json"], "show", ["--json"]
    )
    if options.help or options.hydra_help:
        hydra_arguments.show_help("show", catalogue, options)
    else:
        show_model(catalogue, options, Output("--json" in arguments))


def _run_or_sweep(catalogue: Catalogue, arguments: Sequence[str], is_sweep: bool) -> None:
    if is_sweep:
        collect_rarely()  # garbage collection during the imports would take time and find little
        _start_fork_server(arguments)
    from expfw.cli import hydra_arguments, train
    from expfw.cli.hydra_arguments import FLAG_FIELDS, parse_flags

    flags, other_arguments = parse_flags(arguments)
    options = hydra_arguments.parse_arguments(
        other_arguments, *(("sweep", list(FLAG_FIELDS)) if is_sweep else ("run", ["--json"]))
    )
    if options.help or options.hydra_help:
        hydra_arguments.show_help("sweep" if is_sweep else "run", catalogue, options)
        return
    flags.check(is_sweep or options.multirun)
    output = Output(flags.as_json)
    if (options.cfg or options.info) and flags.as_json:
        raise ConfigError("--json cannot be combined with --cfg or --info, which print text; omit --json")
    if options.cfg or options.info:
        hydra_arguments.show_config(catalogue, options)
    elif flags.plan:
        from expfw.cli import plan

        sys.exit(plan.print_plan(catalogue, options, flags, output))
    elif is_sweep or options.multirun:
        sys.exit(train.sweep(catalogue, options, output))
    else:
        sys.exit(train.run(catalogue, options, output))


def _start_fork_server(arguments: Sequence[str]) -> None:
    """Starts the fork server early if the sweep may need it, because it takes the longest to start."""
    from expfw.sweeps.local import fork_server

    flags = [word for word in arguments if word.startswith("-") and word != "--json"]
    if not flags and not any(word.lstrip("+").startswith("hydra/launcher=") for word in arguments):
        fork_server.start_early(arguments)


main.add_command(runs)
main.add_command(sweeps)
main.add_command(plugins)


@main.command(short_help="Open the tracker's user interface.")
@runs_dir_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, help="Port to listen on.")
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
@click.argument("ids_and_overrides", nargs=-1, metavar="[RUN_OR_SWEEP_ID] [KEY=VALUE]...")
def ui(workspace: Workspace, host: str, port: int, no_browser: bool, ids_and_overrides: tuple[str, ...]) -> None:
    """Open the tracker's user interface for runs and sweeps.

    \b
    expfw ui            # all runs of the experiment
    expfw ui y9z7       # a sweep: the page that compares its trials
    expfw ui k3v9       # a run

    Prints the address, and opens a browser if there is a display.
    """
    from expfw.cli import ui as ui_command

    sys.exit(ui_command.ui(workspace, host, port, ids_and_overrides, open_browser=not no_browser))


@main.command(short_help="Check the machine, the runs folder and the plugins.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@runs_dir_option
@json_option
def doctor(overrides: tuple[str, ...], workspace: Workspace, output: Output) -> None:
    """Check the machine, the runs folder and the plugins, and show how to fix problems.

    \b
    expfw doctor                     # check the default configuration
    expfw doctor backend=tf-gpu      # check for training on a GPU

    Exit code 0: no problems; 1: problems found.
    """

    from expfw.cli.doctor import command

    sys.exit(command.doctor(overrides, workspace, output))


@main.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the shell script for TAB completion.

    \b
    expfw completion bash >> ~/.bashrc
    expfw completion zsh >> ~/.zshrc        # after compinit
    expfw completion fish > ~/.config/fish/completions/expfw.fish
    """
    print(make_script(shell), end="")


def run_command(command: Callable[[], Any]) -> int:
    """Runs a command and returns its exit code; prints a user's error as one line on stderr."""
    with raise_on_signals() as received_signal:
        try:
            command()
        except BaseException as error:
            if (
                received_signal.number is not None
                or isinstance(error, (KeyboardInterrupt, Killed))
                or _is_interrupt(error)
            ):
                notes = [*getattr(error, "__notes__", ()), *getattr(error.__cause__, "__notes__", ())]
                message = "; ".join(["interrupted; all results so far are recorded", *notes])
                print(f"expfw: {message}", file=sys.stderr)
                return INTERRUPTED
            return _report_error(error)
    return OK


def _is_interrupt(error: BaseException) -> bool:
    """Whether Click raised Abort for a KeyboardInterrupt; it also raises Abort for an EOFError."""
    return isinstance(error, click.Abort) and not isinstance(error.__cause__, EOFError)


def _format_command(error: click.ClickException) -> str:
    """Returns the command that caused the error, as the user types it."""
    context: click.Context | None = getattr(error, "ctx", None)
    words: list[str] = []
    while context is not None and context.parent is not None:
        words.insert(0, str(context.info_name))
        context = context.parent
    return " ".join(["expfw", *words])


def _report_error(error: BaseException) -> int:
    if isinstance(error, ExpfwError):
        print(f"expfw: {' '.join([str(error), *getattr(error, '__notes__', ())])}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, click.ClickException):
        message = to_one_line(error.format_message())
        full_stop = "" if message.endswith((".", "?")) else "."
        print(f"expfw: {message}{full_stop} See `{_format_command(error)} --help`", file=sys.stderr)
        return USER_ERROR
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else OK if error.code is None else RUN_FAILED
    raise error


def entry() -> None:
    """Entry point of the command `expfw`."""
    if SHELL_VARIABLE in os.environ:  # the user pressed TAB
        from expfw.cli.completion.candidates import complete_line, takes_files

        shell, line = os.environ[SHELL_VARIABLE], os.environ.get(LINE_VARIABLE, "")
        candidates = complete_line(shell, line, main)
        print(format_candidates(shell, candidates), end="", flush=True)
        sys.exit(OK if candidates or takes_files(line, main) else NO_FILES_EXIT_CODE)
    code = run_command(lambda: main.main(standalone_mode=False))
    ignore_signals()  # a late Ctrl-C does not change the exit code
    skip_final_collection()
    sys.exit(code)
