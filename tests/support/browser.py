"""Headless Chromium, controlled with Selenium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "window-size=1600,1000",
    "blink-settings=primaryHoverType=2,availableHoverTypes=2",  # a mouse; otherwise chart tools are always visible
)  # fmt: skip


def explain_missing_browser() -> str | None:
    """Returns the missing parts of the browser as one line, or None."""
    absent = [str(path) for path in (CHROMIUM, CHROMEDRIVER) if not path.exists()]
    return f"no browser: {' and '.join(absent)} missing; install with: make browser" if absent else None


@contextmanager
def open_browser(profile_folder: Path, **log_levels: str) -> Iterator[Any]:
    """Opens a browser with a new profile; closes it with all its processes.

    Args:
        profile_folder: empty folder for the profile.
        log_levels: lowest level to record of each browser log, such as `performance="ALL"`.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "WARNING", **log_levels})
    for flag in (*FLAGS, f"user-data-dir={profile_folder}"):
        options.add_argument(f"--{flag}")
    # With the path of the driver, Selenium does not search or download one.
    service = Service(str(CHROMEDRIVER), env={**os.environ, "SE_OFFLINE": "true"})
    driver = webdriver.Chrome(service=service, options=options)
    try:
        yield driver
    finally:
        driver.quit()
