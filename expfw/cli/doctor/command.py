"""`expfw doctor`: what is quickly known first, then what takes an import of a framework."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from expfw.cli.doctor import installed, machine, runs_folder
from expfw.cli.doctor.finding import NOTE, OK, PROBLEM, Finding
from expfw.reports import console
from expfw.system.json_output import print_json

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {OK: "green", NOTE: "yellow", PROBLEM: "bold red"}
_LEFT, _ABOUT = 9, 14


def doctor(overrides: Sequence[str], files: tuple[str, ...], runs_dir: Path, as_json: bool) -> int:
    """Prints what there is to say, as it is found; returns 1 where something is not fit, else 0.

    Args:
        overrides: of the configuration that is to be run, for example another backend.
    """
    found = []
    screen = console.screen()
    with screen.status("looking") if screen.is_terminal and not as_json else nullcontext():
        for finding in _findings(overrides, files, runs_dir):
            found.append(finding)
            if not as_json:
                _print(screen, finding)
    if as_json:
        print_json([{**dataclasses.asdict(one), "mark": one.mark} for one in found])
    else:
        counts = [(sum(one.mark == mark for one in found), mark) for mark in (PROBLEM, NOTE)]
        said = ", ".join(f"{count} {mark}{'' if count == 1 else 's'}" for count, mark in counts if count)
        print(f"\n{said or 'all is well'}")
    return 0 if all(one.fit for one in found) else 1


def _findings(overrides: Sequence[str], files: tuple[str, ...], runs_dir: Path) -> Iterator[Finding]:
    yield from machine.findings()
    yield from runs_folder.findings(runs_dir)
    usual = [f"runs_dir={runs_dir.absolute()}"]
    config, composed = installed.configuration([*usual, *overrides], files)
    yield from composed
    plugins, looked = installed.plugins(config, files)
    yield from looked
    if plugins is not None:
        yield from installed.asked(plugins, files)


def _print(screen: Console, one: Finding) -> None:
    """The mark, what it is about, what was found; below, what to do."""
    from rich.text import Text

    room = max(20, screen.width - _LEFT - _ABOUT - 1)
    lines = textwrap.wrap(one.what, room, break_on_hyphens=False) or [""]
    if one.remedy:
        wrapped = textwrap.wrap(one.remedy, room - 3, break_on_hyphens=False)
        lines += [f"{'-> ' if number == 0 else '   '}{line}" for number, line in enumerate(wrapped)]
    for number, line in enumerate(lines):
        mark, about = (one.mark, one.about) if number == 0 else ("", "")
        screen.print(Text.assemble((mark.ljust(_LEFT), _STYLES[one.mark]), f"{about.ljust(_ABOUT)} {line}"))
