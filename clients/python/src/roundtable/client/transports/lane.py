"""Transport layer: the way up for those who read by SSE or poll: `POST /rpc`, one request at a time, so all stays in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import httpx

from roundtable.common.schema.envelope import MAX_BATCH

from ..errors import LOST, RoundtableError
from ..messages import MEDIA, Failure, Message, Unreadable, batch, decode_error, decode_replies
from .pipe import Outgoing, Way

TOGETHER: Final = min(20, MAX_BATCH)
"""Messages of one HTTP request: they are carried out one after another, and answered all together."""
BYTES: Final = 60_000
TIMEOUT: Final = httpx.Timeout(10, read=120)


class Lane:
    def __init__(self, way: Way, hear: Callable[[Message], None]) -> None:
        self._way = way
        self._hear = hear
        self._waiting: deque[Outgoing] = deque()
        self._news = asyncio.Event()
        self._connection = asyncio.get_running_loop().create_future()

    def open(self, connection: str) -> None:
        """The welcome has come: this is whose requests they are."""
        if not self._connection.done():
            self._connection.set_result(connection)

    def send(self, outgoing: Outgoing) -> None:
        self._waiting.append(outgoing)
        self._news.set()

    async def run(self) -> None:
        """For ever. Raises `RoundtableError` when the connection as a whole is of no more use."""
        connection: str = await self._connection
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                await self._post(connection, self._next())

    def _next(self) -> list[Outgoing]:
        parts, size = [self._waiting.popleft()], 0
        size = len(parts[0].payload)
        while self._waiting and len(parts) < TOGETHER:
            size += len(self._waiting[0].payload) + 1
            if size > BYTES:
                break
            parts.append(self._waiting.popleft())
        return parts

    async def _post(self, connection: str, parts: list[Outgoing]) -> None:
        way = self._way
        body = parts[0].payload if len(parts) == 1 else batch([part.payload for part in parts], way.fmt)
        response = await way.http().post(
            way.address.of("/rpc", connection=connection),
            content=body,
            headers={**way.headers, "Content-Type": MEDIA[way.fmt]},
            timeout=TIMEOUT,
        )
        if not response.is_success:
            error = decode_error(response.content, response.status_code)
            if error.advice == "token" or error.code == LOST:
                raise error
            for part in parts:
                self._hear(Failure(part.id, part.method, error))
            return
        try:
            replies = decode_replies(response.content, way.fmt)
        except Unreadable as error:
            raise RoundtableError(
                1002, "protocol_error", f"The server's answer cannot be read: {error}"
            ) from None
        for reply in replies:
            self._hear(reply)
