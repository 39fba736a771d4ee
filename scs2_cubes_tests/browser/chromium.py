"""The system's Chromium, driven by Playwright, with no way out of this computer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Route, sync_playwright

__all__ = ["WIDTH", "chromium", "find_chromium", "open_page"]

#: Width of the window in CSS pixels.
WIDTH = 1400
_NAMES = ("chromium", "chromium-browser", "google-chrome")
#: In containers there is neither a user namespace for the sandbox, nor a GPU, nor much shared memory.
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
_PATIENCE_MS = 45_000


def find_chromium() -> str | None:
    """Path of the browser; None where there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """The browser at ``path``, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(browser: Browser, base: str, height: int = 1000) -> Iterator[Page]:
    """A page whose relative addresses begin at ``base``; everything that isn't on 127.0.0.1 is blocked."""
    with browser.new_context(base_url=base, viewport={"width": WIDTH, "height": height}) as context:
        context.route("**/*", _only_here)
        context.set_default_timeout(_PATIENCE_MS)
        yield context.new_page()


def _only_here(route: Route) -> None:
    parts = urlsplit(route.request.url)
    if parts.scheme in {"data", "blob"} or parts.hostname == "127.0.0.1":
        route.continue_()
    else:
        route.abort()
