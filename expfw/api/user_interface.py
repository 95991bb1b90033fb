"""What is to be shown of the runs, and how a tracker shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class UiTarget:
    """The run or sweep that `expfw ui ID` asks for.

    Attributes:
        folder: of the run or sweep.
        trials: for a sweep, the folders of its runs, best first; some may not be with the tracker yet.
        metric: for a sweep, the one that trials are compared by; less of it is better where `mode` is `min`.
    """

    folder: Path
    trials: Sequence[Path] = ()
    metric: str | None = None
    mode: str = "min"


@dataclass(frozen=True)
class UserInterface:
    """How to show what a tracker holds.

    Attributes:
        command: what serves it until interrupted; empty where a server is there already.
        url: the page to open.
        notes: one line each for the user: other pages worth a look, or why `url` is not the page asked for.
    """

    command: Sequence[str]
    url: str
    notes: Sequence[str] = ()
