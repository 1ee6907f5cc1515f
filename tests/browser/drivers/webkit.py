"""WebKitGTK, of Safari's family, by its WebDriver, on a screen that nobody sees."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from typing import Any, Final

import httpx

from .face import SIZE, Browser, Missing, Page, Step, webdriver_actions
from .programs import Program, free_port

BROWSERS: Final = tuple(Path("/usr").glob("lib*/**/webkit2gtk-4.*/MiniBrowser")) + tuple(
    Path("/usr").glob("lib*/**/webkitgtk-6.*/MiniBrowser")
)
STARTS_WITHIN: Final = 90.0
ENVIRONMENT: Final = {
    "GDK_BACKEND": "x11",
    "LIBGL_ALWAYS_SOFTWARE": "1",
    "WEBKIT_DISABLE_DMABUF_RENDERER": "1",
    "NO_AT_BRIDGE": "1",
}


class WebKitPage(Page):
    """A browser of its own: the driver has one session at a time."""

    def __init__(self, program: Program, http: httpx.AsyncClient, session: str) -> None:
        self._program = program
        self._http = http
        self._session = session

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = await self._http.post(f"/session/{self._session}/{path}", json=body)
        value = answer.json()["value"]
        assert answer.status_code == 200, f"{path}: {value}"
        return value

    async def goto(self, url: str) -> None:
        await self._post("url", {"url": url})

    async def evaluate(self, expression: str) -> str:
        script = (
            f"const done = arguments[arguments.length - 1]; Promise.resolve({expression}).then(done, (error) =>"
            " done('!' + error));"
        )
        value = str(await self._post("execute/async", {"script": script, "args": []}))
        assert not value.startswith("!"), f"{expression}: {value}"
        return value

    async def perform(self, steps: Sequence[Step]) -> None:
        await self._post("actions", {"actions": webdriver_actions(steps)})

    async def resize(self) -> None:
        """Makes the window so large that the page in it has the wished size."""
        width, height = SIZE
        await self._post("window/rect", {"x": 0, "y": 0, "width": width, "height": height})
        inner = await self.run("[innerWidth, innerHeight]")
        more = {"width": 2 * width - inner[0], "height": 2 * height - inner[1]}
        await self._post("window/rect", {"x": 0, "y": 0, **more})

    async def close(self) -> None:
        with contextlib.suppress(httpx.HTTPError):
            await self._http.delete(f"/session/{self._session}")
        await self._http.aclose()
        await self._program.end()


class WebKit(Browser):
    name = "webkit"

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="roundtable-webkit-", ignore_cleanup_errors=True)
        self._screen: Program | None = None
        self._display = ""

    async def start(self) -> None:
        if not (which("WebKitWebDriver") and BROWSERS and which("Xvfb")):
            raise Missing("WebKitGTK and a screen (Debian: apt-get install webkit2gtk-driver xvfb)")
        home = Path(self._home.name)
        chosen = home / "display"
        # it picks a free number and writes it down
        self._screen = await Program.start(
            "/bin/sh",
            "-c",
            f"exec Xvfb -displayfd 3 -screen 0 1600x1200x24 -nolisten tcp 3>'{chosen}'",
            home=home,
        )
        async with asyncio.timeout(STARTS_WITHIN):
            while not (chosen.exists() and chosen.read_text().strip()):
                await asyncio.sleep(0.02)
        self._display = f":{chosen.read_text().strip()}"

    async def stop(self) -> None:
        if self._screen is not None:
            await self._screen.end()
        self._home.cleanup()

    async def page(self, **options: Any) -> WebKitPage:
        assert not options
        port = free_port()
        program = await Program.start(
            "WebKitWebDriver",
            f"--port={port}",
            home=Path(self._home.name),
            listens=port,
            within=STARTS_WITHIN,
            DISPLAY=self._display,
            **ENVIRONMENT,
        )
        http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=STARTS_WITHIN)
        options = {"binary": str(BROWSERS[0]), "args": ["--automation"]}
        wanted = {"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": options}}}
        answer = await http.post("/session", json=wanted)
        assert answer.status_code == 200, answer.text
        page = WebKitPage(program, http, answer.json()["value"]["sessionId"])
        await page.resize()
        return page
