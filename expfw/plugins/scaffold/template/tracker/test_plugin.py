"""Tests my_plugin with expfw's checks for trackers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.testing import TrackerContract

from expfw_my_plugin import MyPlugin


class TestMyPlugin(TrackerContract):
    plugin = MyPlugin

    def read_points(
        self, tracker: MyPlugin, runs_dir: Path, state: Mapping[str, Any]
    ) -> Sequence[tuple[str, int, float]]:
        """Returns the points in the file; the checks compare them with the metrics of the run."""
        points = [json.loads(line) for line in (tracker.folder / state["file"]).read_text().splitlines()]
        return [(name, p["step"], value) for p in points for name, value in p.items() if name != "step"]
