"""Where a command works: a runs folder, and the plugins to choose from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.tracking import run_folders, run_index
from expfw.tracking.run_index import IndexEntry


@dataclass(frozen=True)
class Workspace:
    """A runs folder with the plugins that go with it.

    Attributes:
        runs_dir: the folder that all runs and sweeps are in.
        catalogue: the plugins to choose from.
    """

    runs_dir: Path
    catalogue: Catalogue = field(default_factory=get_catalogue)

    @property
    def option(self) -> str:
        """What a command needs at its end to work here; empty for the usual runs folder."""
        return run_folders.runs_dir_option(self.runs_dir)

    def list_runs(self) -> Iterator[IndexEntry]:
        """All runs, newest first, trials of sweeps among them."""
        return run_index.list_runs(self.runs_dir)

    def list_sweeps(self) -> Iterator[IndexEntry]:
        """All sweeps, newest first."""
        return run_index.list_sweeps(self.runs_dir)

    def find_run(self, identity: str) -> IndexEntry:
        """The run whose ID begins with `identity`.

        Raises:
            NotFoundError: no run or several runs match.
            JournalError: the journal of the run cannot be read.
        """
        return run_index.find_run(self.runs_dir, identity)

    def find_sweep(self, identity: str) -> IndexEntry:
        """The sweep whose ID begins with `identity`; raises what `find_run` raises."""
        return run_index.find_sweep(self.runs_dir, identity)
