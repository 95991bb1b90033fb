"""Progress of the delivery of a journal to a tracker: a file in `tracking/`, next to the journal."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expfw.system import atomic_files

_TYPES = {"offset": int, "complete": bool, "destination": str, "state": dict}


@dataclass(frozen=True)
class DeliveryProgress:
    """What a tracker has received of a journal.

    Attributes:
        offset: bytes of the journal that are delivered.
        complete: whether they ended with the end of the run or sweep.
        destination: destination that has received them.
        state: the tracker's state for this journal and destination, as JSON values.
        damage: one line about a file that cannot be read, with the remedy; None if it was read.
    """

    offset: int = 0
    complete: bool = False
    destination: str = ""
    state: dict[str, Any] = field(default_factory=dict)
    damage: str | None = None

    def write(self, folder: Path, tracker: str) -> None:
        """Replaces the progress of a tracker atomically."""
        values = {name: getattr(self, name) for name in _TYPES}
        atomic_files.write_text(get_progress_path(folder, tracker), json.dumps(values))


def get_progress_path(folder: Path, tracker: str) -> Path:
    """Returns the file with the progress of a tracker, for the journal in `folder`."""
    return folder / "tracking" / f"{tracker}.json"


def read_progress(folder: Path, tracker: str) -> DeliveryProgress:
    """Reads the progress of a tracker; raises nothing, so that one damaged file affects only its own journal."""
    path = get_progress_path(folder, tracker)
    try:
        if not path.exists():
            return DeliveryProgress()
        values = json.loads(path.read_bytes()) if path.is_file() else None
        if isinstance(values, dict):
            known = {name: values[name] for name in _TYPES if name in values}
            if all(type(value) is _TYPES[name] for name, value in known.items()) and known.get("offset", 0) >= 0:
                return DeliveryProgress(**known)
    except (OSError, ValueError, RecursionError):
        pass
    return DeliveryProgress(damage=f"{path} is damaged; delete it, and `expfw runs sync` delivers all records again")
