"""Test layer: what may stand between a client and a gateway: lets only some transports through, or nothing, or goes silent."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

Kind = Literal["websocket", "sse", "poll", "rpc", "other"]
EVERYTHING: Final[frozenset[Kind]] = frozenset({"websocket", "sse", "poll", "rpc", "other"})
_HEAD: Final = re.compile(rb"(?:GET|POST) (/[a-z]*)")


def kind_of(head: bytes) -> Kind | None:
    """Of a request, by its head; None: no head begins here."""
    match = _HEAD.match(head)
    if match is None:
        return None
    if b"upgrade: websocket" in head.lower():
        return "websocket"
    match match[1]:
        case b"/sse":
            return "sse"
        case b"/poll":
            return "poll"
        case b"/rpc":
            return "rpc"
        case _:
            return "other"


class Gate:
    """A TCP proxy that looks at the head of each request. `target` and `blocked` may be set at any time."""

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self.target = target
        """Port of the gateway to which new connections lead."""
        self.blocked: frozenset[Kind] = frozenset()
        """Requests of these kinds lose their connection."""
        self.passed: list[Kind] = []
        """All requests that were let through."""
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{'wss' if self._tls else 'ws'}://127.0.0.1:{self.port}"

    def block(self, *kinds: Kind) -> None:
        """Only these from now on; all connections break."""
        self.blocked = frozenset(kinds)
        self.cut()

    def cut(self) -> None:
        """Every connection breaks, both ways and without a word."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def silence(self) -> None:
        """What is open stays open, and nothing goes through it any more; new connections are as ever."""
        for task in tuple(self._tasks):
            task.cancel()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            from_gateway, to_gateway = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(to_gateway)
        for way in (self._upwards(reader, to_gateway, writer), self._copy(from_gateway, writer, to_gateway)):
            task = asyncio.create_task(way)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _upwards(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                kind = kind_of(data)
                if kind in self.blocked:
                    break
                if kind is not None:
                    self.passed.append(kind)
                writer.write(data)
                await writer.drain()
        self._end(writer, back)

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()
        self._end(writer, back)

    def _end(self, *writers: asyncio.StreamWriter) -> None:
        for writer in writers:
            writer.transport.abort()
            self._writers.discard(writer)


@asynccontextmanager
async def gate(target: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Gate]:
    made = Gate(target, tls)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
