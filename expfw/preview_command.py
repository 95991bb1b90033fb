"""What `expfw sweep --plan` does."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence

from expfw import preview_table, terminal
from expfw.errors import ExpfwError
from expfw.preview import preview
from expfw.preview_flags import PreviewFlags


def plan(files: tuple[str, ...], options: argparse.Namespace, flags: PreviewFlags) -> int:
    """Prints what a sweep would do; returns the exit code: that of a user's error where a trial cannot run."""
    found = preview(options.overrides, files, options.config_name, options.config_dir, counted=_with_progress)
    code = ExpfwError.exit_code if found.trouble or any(row.error is not None for row in found.rows) else 0
    if flags.as_json:
        print(json.dumps(preview_table.as_json(found), indent=2))
        return code
    preview_table.show(terminal.screen(), found, flags.everything)
    return code


def _with_progress(numbers: Sequence[int]) -> Iterable[int]:
    """Goes over the trials, with a bar on a terminal."""
    from rich.progress import track

    console = terminal.screen(stderr=True)
    return track(numbers, "checking trials", console=console, transient=True, disable=not console.is_terminal)
