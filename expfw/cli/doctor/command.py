"""`expfw doctor`: quick checks first, then checks that import a framework."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from expfw.cli.doctor import installed, machine, runs_folder
from expfw.cli.doctor.finding import NOTE, OK, PROBLEM, Finding
from expfw.cli.output import Output
from expfw.reports.console import make_console
from expfw.system.json_output import print_json
from expfw.tracking.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {OK: "green", NOTE: "yellow", PROBLEM: "bold red"}
_MARK_WIDTH, _ABOUT_WIDTH = 9, 14


def doctor(overrides: Sequence[str], workspace: Workspace, output: Output) -> int:
    """Prints the result of each check immediately; returns the exit code: 1 if there are problems, otherwise 0.

    Args:
        overrides: overrides of the checked configuration, for example another backend.
        workspace: the runs folder and the plugins.
        output: output format.
    """
    findings = []
    console = make_console()
    with console.status("checking") if console.is_terminal and not output.is_json else nullcontext():
        for finding in _check_everything(overrides, workspace):
            findings.append(finding)
            if not output.is_json:
                _print_finding(console, finding)
    if output.is_json:
        print_json([{**dataclasses.asdict(finding), "mark": finding.mark} for finding in findings])
    else:
        counts = [(sum(finding.mark == mark for finding in findings), mark) for mark in (PROBLEM, NOTE)]
        summary = ", ".join(f"{count} {mark}{'' if count == 1 else 's'}" for count, mark in counts if count)
        print(f"\n{summary or 'no problems'}")
    return 0 if all(finding.ok for finding in findings) else 1


def _check_everything(overrides: Sequence[str], workspace: Workspace) -> Iterator[Finding]:
    yield from machine.check_machine()
    yield from runs_folder.check_runs_folder(workspace)
    runs_dir_override = [f"runs_dir={workspace.runs_dir.absolute()}"]
    config, config_findings = installed.check_configuration([*runs_dir_override, *overrides], workspace.catalogue)
    yield from config_findings
    plugins, plugin_findings = installed.check_plugins(config, workspace.catalogue)
    yield from plugin_findings
    if plugins is not None:
        yield from installed.examine_plugins(plugins, workspace.catalogue)


def _print_finding(console: Console, finding: Finding) -> None:
    """Prints the mark, the subject and the result; below, how to fix a problem."""
    from rich.text import Text

    text_width = max(20, console.width - _MARK_WIDTH - _ABOUT_WIDTH - 1)
    lines = textwrap.wrap(finding.text, text_width, break_on_hyphens=False) or [""]
    if finding.advice:
        wrapped = textwrap.wrap(finding.advice, text_width - 3, break_on_hyphens=False)
        lines += [f"{'-> ' if number == 0 else '   '}{line}" for number, line in enumerate(wrapped)]
    for number, line in enumerate(lines):
        mark, about = (finding.mark, finding.subject) if number == 0 else ("", "")
        console.print(
            Text.assemble((mark.ljust(_MARK_WIDTH), _STYLES[finding.mark]), f"{about.ljust(_ABOUT_WIDTH)} {line}")
        )
