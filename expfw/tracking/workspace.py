"""The workspace of a command: its runs folder and the available plugins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.tracking import run_folders, run_index
from expfw.tracking.run_index import IndexEntry


@dataclass(frozen=True)
class Workspace:
    """A runs folder and the available plugins.

    Attributes:
        runs_dir: folder that contains all runs and sweeps.
        catalogue: the available plugins.
    """

    runs_dir: Path
    catalogue: Catalogue = field(default_factory=get_catalogue)

    @property
    def runs_dir_option(self) -> str:
        """Option that selects this runs folder, with a leading space; empty for the default folder."""
        return run_folders.format_runs_dir_option(self.runs_dir)

    def list_runs(self) -> Iterator[IndexEntry]:
        """Returns all runs, including trials of sweeps, newest first."""
        return run_index.list_runs(self.runs_dir)

    def list_sweeps(self) -> Iterator[IndexEntry]:
        """Returns all sweeps, newest first."""
        return run_index.list_sweeps(self.runs_dir)

    def find_run_or_sweep(self, id_prefix: str, entries: Iterable[IndexEntry] | None = None) -> IndexEntry:
        """Returns the run or sweep whose ID starts with `id_prefix`; raises the same errors as `find_run`.

        Args:
            id_prefix: prefix of the ID, or the folder.
            entries: entries to search; by default all sweeps and runs.
        """
        entries = [*self.list_sweeps(), *self.list_runs()] if entries is None else entries
        return run_index.find_entry(iter(entries), id_prefix, "sweep or run", self.runs_dir)

    def find_run(self, id_prefix: str) -> IndexEntry:
        """Returns the run whose ID starts with `id_prefix`.

        Raises:
            NotFoundError: if no run or several runs match.
            JournalError: if the journal of the run cannot be read.
        """
        return run_index.find_run(self.runs_dir, id_prefix)

    def find_sweep(self, id_prefix: str) -> IndexEntry:
        """Returns the sweep whose ID starts with `id_prefix`; raises the same errors as `find_run`."""
        return run_index.find_sweep(self.runs_dir, id_prefix)
