"""User interface of a tracker: the target to show, and the command and page that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class UiTarget:
    """The run or sweep requested by `expfw ui ID`.

    Attributes:
        folder: folder of the run or sweep.
        trials: for a sweep, the folders of its runs, best first; some may not be delivered to the tracker yet.
        metric: for a sweep, the metric that ranks trials.
        mode: `min` if smaller values of the metric are better, `max` otherwise.
    """

    folder: Path
    trials: Sequence[Path] = ()
    metric: str | None = None
    mode: str = "min"


@dataclass(frozen=True)
class UserInterface:
    """Command and page of a tracker's user interface.

    Attributes:
        command: command that serves the interface until it is interrupted; empty if a server is already running.
        url: page to open.
        notes: lines to print, for example other useful pages, or the reason why `url` is not the requested page.
    """

    command: Sequence[str]
    url: str
    notes: Sequence[str] = ()
