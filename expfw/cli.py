"""The command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from expfw import __version__
from expfw.errors import ExpfwError, NotFoundError, did_you_mean

OK, RUN_FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130
_PASS_THROUGH = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


class Group(click.Group):
    """Commands in the order in which they are defined; an unknown one gets a suggestion."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            suggestion = did_you_mean(args[0], self.commands)
            raise ExpfwError(f"no command {args[0]!r}.{suggestion} There are: {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-p", "--plugin", "files", multiple=True, metavar="FILE", help="A Python file with plugins; may be repeated.")
@click.version_option(__version__)
@click.pass_context
def main(ctx: click.Context, files: tuple[str, ...]) -> None:
    """Train models with TensorFlow, sweep with Hydra, compare in MLflow.

    \b
    expfw run model=mlp_keras dataset=digits
    expfw sweep model.units=32,64 model.optimizer.learning_rate=0.01,0.1
    expfw ui
    """
    ctx.obj = tuple(str(Path(file).absolute()) for file in files)


@main.command(context_settings=_PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def run(files: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    """Train once: expfw run model=mlp_keras train.epochs=3 (--cfg job shows the configuration)."""
    _run_or_sweep(files, arguments, sweeping=False)


@main.command(context_settings=_PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def sweep(files: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    """Train every combination: expfw sweep model.units=32,64 seed=1,2,3."""
    _run_or_sweep(files, arguments, sweeping=True)


def _run_or_sweep(files: tuple[str, ...], arguments: Sequence[str], sweeping: bool) -> None:
    from expfw import commands

    options = commands.parse(arguments)
    if options.help or options.hydra_help:
        commands.show_help("sweep" if sweeping else "run", files, options)
    elif options.cfg or options.info:
        commands.show_config(files, options)
    elif sweeping or options.multirun:
        sys.exit(commands.sweep(files, options))
    else:
        sys.exit(commands.run(files, options))


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_runs_dir = click.option("--runs-dir", default="runs", show_default=True, type=click.Path(path_type=Path), help="The runs folder.")


@main.group(cls=Group)
def runs() -> None:
    """What has run."""


@runs.command("list")
@_runs_dir
@_json
def runs_list(runs_dir: Path, as_json: bool) -> None:
    """All runs, newest first, trials of sweeps among them."""
    from expfw import folders, terminal

    rows, values = [], []
    for entry in folders.runs(runs_dir):
        metrics = entry.last.get("metrics") or {}
        values.append({"id": entry.id, "name": entry.name, "status": entry.status, "folder": str(entry.folder), "metrics": metrics})
        rows.append([entry.id, _when(entry.first["time"]), entry.status, entry.name, terminal.main_metrics(metrics)])
    _print(as_json, values, ["run", "started", "status", "name", "metrics"], rows, f"no runs in {runs_dir}; begin with: expfw run")


@runs.command("show")
@click.argument("run_id")
@_runs_dir
@_json
def runs_show(run_id: str, runs_dir: Path, as_json: bool) -> None:
    """One run: status, metrics, what is in its folder."""
    from expfw import folders, journal

    entry = folders.find(folders.runs(runs_dir), run_id, "run")
    records, _ = journal.read(entry.folder / journal.NAME)
    metrics: dict[str, float] = {}
    for record in records:
        metrics.update(record["values"] if record["kind"] == "metrics" else {})
    messages = [r["text"] for r in records if r["kind"] == "message"]
    facts = {k: v for r in records if r["kind"] == "facts" for k, v in r["values"].items()}
    shown = {
        "run": entry.id,
        "name": entry.name,
        "status": entry.status,
        "started": _when(entry.first["time"]),
        "seconds": entry.last.get("seconds"),
        "error": entry.last.get("error"),
        "folder": str(entry.folder),
        "overrides": " ".join(entry.first["overrides"]),
        **facts,
    }
    if as_json:
        click.echo(json.dumps({**shown, "metrics": metrics, "messages": messages, "config": entry.first["params"]}, indent=2))
        return
    rows = [[key, _text(value)] for key, value in shown.items() if value is not None]
    rows += [[name, _text(value)] for name, value in sorted(metrics.items())] + [["message", text] for text in messages]
    _print(False, None, ["", ""], rows, "")


@main.group(cls=Group)
def sweeps() -> None:
    """Sweeps that have run."""


@sweeps.command("list")
@_runs_dir
@_json
def sweeps_list(runs_dir: Path, as_json: bool) -> None:
    """All sweeps, newest first."""
    from expfw import folders
    from expfw.ledger import Ledger

    rows, values = [], []
    for entry in folders.sweeps(runs_dir):
        done = sum(t.status not in ("WAITING", "RUNNING") for t in Ledger(entry.folder).trials())
        total = entry.first["trials"]
        values.append({"id": entry.id, "name": entry.name, "status": entry.status, "folder": str(entry.folder), "done": done, "trials": total})
        rows.append([entry.id, _when(entry.first["time"]), entry.status, f"{done}/{total}", entry.name])
    _print(as_json, values, ["sweep", "started", "status", "trials", "name"], rows, f"no sweeps in {runs_dir}; begin with: expfw sweep")


@sweeps.command("status")
@click.argument("sweep_id")
@_runs_dir
@_json
def sweeps_status(sweep_id: str, runs_dir: Path, as_json: bool) -> None:
    """One sweep: its trials, best first."""
    from expfw import folders, report
    from expfw.ledger import Ledger

    entry = folders.find(folders.sweeps(runs_dir), sweep_id, "sweep")
    trials = Ledger(entry.folder).trials()
    if as_json:
        click.echo(json.dumps({"id": entry.id, "status": entry.status, "trials": [report.as_json(t) for t in trials]}, indent=2))
        return
    title = f"sweep {entry.id}  {entry.status}  {len(trials)} of {entry.first['trials']} trials begun"
    _show(report.table(trials, entry.first["objective"]["mode"], title))
    for line in report.failures(trials):
        click.echo(line)


@main.group(cls=Group)
def plugins() -> None:
    """Models, backends, callbacks, datasets and trackers."""


@plugins.command("list")
@_json
@click.pass_obj
def plugins_list(files: tuple[str, ...], as_json: bool) -> None:
    """All plugins, from their metadata; nothing is imported."""
    from expfw.plugins import KINDS, catalogue

    found = [plugin for kind in KINDS for plugin in catalogue(files).found[kind]]
    values = [{"kind": p.kind, "name": p.name, "distribution": p.distribution, "version": p.version, "class": p.target} for p in found]
    rows = [[p.kind, p.name, f"{p.distribution} {p.version}".strip(), p.target] for p in found]
    _print(as_json, values, ["kind", "name", "from", "class"], rows, "no plugins; is expfw installed as a package?")


@plugins.command("show")
@click.argument("name")
@_json
@click.pass_obj
def plugins_show(files: tuple[str, ...], name: str, as_json: bool) -> None:
    """One plugin: what it is and its options."""
    from expfw.plugins import KINDS, catalogue
    from expfw.schema import options

    everything = catalogue(files)
    kinds = [kind for kind in KINDS if everything.has(kind, name)]
    if not kinds:
        names = [n for kind in KINDS for n in everything.names(kind)]
        raise NotFoundError(f"no plugin {name!r}.{did_you_mean(name, names)} `expfw plugins list` shows all there are")
    values = []
    for kind in kinds:
        found = everything.get(kind, name)
        cls = found.load()
        prefix = f"{kind}.{found.name}" if kind in ("callback", "tracker") else kind
        listed = [{"option": f"{prefix}.{o.name}", "type": o.type, "default": o.default, "help": o.help} for o in options(cls.Config)]
        about = " ".join((cls.__doc__ or "").split())
        values.append({"kind": kind, "name": found.name, "distribution": found.distribution, "version": found.version, "about": about, "options": listed})
        if not as_json:
            click.echo(f"{found.who}\n\n{cls.__doc__ or ''}".rstrip() + "\n")
            rows = [[o["option"], o["type"], _text(o["default"]), o["help"]] for o in listed]
            _print(False, None, ["option", "type", "default", "help"], rows, "no options")
    if as_json:
        click.echo(json.dumps(values, indent=2, default=str))


@main.command()
@_runs_dir
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, help="Port to listen on.")
@click.argument("overrides", nargs=-1)
@click.pass_obj
def ui(files: tuple[str, ...], runs_dir: Path, host: str, port: int, overrides: tuple[str, ...]) -> None:
    """The tracker's user interface on this project's runs, until Ctrl-C."""
    from expfw import commands

    sys.exit(commands.ui(files, runs_dir, host, port, overrides))


def _when(seconds: float) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "null" if value is None else str(value)


def _print(as_json: bool, values: Any, header: list[str], rows: list[list[str]], empty: str) -> None:
    if as_json:
        click.echo(json.dumps(values, indent=2))
    elif rows:
        from expfw.report import plain_table

        _show(plain_table(None, header, rows))
    else:
        click.echo(empty)


def _show(table: Any) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200).print(table)


def guarded(command: Callable[[], Any]) -> int:
    """Runs a command; turns what a user can cause into one line on stderr, and everything into an exit code."""
    try:
        command()
    except ExpfwError as error:
        print(f"expfw: {error}", file=sys.stderr)
        return USER_ERROR
    except click.ClickException as error:
        error.show()
        return USER_ERROR
    except (KeyboardInterrupt, click.Abort):
        print("expfw: interrupted", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else RUN_FAILED
    return OK


def entry() -> None:
    """What the command `expfw` calls."""
    sys.exit(guarded(lambda: main.main(standalone_mode=False)))


