"""Which configurations a runs folder has results of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from expfw import folders, journal
from expfw.errors import JournalError
from expfw.folders import Entry
from expfw.privacy import redact_words
from expfw.run_state import FINISHED


def finished(runs_dir: Path) -> dict[str, Entry]:
    """By fingerprint, the newest run that came to a good end, single ones and trials of any sweep."""
    found: dict[str, Entry] = {}
    for entry in folders.runs(runs_dir):
        if entry.status == FINISHED and (mark := _fingerprint(entry)) is not None:
            found.setdefault(mark, entry)
    return found


def _fingerprint(entry: Entry) -> str | None:
    """Of what the run has come to; one that went on may have been trained longer than it was begun for."""
    if not any(entry.folder.glob("overrides-*.yaml")):
        return entry.first.get("fingerprint")
    try:
        records, _ = journal.read(entry.folder / journal.NAME)
    except JournalError:
        return None
    begun: list[str | None] = [r.get("fingerprint") for r in records if r["kind"] in ("run_started", "run_resumed")]
    return begun[-1]


def same_sweep(runs_dir: Path, typed: Sequence[str]) -> Entry | None:
    """The newest sweep by these overrides; None where there is none."""
    wanted = redact_words(typed)
    return next((entry for entry in folders.sweeps(runs_dir) if entry.first.get("overrides") == wanted), None)
