"""Progress of the delivery of a journal to a tracker: a file in `tracking/`, next to the journal."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expfw.system import atomic_files
from expfw.system.json_values import Count, build, read_json

log = logging.getLogger("expfw")


@dataclass(frozen=True)
class DeliveryProgress:
    """What a tracker has received of a journal.

    Attributes:
        offset: bytes of the journal that are delivered.
        complete: whether they ended with the end of the run or sweep.
        destination: destination that has received them.
        state: the tracker's state for this journal and destination, as JSON values.
    """

    offset: Count = 0
    complete: bool = False
    destination: str = ""
    state: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path, tracker: str) -> None:
        """Replaces the progress of a tracker atomically."""
        atomic_files.write_state(get_progress_path(folder, tracker), vars(self))


def get_progress_path(folder: Path, tracker: str) -> Path:
    """Returns the file with the progress of a tracker, for the journal in `folder`."""
    return folder / "tracking" / f"{tracker}.json"


def read_progress(folder: Path, tracker: str) -> DeliveryProgress:
    """Reads the progress of a tracker; if its file is damaged, logs a warning and starts from the beginning."""
    path = get_progress_path(folder, tracker)
    try:
        return build(DeliveryProgress, read_json(path))
    except FileNotFoundError:
        return DeliveryProgress()
    except (OSError, ValueError):
        log.warning("ignoring %s, which is damaged: `expfw runs sync` delivers all records again", path)
        return DeliveryProgress()
