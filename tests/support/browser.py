"""Headless Chromium, controlled with Selenium.

Screenshots are saved in the folder EXPFW_SCREENSHOTS, or in pytest's temporary folder if it is not set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.processes import wait_for

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "window-size=1600,1000",
    "blink-settings=primaryHoverType=2,availableHoverTypes=2",  # a mouse; otherwise chart tools are always visible
)  # fmt: skip
_ABSENT = [str(path) for path in (CHROMIUM, CHROMEDRIVER) if not path.exists()]
needs_browser = pytest.mark.skipif(
    bool(_ABSENT), reason=f"no browser: {' and '.join(_ABSENT)} missing; install with: make browser"
)


class Page:
    """The page in the browser."""

    width = 1600

    def __init__(self, driver, screenshots):
        self.driver, self.screenshots = driver, Path(os.environ.get("EXPFW_SCREENSHOTS", screenshots))

    def open(self, url):
        self.driver.get("about:blank")  # a change after `#` alone does not load the page
        self.driver.get(url)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def text(self):
        return self.run("return document.body.innerText")

    def wait_for_text(self, *words):
        self.wait(lambda: all(word in self.text() for word in words))

    def wait(self, condition):
        try:
            return wait_for(condition, seconds=60)
        except AssertionError:
            self.shoot("failed")
            raise AssertionError(f"at {self.driver.current_url}: {self.text()[:2000]}") from None

    def click(self, kind, value):
        self.wait(lambda: [one for one in self.driver.find_elements(kind, value) if one.is_displayed()])[0].click()

    def shoot(self, name, height=1000):
        """Saves a screenshot as NAME.png."""
        self.screenshots.mkdir(parents=True, exist_ok=True)
        self.driver.set_window_size(self.width, height)
        self.driver.save_screenshot(str(self.screenshots / f"{name}.png"))


@contextmanager
def open_browser(profile_folder: Path) -> Iterator[Any]:
    """Opens a browser with a new profile, which logs its requests; closes it with all its processes."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "WARNING", "performance": "ALL"})
    for flag in (*FLAGS, f"user-data-dir={profile_folder}"):
        options.add_argument(f"--{flag}")
    # With the path of the driver, Selenium does not search or download one.
    service = Service(str(CHROMEDRIVER), env={**os.environ, "SE_OFFLINE": "true"})
    driver = webdriver.Chrome(service=service, options=options)
    try:
        yield driver
    finally:
        driver.quit()
