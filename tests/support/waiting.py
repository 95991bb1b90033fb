"""Waiting for a condition."""

from __future__ import annotations

import time


def wait_for(condition, seconds=60):
    """Returns the first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError("the condition was not true in time")
