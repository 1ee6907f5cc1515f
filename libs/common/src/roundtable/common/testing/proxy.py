"""Test layer: a TCP proxy before nats-server that loses what it is told to lose: messages by subject, or whole connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

LIMIT: Final = 8 << 20


class NatsProxy:
    """What comes from the server is read message by message and asked for its subject.

    `swallow` says which messages never arrive, `delay` which are kept until `release`; both are told the subject, and may be
    set at any time. What a client says goes through as it is.
    """

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.swallow: Callable[[str], bool] = lambda _: False
        self.delay: Callable[[str], bool] = lambda _: False
        self.refusing = False
        """New connections are closed at once."""
        self.swallowed = 0
        self.delayed = 0
        self._server_port = server_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._kept: list[tuple[asyncio.StreamWriter, bytes]] = []

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    def cut(self, *, refuse: bool = False) -> None:
        """Every connection breaks, both ways and without a word; with `refuse` no new one comes about."""
        self.refusing = refuse
        self._kept.clear()
        for writer in tuple(self._writers):
            writer.transport.abort()

    def release(self) -> int:
        """What was kept arrives now, after all that has overtaken it; returns how much that is."""
        kept, self._kept = self._kept, []
        self.delay = lambda _: False
        for writer, message in kept:
            writer.write(message)
        return len(kept)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.refusing:
            writer.transport.abort()
            return
        try:
            from_server, to_server = await asyncio.open_connection(
                "127.0.0.1", self._server_port, limit=LIMIT
            )
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, to_server}
        ways = [
            asyncio.ensure_future(self._upwards(reader, to_server)),
            asyncio.ensure_future(self._downwards(from_server, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            self._writers -= {writer, to_server}
            writer.transport.abort()
            to_server.transport.abort()

    @staticmethod
    async def _upwards(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()

    async def _downwards(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                message = line = await reader.readuntil(b"\r\n")
                words = line.split()
                if words[0] in (b"MSG", b"HMSG"):
                    message = line + await reader.readexactly(int(words[-1]) + 2)
                    subject = words[1].decode()
                    if self.swallow(subject):
                        self.swallowed += 1
                        continue
                    if self.delay(subject):
                        self.delayed += 1
                        self._kept.append((writer, message))
                        continue
                writer.write(message)
                await writer.drain()


@asynccontextmanager
async def nats_proxy(server_port: int) -> AsyncIterator[NatsProxy]:
    proxy = NatsProxy(server_port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
