"""Transport layer: WebSocket, by the library `websockets`. Knows no retries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from ..errors import LOST, RoundtableError
from ..messages import Message, Unreadable, decode
from .pipe import Outgoing, Pipe, Way, first_end

LARGEST: Final = 64 << 20
"""Bytes of one message: a whole canvas may come as one answer."""
OPENING: Final = 10.0


class WebSocketPipe(Pipe):
    def __init__(self, way: Way, hear: Callable[[Message], None]) -> None:
        super().__init__(way, hear)
        self._outgoing: asyncio.Queue[Outgoing] = asyncio.Queue()

    def send(self, outgoing: Outgoing) -> None:
        self._outgoing.put_nowait(outgoing)

    async def run(self) -> None:
        way = self.way
        own: dict[str, Any] = {"ssl": way.ssl} if way.ssl is not None else {}
        try:
            socket = await connect(
                way.address.socket(cursor=way.cursor or None),
                additional_headers=way.headers,
                subprotocols=[Subprotocol(f"roundtable.v1.{way.fmt}")],
                max_size=LARGEST,
                open_timeout=OPENING,
                close_timeout=1,
                ping_interval=None,  # the client's own heartbeat goes all the way to the gateway's code
                proxy=True if way.proxy else None,
                **own,
            )
        except InvalidStatus as error:
            # A gateway refuses by a close frame. This was somebody between: perhaps another transport gets through.
            raise RoundtableError(LOST, "", f"HTTP status {error.response.status_code}") from None
        async with socket:
            await first_end(self._read(socket), self._write(socket))

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for frame in socket:
                self.hear(decode(frame, self.way.fmt))
        except ConnectionClosed:
            pass
        except Unreadable as error:
            raise RoundtableError(
                1002, "protocol_error", f"The server's message cannot be read: {error}"
            ) from None
        raise RoundtableError(socket.close_code or LOST, socket.close_reason or "")

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            payload = (await self._outgoing.get()).payload
            try:
                await socket.send(payload, text=self.way.fmt == "json")
            except ConnectionClosed:
                await asyncio.Event().wait()  # the reader tells why, and ends this
