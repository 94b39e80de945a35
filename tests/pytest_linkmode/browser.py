"""A browser without a window, for what only a browser can tell of a page."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from pytest_linkmode.processes import which

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DRIVER = "chromedriver"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def refusal() -> str:
    """Why no page can be looked at here, or nothing."""
    missing = [] if any(map(which, BROWSERS)) else ["a Chromium"]
    missing += [] if which(DRIVER) else [DRIVER]
    if not missing:
        return ""
    return f"not applicable: no {' and no '.join(missing)} (apt-get install chromium-driver)"


class Browser:
    """One window, and what went wrong in it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(
        self, page: pathlib.Path, *, scheme: str = "light", width: int = 1280, height: int = 900
    ) -> None:
        """Show a page anew, in a colour scheme and a size."""
        self.command(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.driver.get("about:blank")
        self.troubles()  # those of the browser's own pages
        self.driver.get(page.as_uri())

    def command(self, name: str, **arguments: Any) -> Any:
        """Give a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def value(self, expression: str) -> Any:
        """Return what an expression is on the page."""
        return self.driver.execute_script(f"return {expression};")

    def find(self, selector: str) -> Any:
        """Return the first element that a selector of CSS means."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def troubles(self) -> list[str]:
        """Return what the console said since it was asked last, and every other address asked."""
        said = [entry["message"] for entry in self._log("browser")]
        for entry in self._log("performance"):
            event = json.loads(entry["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                url = event["params"]["request"]["url"]
                if not url.startswith(("file:", "about:", "data:")):
                    said.append(url)
        return said

    def _log(self, kind: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self.driver.execute("getLog", {"type": kind})["value"]
        return found


@contextmanager
def browsing(profile: pathlib.Path) -> Iterator[Browser]:
    """Give a browser whose files all lie in `profile`."""
    options = webdriver.ChromeOptions()
    options.binary_location = next(path for path in map(which, BROWSERS) if path)
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(which(DRIVER)))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


__all__ = ["Browser", "Keys", "browsing", "refusal"]
