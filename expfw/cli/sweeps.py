"""The commands `expfw sweeps ...`."""

from __future__ import annotations

import click

from expfw.cli.groups import CommandGroup, accept_option, sweep_argument, trust_option

sweeps = CommandGroup(
    "sweeps",
    help="""List, watch, resume and retry sweeps.

    \b
    expfw sweeps list
    expfw sweeps status y9z7 --watch    # IDs can be shortened
    expfw sweeps resume y9z7
    """,
)
sweeps.add(
    "list",
    "expfw.cli.listing.list_sweeps",
    help="""List all sweeps, newest first.

    \b
    expfw sweeps list
    """,
)
sweeps.add(
    "status",
    "expfw.cli.listing.show_sweep",
    sweep_argument,
    click.option("-w", "--watch", is_flag=True, help="Update the table until the sweep ends. Stop with Ctrl-C."),
    help="""Show a sweep and its trials, best first.

    \b
    expfw sweeps status y9z7
    expfw sweeps status y9z7 --watch

    SWEEP_ID can be shortened to its first characters.
    """,
)
sweeps.add(
    "report",
    "expfw.cli.listing.write_sweep_report",
    sweep_argument,
    click.option("--open", "open_browser", is_flag=True, help="Open the report in the browser."),
    help="""Write the HTML report of a sweep: tables and figures in one file.

    \b
    expfw sweeps report y9z7 --open

    Replaces an existing report. The sweep may still be running.
    """,
)
sweeps.add(
    "resume",
    "expfw.cli.resume.resume_sweep",
    sweep_argument,
    accept_option,
    trust_option,
    help="""Resume a sweep that did not finish.

    \b
    expfw sweeps resume y9z7

    Interrupted trials resume from their checkpoints; failed trials start again; finished trials are kept.
    """,
)
sweeps.add(
    "retry",
    "expfw.cli.resume.retry_trials",
    sweep_argument,
    click.argument("numbers", nargs=-1, type=int, metavar="[TRIAL]..."),
    click.option("--failed", is_flag=True, help="Retry all failed trials."),
    accept_option,
    trust_option,
    help="""Retry failed trials of a sweep. All other trials stay unchanged.

    \b
    expfw sweeps retry y9z7 --failed
    expfw sweeps retry y9z7 3 5       # trials 3 and 5
    """,
)
