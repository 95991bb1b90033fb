"""The command line."""

from __future__ import annotations

import gc
import io
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from expfw.cli.completion.candidates import complete_ids, complete_overrides
from expfw.cli.completion.shells import SHELLS, VARIABLE
from expfw.cli.groups import CommandGroup, json_option, runs_dir_option
from expfw.cli.hydra_command import HydraCommand
from expfw.cli.plugins import plugins
from expfw.cli.runs.commands import runs
from expfw.cli.sweeps import sweeps
from expfw.errors import ExpfwError, PluginError, TrustError, to_error_text
from expfw.redaction import learn_overrides, redact_overrides
from expfw.system.redirection import redact_output, redacted_output
from expfw.system.signals import Killed, ignore_signals, raise_on_signals
from expfw.system.temporary_folders import use_process_folder
from expfw.version import __version__

OK, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130  # exit codes; for an ExpfwError, see its `exit_code`


def _load_catalogue(context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> None:
    """Loads plugin files and disables plugins; the catalogue is the object of the context, also for completion."""
    from expfw.plugins import disabling
    from expfw.plugins.catalogue import get_catalogue

    files = tuple(dict.fromkeys(str(Path(value).absolute()) for value in values if not value.startswith("no:")))
    if disabling.get_variables():
        get_catalogue(files).warn_of_unknown_names()
    if disabled_names := [value.removeprefix("no:") for value in values if value.startswith("no:")]:
        if problem := get_catalogue(files).describe_unknown_names(disabled_names):
            raise PluginError(f"-p no:NAME: {problem} `expfw plugins list` lists all plugins")
        variables = disabling.get_variables_disabling(disabled_names)
        context.with_resource(disabling.use_variables(variables))  # also for child processes
    context.obj = get_catalogue(files)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-p",
    "--plugin",
    multiple=True,
    type=click.Path(),
    callback=_load_catalogue,
    expose_value=False,
    metavar="FILE|no:NAME",
    help="Load plugins from this Python file; no:NAME disables a plugin or distribution. Can be repeated.",
)
@click.version_option(__version__)
def main() -> None:
    """Train models with TensorFlow, sweep with Hydra, compare in MLflow.

    \b
    expfw run model=mlp_keras dataset=digits
    expfw sweep model.units=32,64 model.optimizer.learning_rate=0.01,0.1
    expfw ui
    """


main.add(
    "run",
    "expfw.cli.train.run",
    click.option("--multirun", "-m", is_flag=True, help="Train with many combinations of values, as expfw sweep does."),
    cls=HydraCommand,
    options=[json_option],
    help="""Train one model. Each KEY=VALUE overrides the configuration.

    \b
    expfw run model=mlp_keras dataset=digits train.epochs=3
    expfw run dataset=npz dataset.path=mine.npz
    expfw run callback=[checkpoint]       # replace the list of callbacks
    expfw run +callback=tensorboard       # add one callback
    """,
)
main.add(
    "sweep",
    "expfw.cli.train.sweep",
    click.option("--plan", is_flag=True, help="List the trials without running them."),
    click.option("--build", is_flag=True, help="With --plan: build each distinct model; show its size and time."),
    click.option("--all", "everything", is_flag=True, help="With --plan: list every trial of a long plan."),
    cls=HydraCommand,
    options=[json_option],
    help="""Train with many combinations of values. Separate the values by commas.

    \b
    expfw sweep model=mlp_keras dataset=digits model.units=32,64
    expfw sweep 'model.units=int(interval(8,512))' sweep.trials=30
    expfw sweep callback=[checkpoint]       # replace the list of callbacks
    expfw sweep +callback=tensorboard       # add one callback
    """,
)
main.add(
    "show",
    "expfw.cli.show.show_model",
    cls=HydraCommand,
    options=[json_option],
    help="""Show the layers, FLOPs and memory of a model without training.

    \b
    expfw show model=mlp_keras dataset=digits
    expfw show model=cnn model.kernel=3
    """,
)
main.add_command(runs)
main.add_command(sweeps)
main.add_command(plugins)
main.add(
    "ui",
    "expfw.cli.ui.ui",
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port to listen on."),
    click.option("--no-browser", is_flag=True, help="Do not open a browser."),
    click.argument(
        "ids_and_overrides",
        nargs=-1,
        metavar="[RUN_OR_SWEEP_ID] [KEY=VALUE]...",
        shell_complete=complete_ids("sweeps", "runs"),
    ),
    options=[runs_dir_option],
    help="""Open the tracker's user interface for runs and sweeps.

    \b
    expfw ui            # all runs of the experiment
    expfw ui y9z7       # a sweep: the page that compares its trials
    expfw ui k3v9       # a run

    Prints the address, and opens a browser if there is a display.
    """,
)
main.add(
    "doctor",
    "expfw.cli.doctor.command.doctor",
    click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_overrides),
    help="""Check the machine, the runs folder and the plugins. Show how to fix each problem.

    \b
    expfw doctor                     # check the default configuration
    expfw doctor backend=tf-gpu      # check for training on a GPU

    Exit code 0: no problems; 1: problems found.
    """,
)


@main.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print the shell script for TAB completion.

    \b
    expfw completion bash >> ~/.bashrc
    expfw completion zsh >> ~/.zshrc        # after compinit
    expfw completion fish > ~/.config/fish/completions/expfw.fish
    """
    print(SHELLS[shell](main, {}, "expfw", VARIABLE).source(), end="")


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Runs a command, by default that of this process, and returns its exit code; prints a user's error as one line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    learn_overrides(arguments)
    with redacted_output(), raise_on_signals() as received_signal:
        try:
            main.main(arguments, prog_name="expfw", complete_var=VARIABLE, standalone_mode=False)
        except BaseException as error:
            # Click raises Abort for a KeyboardInterrupt, but also for an EOFError.
            is_abort = isinstance(error, click.Abort) and not isinstance(error.__cause__, EOFError)
            if received_signal.number is not None or is_abort or isinstance(error, (KeyboardInterrupt, Killed)):
                notes = [*getattr(error, "__notes__", ()), *getattr(error.__cause__, "__notes__", ())]
                message = "; ".join(["interrupted; all results so far are recorded", *notes])
                print(f"expfw: {message}", file=sys.stderr)
                return INTERRUPTED
            return _report_error(error, arguments)
    return OK


def _report_error(error: BaseException, arguments: Sequence[str]) -> int:
    if isinstance(error, ExpfwError):
        text = f"{error}{_suggest_commands(error, arguments) if isinstance(error, TrustError) else ''}"
        print(f"expfw: {' '.join([text, *getattr(error, '__notes__', ())])}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "expfw"
        message = to_error_text(error.format_message())
        if isinstance(error, click.NoSuchOption) and error.option_name == "-p":
            message += f" Put it before the command: {command.replace('expfw', 'expfw -p FILE', 1)} ..."
        full_stop = "" if message.endswith((".", "?")) else "."
        print(f"expfw: {message}{full_stop} See `{command} --help`", file=sys.stderr)
        return USER_ERROR
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else OK if error.code is None else FAILED
    raise error


def _suggest_commands(error: TrustError, arguments: Sequence[str]) -> str:
    """Returns the commands that run the code that the record names."""
    words = redact_overrides(arguments)
    commands = [["expfw", *words, "--trust"]]
    if error.files:
        commands.insert(0, ["expfw", *(word for file in error.files for word in ("-p", file)), *words])
    return f"; to run it: {' or: '.join(map(shlex.join, commands))}"


def entry() -> None:
    """Entry point of the command `expfw`."""
    if VARIABLE in os.environ:  # the user pressed TAB; Click answers
        sys.stderr = io.StringIO()
    else:
        use_process_folder()
    redact_output()  # also for a traceback at the end of the process
    code = run_command()
    ignore_signals()  # a late Ctrl-C does not change the exit code
    gc.freeze()  # no garbage collection at the end of the process
    sys.exit(code)
