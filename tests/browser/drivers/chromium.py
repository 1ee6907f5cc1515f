"""Chromium by Playwright, which starts the one that the system has."""

from __future__ import annotations

from collections.abc import Sequence
from shutil import which
from typing import Any, Final

from .face import SIZE, Browser, Missing, Page, Step

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--font-render-hinting=none",
)


class ChromiumPage(Page):
    """`handle` is Playwright's own page, for what only this browser is asked."""

    def __init__(self, context: Any, handle: Any) -> None:
        self.context = context
        self.handle = handle
        self.errors: list[str] = []
        """What the page said was wrong: uncaught errors, and what its policy forbade."""
        handle.on("pageerror", lambda error: self.errors.append(str(error)))
        handle.on("console", self._said)

    def _said(self, message: Any) -> None:
        if message.type == "error" and "Content Security Policy" in message.text:
            self.errors.append(message.text)

    async def goto(self, url: str) -> None:
        await self.handle.goto(url)

    async def evaluate(self, expression: str) -> str:
        return str(await self.handle.evaluate(expression))

    async def perform(self, steps: Sequence[Step]) -> None:
        for kind, *rest in steps:
            match kind:
                case "move":
                    await self.handle.mouse.move(*rest)
                case "down":
                    await self.handle.mouse.down()
                case "up":
                    await self.handle.mouse.up()
                case "press":
                    await self.handle.keyboard.press(rest[0])
                case "type":
                    await self.handle.keyboard.type(rest[0])
                case _:
                    raise ValueError(kind)

    async def close(self) -> None:
        await self.context.close()


class Chromium(Browser):
    name = "chromium"

    def __init__(self) -> None:
        self._playwright: Any = None
        self._browser: Any = None

    async def start(self) -> None:
        path = next((found for name in NAMES if (found := which(name))), None)
        if path is None:
            raise Missing("Chromium (Debian: apt-get install chromium)")
        try:
            from playwright.async_api import async_playwright
        except ImportError:
            raise Missing("Playwright for Python (make browser installs it)") from None
        self._playwright = await async_playwright().start()
        self._browser = await self._playwright.chromium.launch(executable_path=path, args=ARGUMENTS)

    async def stop(self) -> None:
        if self._browser is not None:
            await self._browser.close()
        if self._playwright is not None:
            await self._playwright.stop()

    async def page(self, **options: Any) -> ChromiumPage:
        """`options` as those of Playwright's `new_context`."""
        width, height = SIZE
        context = await self._browser.new_context(
            **{"viewport": {"width": width, "height": height}} | options
        )
        return ChromiumPage(context, await context.new_page())
