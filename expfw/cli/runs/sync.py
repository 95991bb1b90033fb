"""The command that delivers what trackers do not have yet."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from expfw.api.contracts import Tracker
from expfw.api.plain_values import flat
from expfw.api.settings import RunConfig
from expfw.config.compose import compose
from expfw.config.freeze import make_plugins
from expfw.errors import ConfigError, JournalError, NotFoundError
from expfw.plugins.catalogue import catalogue
from expfw.redaction import HIDDEN
from expfw.reports import console as terminal
from expfw.system.formatting import many
from expfw.system.json_output import print_json
from expfw.tracking import journal, run_folders, run_index
from expfw.tracking.run_index import RUNNING, Entry
from expfw.tracking.shipper import delivery
from expfw.tracking.shipper.client import announce, shipping
from expfw.tracking.shipper.process import EVERYTHING


def sync(words: Sequence[str], runs_dir: Path, everything: bool, files: tuple[str, ...], as_json: bool = False) -> int:
    """`expfw runs sync`.

    Args:
        words: ids of runs and sweeps, by default all there are; and overrides of `tracker`, for other destinations.
        everything: also what was delivered already, for a store that has lost it.
        files: plain Python files with plugins.
    """
    overrides = [word for word in words if "=" in word]
    for word in overrides:
        if not word.lstrip("+").startswith("tracker"):
            raise ConfigError(f"{word} has no meaning here; expected where to deliver: tracker=[NAME], tracker.*=...")
    entries = _chosen([word for word in words if "=" not in word], runs_dir)
    for entry in entries:
        if entry.status == RUNNING:
            print(f"{entry.id} goes on; its own command delivers it, or sync once it has ended", file=sys.stderr)
    found = batches([e for e in entries if e.status != RUNNING], overrides, runs_dir.absolute(), files)
    for batch in found:
        if not batch.config.tracker:
            print(_without_tracker(batch.entries, runs_dir), file=sys.stderr)
    counts = [batch.deliver(everything) for batch in found if batch.config.tracker]
    delivered, left = (sum(count[n] for count in counts) for n in (0, 1))
    clear(runs_dir.absolute())
    running = [entry.id for entry in entries if entry.status == RUNNING]
    if as_json:
        print_json({"delivered": delivered, "left": left, "running": running})
        return 1 if left else 0
    others = " of what has ended" if running else ""
    print(f"{many(delivered, 'journal')} delivered" + (f", {left} left" if left else f"; nothing{others} is left"))
    return 1 if left else 0


@dataclass
class Batch:
    """Journals that go to the same trackers.

    Attributes:
        config: has these trackers; files: the plugin files they may come from.
        entries: oldest first, a sweep before its trials.
    """

    config: RunConfig
    files: tuple[str, ...]
    entries: list[Entry] = field(default_factory=list)

    def deliver(self, again: bool) -> tuple[int, int]:
        """Delivers what its trackers do not have; returns how many journals they now have, and how many not."""
        made = make_plugins(self.config, catalogue(self.files), kinds=("tracker",))
        runs_dir = Path(self.config.runs_dir)
        trackers = {one.name: one.destination(runs_dir) for one in made if isinstance(one, Tracker)}
        wanted = [entry for entry in self.entries if again or not _has_all(entry, trackers)]
        if not wanted:
            return 0, 0
        console = terminal.screen(stderr=True)
        told = f"delivering {many(len(wanted), 'journal')} to {', '.join(trackers)}"
        waiting = console.status(told) if console.is_terminal else nullcontext()
        with waiting, shipping(self.config, self.files, EVERYTHING, again, bound=None) as notes:
            for entry in wanted:
                announce(notes, entry.id, entry.folder)
        delivered = sum(_has_all(entry, trackers) for entry in wanted)
        return delivered, len(wanted) - delivered


def clear(runs_dir: Path) -> None:
    """Takes away what earlier commands left there to tell of journals that are delivered by now."""
    for notes in (runs_dir / ".shipping").glob("*"):
        told = [Path(note.read_text()) for note in notes.iterdir() if not note.name.startswith(".")]
        if told and all(_delivered_or_deleted(folder) for folder in told):
            shutil.rmtree(notes, ignore_errors=True)


def _delivered_or_deleted(folder: Path) -> bool:
    return not (folder / journal.NAME).exists() or set(delivery.progress(folder).values()) == {delivery.COMPLETE}


def _has_all(entry: Entry, trackers: Mapping[str, str]) -> bool:
    return all(delivery.is_complete(entry.folder, name, where) for name, where in trackers.items())


def _chosen(ids: Sequence[str], runs_dir: Path) -> list[Entry]:
    """Oldest first; a sweep with its trials, a trial with its sweep, which has to be there before it."""
    found = [*run_index.sweeps(runs_dir), *run_index.runs(runs_dir)]
    if ids:
        named = {run_index.find(iter(found), identity, "run", runs_dir).id for identity in ids}
        sweeps = {entry.first.get("sweep_id") for entry in found if entry.id in named}
        found = [e for e in found if e.id in named | sweeps or e.first.get("sweep_id") in named]
    if not found:
        raise NotFoundError(f"no runs in {runs_dir}; begin with: expfw run")
    return sorted(found, key=lambda entry: float(entry.first["time"]))


def batches(entries: Sequence[Entry], overrides: Sequence[str], runs_dir: Path, files: tuple[str, ...]) -> list[Batch]:
    """The journals by where they go: to the trackers that were recorded, or to those that the overrides say."""
    given = compose(overrides, files).tracker if overrides else None
    found: dict[str, Batch] = {}
    for entry in entries:
        about = _about(entry)
        recorded = about["config"]["tracker"] if "config" in about else about["tracker"]
        trackers = recorded if given is None else given
        if hidden := [key for key, value in flat(trackers).items() if HIDDEN in str(value)]:
            raise ConfigError(
                f"tracker.{hidden[0]} is a secret and not in the record of {entry.id}; give it again, at the end of "
                f"this command: tracker=[{hidden[0].partition('.')[0]}] tracker.{hidden[0]}=..."
            )
        all_files = tuple(dict.fromkeys([*about["files"], *files]))
        batch = Batch(RunConfig(tracker=trackers, runs_dir=str(runs_dir)), all_files)
        found.setdefault(json.dumps([trackers, all_files], sort_keys=True), batch).entries.append(entry)
    return list(found.values())


def _about(entry: Entry) -> journal.Record:
    """The last record that tells how it was set up."""
    try:
        records, _ = journal.read(entry.folder / journal.NAME)
    except JournalError:
        return entry.first  # its delivery says what is wrong with it
    return next((r for r in reversed(records) if r["kind"] in ("run_resumed", "sweep_resumed")), entry.first)


def _without_tracker(entries: Sequence[Entry], runs_dir: Path) -> str:
    ids = " ".join(entry.id for entry in entries[:3]) + (" ..." if len(entries) > 3 else "")
    return (
        f"{many(len(entries), 'journal')} made without a tracker; to deliver them: "
        f"expfw runs sync {ids} 'tracker=[mlflow]'{run_folders.option(runs_dir)}"
    )
