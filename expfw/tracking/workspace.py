"""Where a command works: a runs folder, and the plugins to choose from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    def runs_dir_option(self) -> str:
        """What a command needs at its end to work here; empty for the usual runs folder."""
        return run_folders.format_runs_dir_option(self.runs_dir)

    def list_runs(self) -> Iterator[IndexEntry]:
        """All runs, newest first, trials of sweeps among them."""
        return run_index.list_runs(self.runs_dir)

    def list_sweeps(self) -> Iterator[IndexEntry]:
        """All sweeps, newest first."""
        return run_index.list_sweeps(self.runs_dir)

    def find_run_or_sweep(self, id_prefix: str, entries: Iterable[IndexEntry] | None = None) -> IndexEntry:
        """The run or sweep whose ID begins with `id_prefix`; raises what `find_run` raises.

        Args:
            entries: those to look among; by default all sweeps and runs.
        """
        entries = [*self.list_sweeps(), *self.list_runs()] if entries is None else entries
        return run_index.find_entry(iter(entries), id_prefix, "sweep or run", self.runs_dir)

    def find_run(self, id_prefix: str) -> IndexEntry:
        """The run whose ID begins with `id_prefix`.

        Raises:
            NotFoundError: no run or several runs match.
            JournalError: the journal of the run cannot be read.
        """
        return run_index.find_run(self.runs_dir, id_prefix)

    def find_sweep(self, id_prefix: str) -> IndexEntry:
        """The sweep whose ID begins with `id_prefix`; raises what `find_run` raises."""
        return run_index.find_sweep(self.runs_dir, id_prefix)
