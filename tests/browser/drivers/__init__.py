"""Three browser families behind one face: Chromium by Playwright, Firefox by WebDriver BiDi, WebKitGTK by WebDriver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .chromium import Chromium
from .face import Browser, Missing, Page
from .firefox import Firefox
from .webkit import WebKit

BROWSERS: Final[dict[str, Callable[[], Browser]]] = {
    "chromium": Chromium,
    "firefox": Firefox,
    "webkit": WebKit,
}

__all__ = ["BROWSERS", "Browser", "Missing", "Page", "WebKit", "Firefox", "Chromium"]
