"""A tracker in a plain file: writes a CSV table for each run.

expfw -p csv_tracker.py run tracker=[mlflow,csv]
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass

import expfw


class Csv(expfw.Tracker):
    """Writes a CSV table of the metrics of each run, and one with the status of all runs."""

    @dataclass
    class Config:
        folder: str = expfw.option("tables", help="folder of the tables, inside runs_dir")

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
            return  # the journal of a sweep has no metrics
        metrics = [record for record in records if record["kind"] == "metrics"]
        self._append(state, [[r["step"], name, value] for r in metrics for name, value in r["values"].items()])
        for record in records:
            if record["kind"] == "run_ended":
                self._end([state["run"], state["name"], record["status"], record["objective"]])

    def _append(self, state, rows):
        """Appends rows after the delivered ones; rows that a crash left there are removed, and delivered again."""
        with open(self.folder / f"{state['run']}.csv", "a", newline="") as file:
            file.truncate(state["size"])
            csv.writer(file).writerows(rows if state["size"] else [["step", "metric", "value"], *rows])
            file.flush()
            state["size"] = os.fstat(file.fileno()).st_size

    def _end(self, row):
        """Writes one row per run; a resumed run replaces its row."""
        path = self.folder / "runs.csv"
        rows = list(csv.reader(path.read_text().splitlines())) if path.exists() else []
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([*(other for other in rows if other[0] != row[0]), row])
