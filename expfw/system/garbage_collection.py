"""Delays garbage collection while large frameworks are imported and when the process ends."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterable


def collect_rarely() -> None:
    """Lets this process look for garbage seldom: for one that makes a lot, of which hardly anything is circular."""
    gc.set_threshold(100_000, 50, 100)


def skip_final_collection() -> None:
    """Lets this process end without looking for garbage: half a second, where TensorFlow or MLflow is imported."""
    gc.freeze()


def import_modules(names: Iterable[str]) -> None:
    """Imports them without looking for garbage meanwhile, and never in them: what is imported stays.

    The search is a fifth of the time that TensorFlow's import takes.
    """
    missing = [name for name in names if name not in sys.modules]
    if not missing:
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for name in missing:
            importlib.import_module(name)
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
