"""The command `sweep --plan`: which trials there would be, without running any."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from expfw.errors import ConfigError, ExpfwError
from expfw.reports import console as terminal
from expfw.sweeps.plan import build_table, table
from expfw.sweeps.plan.build import Builds, build
from expfw.sweeps.plan.trials import Preview, preview
from expfw.system import formatting
from expfw.system.json_output import people_on_stderr, print_json

RUN_FAILED = 1


def plan(files: tuple[str, ...], options: argparse.Namespace, flags: PreviewFlags) -> int:
    """Prints what a sweep would do.

    Returns:
        The exit code: that of a user's error where a trial cannot run; of a run that failed where a model cannot be
        trained.
    """
    with people_on_stderr():
        found = preview(options.overrides, files, options.config_name, options.config_dir, counted=_with_progress)
    if not flags.as_json:
        table.show(terminal.screen(), found, flags.everything)
    with people_on_stderr():
        builds = _built(found) if flags.build else None
    if builds is not None and not flags.as_json:
        build_table.show(terminal.screen(), found, builds)
    if flags.as_json:
        further = {} if builds is None else build_table.as_json(found, builds)
        print_json({**table.as_json(found), **further})
    code, why = _verdict(found, builds)
    if code and builds is not None and not flags.as_json:  # what was said of the trials is far above
        terminal.screen().print(f"exit code {code}: {why}", soft_wrap=True)
    return code


def _verdict(found: Preview, builds: Builds | None) -> tuple[int, str]:
    """The exit code, and the reason for it."""
    wrong = [row for row in found.rows if row.error is not None]
    failed = [one for one in builds.built if one.error is not None] if builds is not None else []
    reasons = []
    if found.trouble is not None:
        reasons.append(f"the first trial cannot run, so that `expfw sweep` starts none: {found.trouble}")
    elif wrong:
        example = f"trial {wrong[0].trial.number} for example: {wrong[0].error}"
        reasons.append(f"{len(wrong)} of {formatting.many(found.total, 'trial')} cannot run, {example}")
    if failed:
        reasons.append(
            f"{len(failed)} of {formatting.many(len(builds.built if builds else ()), 'model')} cannot be trained"
        )
    code = ExpfwError.exit_code if found.trouble is not None or wrong else RUN_FAILED if failed else 0
    return code, "; ".join(reasons)


def _built(found: Preview) -> Builds:
    """Builds the models; on a terminal it is seen how far it is."""
    from rich.progress import Progress

    console = terminal.screen(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("building models")
        return build(found, lambda done, total: progress.update(task, completed=done, total=total))


def _with_progress(numbers: Sequence[int]) -> Iterable[int]:
    """Goes over the trials, with a bar on a terminal."""
    from rich.progress import track

    console = terminal.screen(stderr=True)
    return track(numbers, "checking trials", console=console, transient=True, disable=not console.is_terminal)


NAMES = {"--plan": "plan", "--build": "build", "--all": "everything", "--json": "as_json"}


@dataclass(frozen=True)
class PreviewFlags:
    """Which of them were given.

    Attributes:
        plan: list the trials, start none; build: build one of each distinct model, too.
        everything: print every trial, however many there are.
    """

    plan: bool = False
    build: bool = False
    everything: bool = False
    as_json: bool = False

    def check(self, sweeping: bool) -> None:
        """Raises ConfigError where they do not go together."""
        given = [name for name, field in NAMES.items() if getattr(self, field) and field != "as_json"]
        if given and not sweeping:
            raise ConfigError(
                f"{given[0]} is a flag of `expfw sweep`, not of `expfw run`; `expfw show` tells what a run would train"
            )
        if given and not self.plan:
            raise ConfigError(f"{given[0]} goes with --plan, as in: expfw sweep --plan {given[0]} model.units=32,64")


def taken(arguments: Sequence[str]) -> tuple[PreviewFlags, list[str]]:
    """These flags, and all other arguments."""
    flags = PreviewFlags(**{field: name in arguments for name, field in NAMES.items()})
    return flags, [word for word in arguments if word not in NAMES]
