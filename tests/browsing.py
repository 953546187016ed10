"""A real browser: what a person does, with the mouse and the keyboard. Tests that use it are skipped without one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="selenium drives the browser: install the extra `dev`")
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NEEDS_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium: apt-get install chromium chromium-driver"),
]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1400,1000",
]
PATIENCE = 60


class Page:
    """The browser at an address."""

    def __init__(self, driver: Any, base: str) -> None:
        self.driver, self.base = driver, base

    def open(self, place: str) -> Page:
        """Anew, as if the link had just been received."""
        self.driver.get("about:blank")
        self.driver.get(self.base + place)
        return self

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        self.until(lambda: self.all(selector))
        return self.all(selector)[0]

    def texts(self, selector: str) -> list[str]:
        return [e.text for e in self.all(selector)]

    def until(self, holds: Callable[[], Any]) -> None:
        # a page that follows a run may draw anew between finding an element and reading it
        wait = WebDriverWait(self.driver, PATIENCE, 0.05, ignored_exceptions=[StaleElementReferenceException])
        wait.until(lambda _: holds())

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def press(self, key: str) -> None:
        ActionChains(self.driver).send_keys(key).perform()

    def click(self, selector: str) -> None:
        self.one(selector).click()

    def choose(self, name: str, label: str) -> None:
        Select(self.one(f"select[name={name}]")).select_by_visible_text(label)

    def place(self) -> str:
        return str(self.driver.current_url).partition("#")[2]

    def until_listed(self, count: int) -> None:
        self.until(lambda: self.texts("p.end") == [f"{count} games"])

    def complaints(self) -> list[str]:
        """What the browser's console holds, and everything that was loaded from elsewhere; empties the console."""
        loaded = self.run("return performance.getEntriesByType('resource').map(e => e.name)")
        assert loaded
        lines = [line["message"] for line in self.driver.get_log("browser")]
        return lines + [name for name in loaded if not name.startswith(self.base)]


@contextmanager
def browser(profile: Path) -> Iterator[Any]:
    """Chromium with an empty folder for its profile, without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()
