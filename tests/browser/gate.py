"""A proxy before the gateway that lets only some ways through, as networks of offices and hotels do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

WAYS: Final = ("websocket", "sse", "poll")
LIMIT: Final = 1 << 20
_REFUSED: Final = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Gate:
    """`closed` are the ways that it refuses; after `cut` nothing comes through at all."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.port = 0
        self.closed: frozenset[str] = frozenset()
        self.cut_off = False
        self.requests: list[str] = []
        """The ways of what came through, in order; `other` for the rest."""
        self._open: dict[asyncio.Task[None], str] = {}
        self._server: asyncio.Server | None = None

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self, *ways: str) -> None:
        """From now on, and for what is open."""
        assert set(ways) <= set(WAYS)
        self.closed = frozenset(ways)
        self._end(lambda way: way in self.closed)

    def cut(self) -> None:
        """Nothing comes through any more, in no direction."""
        self.cut_off = True
        self._end(lambda _: True)

    def open(self) -> None:
        self.closed, self.cut_off = frozenset(), False

    def _end(self, which: Callable[[str], bool]) -> None:
        for task, way in tuple(self._open.items()):
            if which(way):
                task.cancel()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        if self._open:
            await asyncio.wait(tuple(self._open))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = "other"
        try:
            await self._serve(task, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # either side went away, or the gate was closed: both ends see a broken connection
        finally:
            del self._open[task]
            writer.transport.abort()

    async def _serve(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        way = self._open[task] = way_of(head)
        if self.cut_off:
            return
        if way in self.closed:
            writer.write(_REFUSED)
            await writer.drain()
            return
        self.requests.append(way)
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.server_port)
        try:
            to_server.write(head if way == "websocket" else once(head))
            up = asyncio.create_task(pipe(reader, to_server))
            down = asyncio.create_task(pipe(from_server, writer))
            try:
                await down
            finally:
                for each in (up, down):
                    each.cancel()
                await asyncio.wait((up, down))
        finally:
            to_server.transport.abort()


def way_of(head: bytes) -> str:
    line, _, rest = head.partition(b"\r\n")
    if b"\r\nupgrade: websocket" in b"\r\n" + rest.lower():
        return "websocket"
    path = line.split()[1].partition(b"?")[0]
    return {b"/sse": "sse", b"/poll": "poll"}.get(path, "other")


def once(head: bytes) -> bytes:
    """One request for each connection, so that each can be judged by its head."""
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([lines[0], b"Connection: close", *lines[1:]])


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
