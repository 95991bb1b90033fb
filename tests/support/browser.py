"""A headless Chromium of this machine, driven by selenium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1600,1000",
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2",  # a mouse: else tools lie on each chart all the time
]


def explain_missing_browser() -> str | None:
    """What is missing for a browser; None where all is there."""
    absent = [str(path) for path in (CHROMIUM, CHROMEDRIVER) if not path.exists()]
    return f"no browser: {' and '.join(absent)} absent; `make browser` installs them" if absent else None


@contextmanager
def open_browser(profile_folder: Path, **log_levels: str) -> Iterator[Any]:
    """A browser without memory, `profile_folder` being an empty folder; ends with its processes.

    Args:
        log_levels: which of its logs are kept from which level on, such as `performance="ALL"`.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "WARNING", **log_levels})
    for flag in [*FLAGS, f"--user-data-dir={profile_folder}"]:
        options.add_argument(flag)
    # With the driver's path given, selenium looks for nothing and fetches nothing.
    service = Service(str(CHROMEDRIVER), env={**os.environ, "SE_OFFLINE": "true"})
    driver = webdriver.Chrome(service=service, options=options)
    try:
        yield driver
    finally:
        driver.quit()
