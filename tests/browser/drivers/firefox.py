"""Firefox by WebDriver BiDi, which it speaks itself: no other program stands between."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect

from .face import SIZE, Browser, Missing, Page, Step, webdriver_actions
from .programs import Program, free_port

NAMES: Final = ("firefox-esr", "firefox")
PREFERENCES: Final = {
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
    "remote.active-protocols": 1,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "extensions.update.enabled": False,
    "services.settings.server": "data:,",
}
STARTS_WITHIN: Final = 90.0


class BiDi:
    """Commands and their answers over one WebSocket. Events are not asked for."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            waiting = self._waiting.pop(message.get("id") or 0, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)

    async def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer's `result`. Raises `AssertionError` with the error's words."""
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        message = await asyncio.wait_for(answer, STARTS_WITHIN)
        assert message["type"] == "success", f"{method}: {message}"
        return dict(message["result"])

    async def close(self) -> None:
        await self._socket.close()
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading


class FirefoxPage(Page):
    def __init__(self, bidi: BiDi, user: str, context: str) -> None:
        self._bidi = bidi
        self._user = user
        self._context = context

    async def goto(self, url: str) -> None:
        await self._bidi("browsingContext.navigate", context=self._context, url=url, wait="interactive")

    async def evaluate(self, expression: str) -> str:
        answer = await self._bidi(
            "script.evaluate", expression=expression, target={"context": self._context}, awaitPromise=True
        )
        assert answer["type"] == "success", f"{expression}: {answer}"
        return str(answer["result"]["value"])

    async def perform(self, steps: Sequence[Step]) -> None:
        await self._bidi("input.performActions", context=self._context, actions=webdriver_actions(steps))

    async def close(self) -> None:
        await self._bidi("browser.removeUserContext", userContext=self._user)


class Firefox(Browser):
    name = "firefox"

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="roundtable-firefox-", ignore_cleanup_errors=True)
        self._program: Program | None = None
        self._bidi: BiDi | None = None

    async def start(self) -> None:
        path = next((found for name in NAMES if (found := which(name))), None)
        if path is None:
            raise Missing("Firefox (Debian: apt-get install firefox-esr)")
        home = Path(self._home.name)
        wishes = "".join(f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in PREFERENCES.items())
        (home / "user.js").write_text(wishes)
        port = free_port()
        arguments = ("--headless", "--no-remote", "--profile", str(home), f"--remote-debugging-port={port}")
        self._program = await Program.start(path, *arguments, home=home, listens=port, within=STARTS_WITHIN)
        socket = await connect(f"ws://127.0.0.1:{port}/session", max_size=None, origin=None)
        self._bidi = BiDi(socket)
        await self._bidi("session.new", capabilities={})

    async def stop(self) -> None:
        if self._bidi is not None:
            await self._bidi.close()
        if self._program is not None:
            await self._program.end()
        self._home.cleanup()

    async def page(self, **options: Any) -> FirefoxPage:
        assert self._bidi is not None
        assert not options
        user = (await self._bidi("browser.createUserContext"))["userContext"]
        # a window, not a tab: one behind another would count as hidden
        made = await self._bidi("browsingContext.create", type="window", userContext=user)
        width, height = SIZE
        await self._bidi(
            "browsingContext.setViewport",
            context=made["context"],
            viewport={"width": width, "height": height},
        )
        return FirefoxPage(self._bidi, user, made["context"])
