"""The output format of a command: text or JSON."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """Output format of a command.

    Attributes:
        is_json: whether the command prints JSON (`--json`).
    """

    is_json: bool = False


TEXT = Output()
