"""The tracker's state for a journal, as saved by the shipper process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_delivery_state(folder: Path, tracker: str) -> dict[str, Any]:
    """Returns the state of the run or sweep in `folder`, such as MLflow's `run_id`; empty before a delivery."""
    try:
        content = json.loads((folder / "tracking" / f"{tracker}.json").read_text())
    except FileNotFoundError:
        return {}
    state: dict[str, Any] = content["state"]
    return state
