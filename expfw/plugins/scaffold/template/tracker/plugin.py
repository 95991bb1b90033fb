"""A tracker for expfw: `tracker=[mlflow,my_plugin]`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import expfw


class MyPlugin(expfw.Tracker):
    """Writes the metrics of each run to a JSON Lines file, one object per point."""

    @dataclass
    class Config:
        folder: str = expfw.option("my_plugin", help="folder of the files, inside runs_dir")

    def destination(self, runs_dir: Path) -> str:
        return str(runs_dir.absolute() / self.config.folder)

    def open(self, runs_dir: Path) -> None:
        Path(self.destination(runs_dir)).mkdir(parents=True, exist_ok=True)
        self.folder = Path(self.destination(runs_dir))

    def ship(self, folder: Path, state: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        for record in records:
            if record["kind"] == "run_started":
                state.update(file=f"{record['id']}.jsonl", size=0)  # expfw saves the state, also across processes
        if "file" not in state:
            return  # the journal of a sweep has no metrics
        points = [{"step": r["step"], **r["values"]} for r in records if r["kind"] == "metrics"]
        with open(self.folder / state["file"], "a") as file:
            file.truncate(state["size"])  # after a crash, the last records are delivered again
            file.writelines(json.dumps(point) + "\n" for point in points)
            file.flush()
            state["size"] = os.fstat(file.fileno()).st_size
