"""What the tracker keeps in mind about a journal, as the shipper wrote it down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def remembered(folder: Path, tracker: str) -> dict[str, Any]:
    """Of the run or sweep in `folder`: MLflow's `run_id` among it; nothing before it was delivered."""
    try:
        kept = json.loads((folder / "tracking" / f"{tracker}.json").read_text())
    except FileNotFoundError:
        return {}
    state: dict[str, Any] = kept["state"]
    return state
