"""Shell: clients in Python, for rows that count whole joins and not bytes: each says when it has what it came for."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, Final

import msgspec
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from roundtable.common.command_client import CommandClient
from roundtable.common.schema.log import CommandMessage
from roundtable.common.testing.players import token

PATIENCE: Final = 60.0
STROKE: Final = {
    "type": "draw",
    "tool": "pen",
    "points": [{"x": number * 1.5, "y": -2.25 * number} for number in range(12)],
    "color": "#1e90ff",
    "size": 3,
}


class _Header(Struct):
    method: str = ""
    id: str = ""


class _More(Struct):
    more: bool = False


class _Page(Struct):
    data: _More


_header: Final = msgspec.json.Decoder(_Header).decode
_page: Final = msgspec.json.Decoder(_Page).decode


class Guest:
    """One WebSocket; `cursor` is that of the last event."""

    def __init__(self, url: str, room: str, user: str) -> None:
        self.cursor = ""
        self.drawn = 0
        """Strokes heard since it joined, or came back."""
        self.bytes = 0
        self.retries = 0
        """Times that it was sent away, and came again as clients do: with jitter."""
        self._url = f"{url}/ws?room={room}"
        self._token = token(user)
        self._socket: ClientConnection | None = None

    async def join(self, cursor: str = "") -> float:
        """Seconds until the last page of its snapshots, or with a cursor the welcome, is there."""
        began = time.perf_counter()
        while True:
            try:
                await self._join(cursor)
                return time.perf_counter() - began
            except (ConnectionClosed, OSError):
                self.retries += 1
                if time.perf_counter() - began > PATIENCE:
                    raise
                await asyncio.sleep(random.uniform(0, 1))

    async def _join(self, cursor: str) -> None:
        url = f"{self._url}&cursor={cursor}" if cursor else self._url
        headers = {"Authorization": f"Bearer {self._token}"}
        self._socket = await connect(
            url,
            additional_headers=headers,
            max_size=None,
            compression=None,
            open_timeout=60,
            ping_interval=None,
        )
        while True:
            method, data = await self._next()
            if method == "session.welcome" and cursor:
                break
            if method == "activity.snapshot" and not _page(data).data.more:
                break

    async def until_drawn(self, strokes: int) -> None:
        while self.drawn < strokes:
            await self._next()

    async def _next(self) -> tuple[str, bytes]:
        assert self._socket is not None
        data = await self._socket.recv(decode=False)
        self.bytes += len(data)
        header = _header(data)
        self.cursor = header.id or self.cursor
        if header.method == "session.welcome":
            self.cursor = str(msgspec.json.decode(data)["data"]["cursor"])
        self.drawn += header.method == "canvas.draw"
        return header.method, data

    async def hang_up(self) -> None:
        if self._socket is not None:
            self._socket.transport.abort()
            await self._socket.wait_closed()


async def draw(commands: CommandClient, room: str, number: int, strokes: int = 1) -> None:
    """One command; `number` makes its id."""
    params: Any = msgspec.Raw(msgspec.json.encode({"operations": [STROKE] * strokes}))
    reply = await commands.request(
        "canvas", room, CommandMessage("canvas.draw", params, "bench", "bench", "player", str(number)), 30
    )
    if reply.error is not msgspec.UNSET:
        raise RuntimeError(f"the benchmark's own stroke was refused: {reply.error}")


async def at_once(work: list[Any], most: int) -> list[Any]:
    gate = asyncio.Semaphore(most)

    async def one(each: Any) -> Any:
        async with gate:
            return await each

    return list(await asyncio.gather(*map(one, work)))
