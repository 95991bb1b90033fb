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

OK, RUN_FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130  # of the errors of ours, each class has its own
_PASS_THROUGH = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-p",
    "--plugin",
    "words",
    multiple=True,
    metavar="FILE|no:NAME",
    help="A Python file with plugins, or no: and the name of a plugin or distribution to go without; may be repeated.",
)
@click.version_option(__version__)
@click.pass_context
def main(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Train models with TensorFlow, sweep with Hydra, compare in MLflow.

    \b
    expfw run model=mlp_keras dataset=digits
    expfw sweep model.units=32,64 model.optimizer.learning_rate=0.01,0.1
    expfw ui
    """
    from expfw.plugins import disabling
    from expfw.plugins.catalogue import get_catalogue

    files = tuple(dict.fromkeys(str(Path(word).absolute()) for word in words if not word.startswith("no:")))
    if disabling.get_variables():
        get_catalogue(files).warn_of_unknown_names()
    if disabled_names := [word.removeprefix("no:") for word in words if word.startswith("no:")]:
        get_catalogue(files).check_plugin_names(disabled_names)
        variables = disabling.get_variables_disabling(disabled_names)
        ctx.with_resource(disabling.use_variables(variables))  # also for the processes that we start
    ctx.obj = get_catalogue(files)


@main.command(context_settings=_PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def run(catalogue: Catalogue, arguments: tuple[str, ...]) -> None:
    """Train once."""
    _run_or_sweep(catalogue, arguments, is_sweep=False)


@main.command(context_settings=_PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def sweep(catalogue: Catalogue, arguments: tuple[str, ...]) -> None:
    """Train every combination of some values."""
    _run_or_sweep(catalogue, arguments, is_sweep=True)


@main.command(context_settings=_PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def show(catalogue: Catalogue, arguments: tuple[str, ...]) -> None:
    """What would be trained: layers, parameters, FLOPs, memory."""
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
        collect_rarely()  # its own imports make the most garbage
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
        raise ConfigError("--json is for what comes of it; --cfg and --info print text and run nothing; take one")
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
    """Starts what a sweep waits for longest, while we still read what it is to be; not where it may not be needed."""
    from expfw.sweeps.local import fork_server

    flags = [word for word in arguments if word.startswith("-") and word != "--json"]
    if not flags and not any(word.lstrip("+").startswith("hydra/launcher=") for word in arguments):
        fork_server.start_early(arguments)


main.add_command(runs)
main.add_command(sweeps)
main.add_command(plugins)


@main.command(short_help="The tracker's user interface on these runs.")
@runs_dir_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, help="Port to listen on.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.argument("words", nargs=-1, metavar="[ID] [KEY=VALUE ...]")
def ui(workspace: Workspace, host: str, port: int, no_browser: bool, words: tuple[str, ...]) -> None:
    """The tracker's user interface on these runs, opened where there is a display.

    \b
    expfw ui            # the experiment
    expfw ui y9z7       # a sweep: the page that compares all its trials
    expfw ui k3v9       # a run
    """
    from expfw.cli import ui as ui_command

    sys.exit(ui_command.ui(workspace, host, port, words, open_browser=not no_browser))


@main.command(short_help="Whether this machine is fit, and what to do if not.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@runs_dir_option
@json_option
def doctor(overrides: tuple[str, ...], workspace: Workspace, output: Output) -> None:
    """Whether this machine is fit, and what to do where it is not; exit code 1 where something is missing.

    \b
    expfw doctor                     # for what runs by default
    expfw doctor backend=tf-gpu      # for training on a GPU
    """

    from expfw.cli.doctor import command

    sys.exit(command.doctor(overrides, workspace, output))


@main.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes TAB complete commands, keys and values.

    \b
    expfw completion bash >> ~/.bashrc
    expfw completion zsh >> ~/.zshrc        # behind compinit
    expfw completion fish > ~/.config/fish/completions/expfw.fish
    """
    print(make_script(shell), end="")


def run_command(command: Callable[[], Any]) -> int:
    """Runs a command; turns what a user can cause into one line on stderr, and everything into an exit code."""
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
                message = "; ".join(["interrupted; what was done until then is recorded", *notes])
                print(f"expfw: {message}", file=sys.stderr)
                return INTERRUPTED
            return _report_error(error)
    return OK


def _is_interrupt(error: BaseException) -> bool:
    """Click makes an Abort of KeyboardInterrupt, and of EOFError, which is none."""
    return isinstance(error, click.Abort) and not isinstance(error.__cause__, EOFError)


def _format_command(error: click.ClickException) -> str:
    """The command that was not understood, as it is typed."""
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
        print(f"expfw: {message}{full_stop} `{_format_command(error)} --help` shows what there is", file=sys.stderr)
        return USER_ERROR
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else OK if error.code is None else RUN_FAILED
    raise error


def entry() -> None:
    """What the command `expfw` calls."""
    if SHELL_VARIABLE in os.environ:  # TAB was pressed
        from expfw.cli.completion.candidates import complete_line, takes_files

        shell, line = os.environ[SHELL_VARIABLE], os.environ.get(LINE_VARIABLE, "")
        candidates = complete_line(shell, line, main)
        print(format_candidates(shell, candidates), end="", flush=True)
        sys.exit(OK if candidates or takes_files(line, main) else NO_FILES_EXIT_CODE)
    code = run_command(lambda: main.main(standalone_mode=False))
    ignore_signals()  # all is said and done; a late Ctrl-C does not change how it ended
    skip_final_collection()
    sys.exit(code)
