"""my_plugin keeps what expfw's trackers promise."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.testing import TrackerContract

from expfw_my_plugin import MyPlugin


class TestMyPlugin(TrackerContract):
    plugin = MyPlugin

    def held(self, tracker: MyPlugin, runs_dir: Path, state: Mapping[str, Any]) -> Sequence[tuple[str, int, float]]:
        """The points in the file, so that the checks can compare them with what the run logged."""
        points = [json.loads(line) for line in (tracker.folder / state["file"]).read_text().splitlines()]
        return [(name, p["step"], value) for p in points for name, value in p.items() if name != "step"]
