"""The workspace of a command: its runs folder and the available plugins."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.tracking import run_folders


@dataclass(frozen=True)
class Workspace:
    """A runs folder, which contains all runs and sweeps, and the available plugins."""

    runs_dir: Path
    catalogue: Catalogue = field(default_factory=get_catalogue)

    @property
    def runs_dir_option(self) -> str:
        """Option that selects this runs folder, with a leading space; empty for the default folder."""
        return run_folders.format_runs_dir_option(self.runs_dir)
