"""What the tracker keeps in mind about a journal, as the shipper wrote it down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_delivery_state(folder: Path, tracker: str) -> dict[str, Any]:
    """Of the run or sweep in `folder`: MLflow's `run_id` among it; nothing before it was delivered."""
    try:
        content = json.loads((folder / "tracking" / f"{tracker}.json").read_text())
    except FileNotFoundError:
        return {}
    state: dict[str, Any] = content["state"]
    return state
