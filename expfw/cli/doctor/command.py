"""`expfw doctor`: quick checks first, then checks that import a framework."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING

from expfw.cli.doctor import installed, machine, runs_folder
from expfw.cli.doctor.finding import NOTE, OK, PROBLEM, Finding
from expfw.reports.console import make_console
from expfw.system.formatting import pluralize
from expfw.system.json_output import print_json
from expfw.tracking.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {OK: "green", NOTE: "yellow", PROBLEM: "bold red"}


def doctor(overrides: Sequence[str], workspace: Workspace, as_json: bool) -> int:
    """Prints the result of each check immediately; returns the exit code: 1 if there are problems, otherwise 0."""
    all_overrides = [f"runs_dir={workspace.runs_dir.absolute()}", *overrides]
    checks = chain(
        machine.check_machine(),
        runs_folder.check_runs_folder(workspace),
        installed.check_installed(all_overrides, workspace.catalogue),
    )
    findings = []
    console = make_console()
    with console.status("checking") if console.is_terminal and not as_json else nullcontext():
        for finding in checks:
            findings.append(finding)
            if not as_json:
                _print_finding(console, finding)
    if as_json:
        print_json([{**dataclasses.asdict(finding), "mark": finding.mark} for finding in findings])
    else:
        counts = [(sum(finding.mark == mark for finding in findings), mark) for mark in (PROBLEM, NOTE)]
        print(f"\n{', '.join(pluralize(*count) for count in counts if count[0]) or 'no problems'}")
    return 0 if all(finding.ok for finding in findings) else 1


def _print_finding(console: Console, finding: Finding) -> None:
    """Prints the mark, the subject and the result; below, how to fix a problem."""
    from rich.table import Table
    from rich.text import Text

    grid, advice = Table.grid(padding=(0, 1)), Table.grid(padding=(0, 1))
    grid.add_column(width=8)
    grid.add_column(width=14)
    grid.add_row(Text(finding.mark, _STYLES[finding.mark]), Text(finding.subject), Text(finding.text))
    if finding.advice:
        advice.add_row("->", Text(finding.advice))
        grid.add_row("", "", advice)
    console.print(grid)
