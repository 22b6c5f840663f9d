"""A real Chromium, for tests of the console. Debian's package is ``chromium``; Playwright drives it."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.service.server import ADMIN


def reason_against() -> str | None:
    """Why there can be no browser here, or None."""
    if shutil.which("chromium") is None:
        return "Chromium is not installed (Debian: apt install chromium)"
    if any(importlib.util.find_spec(name) is None for name in ("playwright", "axe_playwright_python")):
        return "Playwright is not installed (make test installs console/requirements.lock)"
    return None


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser. Its sandbox needs a user that is not root."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        yield browser
        browser.close()


class Visit:
    """A person at the console of the server at ``url``: a window of its own, with nothing kept from others.

    Whatever the page asks of another host, or logs as an error that is no plain HTTP status, fails the test at its end.
    """

    def __init__(self, browser: Any, url: str, key: str = ADMIN, **options: Any) -> None:
        self.url = url
        self._context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        self.page = self._context.new_page()
        self.page.set_default_timeout(20_000)
        self.complaints: list[str] = []
        self.page.on("request", self._asked)
        self.page.on("console", self._logged)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(f"{url}/console")
        if key:
            self.enter(key)
            self.page.get_by_role("navigation", name="Pages").wait_for()

    def enter(self, key: str) -> None:
        """Give a key at the gate."""
        self.page.get_by_label("Key").fill(key)
        self.page.get_by_role("button", name="Open").click()

    def go(self, place: str, heading: str) -> None:
        """To a page of the console, by its address."""
        self.page.goto(f"{self.url}/console#/{place}")
        self.page.get_by_role("heading", level=1, name=heading).wait_for()

    def offline(self, off: bool = True) -> None:
        """The network is down."""
        self._context.set_offline(off)

    def close(self) -> None:
        """Leave, and tell what the page should not have done."""
        self._context.close()
        assert not self.complaints, self.complaints

    def _asked(self, request: Any) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc and not request.url.startswith("blob:"):
            self.complaints.append(f"asked {request.url}")
        if "key" in urlsplit(request.url).query:
            self.complaints.append(f"an address with a key: {request.url}")

    def _logged(self, message: Any) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)
