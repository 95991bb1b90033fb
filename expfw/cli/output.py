"""How a command answers: as text for people, or as JSON for programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from expfw.system.json_output import print_json


@dataclass(frozen=True)
class Output:
    """The answer of a command.

    Attributes:
        is_json: whether `--json` was given.
    """

    is_json: bool = False

    def show(self, values: Any, print_text: Callable[[], Any]) -> None:
        """Prints `values` as JSON, or else calls `print_text`."""
        if self.is_json:
            print_json(values)
        else:
            print_text()


TEXT = Output()
