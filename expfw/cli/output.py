"""How a command answers: as text for people, or as JSON for programs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """The answer of a command.

    Attributes:
        is_json: whether `--json` was given.
    """

    is_json: bool = False


TEXT = Output()
