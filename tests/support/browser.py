"""Headless Chromium, for tests that look at pages."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

_ARGUMENTS = (
    # A new profile, no services of Google's, no GPU: WebGL is drawn by the CPU.
    "--headless=new --no-sandbox --no-first-run --disable-quic --disable-background-networking "
    "--disable-component-update --disable-sync --use-angle=swiftshader "
    "--enable-unsafe-swiftshader --hide-scrollbars --window-size=1360,1000"
).split()


@contextmanager
def chromium(profile: Path, *more: str) -> Iterator[webdriver.Chrome]:
    """A browser with an empty profile and more arguments; skips the test where there is none."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (*_ARGUMENTS, *more, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    running = webdriver.Chrome(options, Service(driver))
    try:
        yield running
    finally:
        running.quit()


def forget_logs(browser: webdriver.Chrome) -> None:
    """Take what came before a page is opened out of its logs."""
    for log in ("performance", "browser"):
        browser.get_log(log)


def open_page(browser: webdriver.Chrome, page: Path) -> None:
    """Open a report and wait until it is drawn."""
    forget_logs(browser)
    browser.get(page.as_uri())
    WebDriverWait(browser, 60).until(
        lambda _: browser.execute_script("return document.body.dataset.ready") == "true"
    )
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def addresses_asked_for(browser: webdriver.Chrome) -> list[str]:
    """Every address that was asked for since the page was opened."""
    messages = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
