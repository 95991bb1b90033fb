"""The command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from expfw.cli.completion.shells import LINE, NO_FILES, SHELL, SHELLS, printed, script
from expfw.cli.groups import Group, json_option, runs_dir_option
from expfw.cli.plugins import plugins
from expfw.cli.runs.commands import runs
from expfw.cli.sweeps import sweeps
from expfw.errors import ConfigError, ExpfwError, one_line
from expfw.system.garbage_collection import about_to_end, collect_rarely
from expfw.system.signals import Killed, ignore_signals, signals_raise
from expfw.version import __version__

OK, RUN_FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130  # of the errors of ours, each class has its own
_PASS_THROUGH = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
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
    files = tuple(dict.fromkeys(str(Path(word).absolute()) for word in words if not word.startswith("no:")))
    _tell_of_typos(files)
    if off := [word.removeprefix("no:") for word in words if word.startswith("no:")]:
        from expfw.plugins import disabled
        from expfw.plugins.catalogue import catalogue

        catalogue(files).check_known(off)
        ctx.with_resource(disabled.set_as(disabled.also_disabled(off)))  # the processes that we start go without, too
    ctx.obj = files


def _tell_of_typos(files: tuple[str, ...]) -> None:
    """Once for each command: the processes that it starts do not come here."""
    from expfw.plugins import disabled

    if disabled.settings():
        from expfw.plugins.catalogue import catalogue

        catalogue(files).tell_unknown()


@main.command(context_settings=_PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def run(files: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    """Train once."""
    _run_or_sweep(files, arguments, sweeping=False)


@main.command(context_settings=_PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def sweep(files: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    """Train every combination of some values."""
    _run_or_sweep(files, arguments, sweeping=True)


@main.command(context_settings=_PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def show(files: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    """What would be trained: layers, parameters, FLOPs, memory."""
    from expfw.cli import hydra_arguments
    from expfw.cli import show as showing

    options = hydra_arguments.parse([argument for argument in arguments if argument != "--json"], "show", ["--json"])
    if options.help or options.hydra_help:
        hydra_arguments.show_help("show", files, options)
    else:
        showing.show(files, options, as_json="--json" in arguments)


def _run_or_sweep(files: tuple[str, ...], arguments: Sequence[str], sweeping: bool) -> None:
    if sweeping:
        collect_rarely()  # its own imports make the most garbage
        _begin_server(arguments)
    from expfw.cli import hydra_arguments, train
    from expfw.cli.plan import NAMES, taken

    flags, rest = taken(arguments)
    options = hydra_arguments.parse(rest, *(("sweep", list(NAMES)) if sweeping else ("run", ["--json"])))
    if options.help or options.hydra_help:
        hydra_arguments.show_help("sweep" if sweeping else "run", files, options)
        return
    flags.check(sweeping or options.multirun)
    if (options.cfg or options.info) and flags.as_json:
        raise ConfigError("--json is for what comes of it; --cfg and --info print text and run nothing; take one")
    if options.cfg or options.info:
        hydra_arguments.show_config(files, options)
    elif flags.plan:
        from expfw.cli import plan

        sys.exit(plan.plan(files, options, flags))
    elif sweeping or options.multirun:
        sys.exit(train.sweep(files, options, flags.as_json))
    else:
        sys.exit(train.run(files, options, flags.as_json))


def _begin_server(arguments: Sequence[str]) -> None:
    """Starts what a sweep waits for longest, while we still read what it is to be; not where it may not be needed."""
    from expfw.sweeps.local import fork_server

    flags = [word for word in arguments if word.startswith("-") and word != "--json"]
    if not flags and not any(word.lstrip("+").startswith("hydra/launcher=") for word in arguments):
        fork_server.begin(arguments)


main.add_command(runs)
main.add_command(sweeps)
main.add_command(plugins)


@main.command(short_help="The tracker's user interface on these runs.")
@runs_dir_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, help="Port to listen on.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.argument("words", nargs=-1, metavar="[ID] [KEY=VALUE ...]")
@click.pass_obj
def ui(files: tuple[str, ...], runs_dir: Path, host: str, port: int, no_browser: bool, words: tuple[str, ...]) -> None:
    """The tracker's user interface on these runs, opened where there is a display.

    \b
    expfw ui            # the experiment
    expfw ui y9z7       # a sweep: the page that compares all its trials
    expfw ui k3v9       # a run
    """
    from expfw.cli import ui as ui_command

    sys.exit(ui_command.ui(files, runs_dir, host, port, words, browser=not no_browser))


@main.command(short_help="Whether this machine is fit, and what to do if not.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@runs_dir_option
@json_option
@click.pass_obj
def doctor(files: tuple[str, ...], overrides: tuple[str, ...], runs_dir: Path, as_json: bool) -> None:
    """Whether this machine is fit, and what to do where it is not; exit code 1 where something is missing.

    \b
    expfw doctor                     # for what runs by default
    expfw doctor backend=tf-gpu      # for training on a GPU
    """

    from expfw.cli.doctor import command

    sys.exit(command.doctor(overrides, files, runs_dir, as_json))


@main.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes TAB complete commands, keys and values.

    \b
    expfw completion bash >> ~/.bashrc
    expfw completion zsh >> ~/.zshrc        # behind compinit
    expfw completion fish > ~/.config/fish/completions/expfw.fish
    """
    print(script(shell), end="")


def guarded(command: Callable[[], Any]) -> int:
    """Runs a command; turns what a user can cause into one line on stderr, and everything into an exit code."""
    with signals_raise() as received:
        try:
            command()
        except BaseException as error:
            if received.number is not None or isinstance(error, (KeyboardInterrupt, Killed)) or _interrupted(error):
                notes = [*getattr(error, "__notes__", ()), *getattr(error.__cause__, "__notes__", ())]
                said = "; ".join(["interrupted; what was done until then is recorded", *notes])
                print(f"expfw: {said}", file=sys.stderr)
                return INTERRUPTED
            return _exit_code(error)
    return OK


def _interrupted(error: BaseException) -> bool:
    """Click makes an Abort of KeyboardInterrupt, and of EOFError, which is none."""
    return isinstance(error, click.Abort) and not isinstance(error.__cause__, EOFError)


def _command(error: click.ClickException) -> str:
    """The command that was not understood, as it is typed."""
    context: click.Context | None = getattr(error, "ctx", None)
    words: list[str] = []
    while context is not None and context.parent is not None:
        words.insert(0, str(context.info_name))
        context = context.parent
    return " ".join(["expfw", *words])


def _exit_code(error: BaseException) -> int:
    if isinstance(error, ExpfwError):
        print(f"expfw: {' '.join([str(error), *getattr(error, '__notes__', ())])}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, click.ClickException):
        what = one_line(error.format_message())
        stop = "" if what.endswith((".", "?")) else "."
        print(f"expfw: {what}{stop} `{_command(error)} --help` shows what there is", file=sys.stderr)
        return USER_ERROR
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else OK if error.code is None else RUN_FAILED
    raise error


def entry() -> None:
    """What the command `expfw` calls."""
    if SHELL in os.environ:  # TAB was pressed
        from expfw.cli.completion.candidates import completed, takes_files

        shell, line = os.environ[SHELL], os.environ.get(LINE, "")
        found = completed(shell, line, main)
        print(printed(shell, found), end="", flush=True)
        sys.exit(OK if found or takes_files(line, main) else NO_FILES)
    code = guarded(lambda: main.main(standalone_mode=False))
    ignore_signals()  # all is said and done; a late Ctrl-C does not change how it ended
    about_to_end()
    sys.exit(code)
