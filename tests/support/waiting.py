"""Waiting for something that another process does."""

from __future__ import annotations

import time


def wait_for(condition, seconds=60):
    """What `condition` returns, once that is true; fails after some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")
