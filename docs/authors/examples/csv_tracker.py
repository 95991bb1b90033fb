"""A tracker in one file: every run becomes a table.

expfw -p csv_tracker.py run tracker=[mlflow,csv]
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass

import expfw


class Csv(expfw.Tracker):
    """Writes a table for each run, with a row for each point, and one of how the runs ended."""

    @dataclass
    class Config:
        folder: str = expfw.option("tables", help="folder of the tables, below runs_dir")

    def destination(self, runs_dir):
        return str(runs_dir.absolute() / self.config.folder)

    def open(self, runs_dir):
        self.folder = runs_dir.absolute() / self.config.folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def ship(self, folder, state, records):
        for record in records:
            if record["kind"] == "run_started":
                state.update(run=record["id"], name=record["name"], size=0)
        if "run" not in state:
            return  # a sweep has no points of its own
        metrics = [record for record in records if record["kind"] == "metrics"]
        self._append(state, [[r["step"], name, value] for r in metrics for name, value in r["values"].items()])
        for record in records:
            if record["kind"] == "run_ended":
                self._end([state["run"], state["name"], record["status"], record["objective"]])

    def _append(self, state, rows):
        """Behind what is known to be delivered: what a crash may have left there is cut off, and comes again."""
        with open(self.folder / f"{state['run']}.csv", "a", newline="") as file:
            file.truncate(state["size"])
            csv.writer(file).writerows(rows if state["size"] else [["step", "metric", "value"], *rows])
            file.flush()
            state["size"] = os.fstat(file.fileno()).st_size

    def _end(self, row):
        """One row for each run, the last time it ended."""
        path = self.folder / "runs.csv"
        known = list(csv.reader(path.read_text().splitlines())) if path.exists() else []
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([*(one for one in known if one[0] != row[0]), row])
