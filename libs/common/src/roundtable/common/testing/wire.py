"""Test layer: a peer on a bare socket, who sends what it is told, however wrong, and reads when it is told, or never."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
from types import TracebackType
from typing import Any, Final, NamedTuple

from .players import WAIT, token
from .system import Program

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK: Final = b"\x11\x22\x33\x44"


class Frame(NamedTuple):
    opcode: int
    payload: bytes
    rsv: int = 0


class Gone(ConnectionError):
    """The other side has ended the connection; `read` holds what came of the frame or answer before."""


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    declared: int | None = None,
) -> bytes:
    """One frame of RFC 6455, also one that should not be: `declared` is the length that it claims."""
    length = len(payload) if declared is None else declared
    head = bytes([(fin << 7) | (rsv << 4) | opcode])
    flag = 0x80 if masked else 0
    if length < 126:
        head += bytes([flag | length])
    elif length < 1 << 16:
        head += bytes([flag | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([flag | 127]) + length.to_bytes(8, "big")
    if not masked:
        return head + payload
    key = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    hidden = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")
    return head + MASK + hidden


class Wire:
    """One TCP connection to a program. With `narrow`, the system keeps little for it that it has not read."""

    def __init__(self, program: Program, *, address: str = "", narrow: bool = False) -> None:
        self._program = program
        self._socket = socket.socket()
        self._socket.setblocking(False)
        if narrow:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        if address:
            self._socket.bind((address, 0))
        self._buffer = bytearray()
        self.received = 0

    async def __aenter__(self) -> Wire:
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_connect(self._socket, ("127.0.0.1", self._program.port)), WAIT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    # -- bytes

    async def send(self, data: bytes) -> None:
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self._socket, data), WAIT)

    def half_close(self) -> None:
        """Nothing more comes from here. Where the other side has hung up already, there is nothing left to close."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def _more(self, wait: float) -> None:
        try:
            data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._socket, 1 << 18), wait)
        except ConnectionError:
            data = b""
        if not data:
            raise Gone(bytes(self._buffer[:200]))
        self.received += len(data)
        self._buffer += data

    async def exactly(self, size: int, wait: float = WAIT) -> bytes:
        while len(self._buffer) < size:
            await self._more(wait)
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def through(self, end: bytes, wait: float = WAIT) -> bytes:
        """Up to and with these bytes."""
        start = 0
        while (found := self._buffer.find(end, start)) < 0:
            start = max(0, len(self._buffer) - len(end))
            await self._more(wait)
        return await self.exactly(found + len(end))

    async def rest(self, wait: float = WAIT) -> bytes:
        """All that comes before the other side ends."""
        while True:
            try:
                await self._more(wait)
            except Gone:
                taken = bytes(self._buffer)
                self._buffer.clear()
                return taken

    # -- HTTP

    def request(self, target: str, method: str = "GET", **headers: str) -> bytes:
        """One without a body. Header names with `_` for `-`."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{self._program.port}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join((*lines, "", "")).encode()

    async def ask(self, target: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str]]:
        """Status and headers (lower case) of the answer to a request without a body."""
        await self.send(self.request(target, method, **headers))
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str]]:
        head = (await self.through(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in head[1:] if line)
        return int(head[0].split()[1]), {name.lower(): value.strip() for name, _, value in fields}

    # -- WebSocket

    def handshake(
        self,
        room: str,
        user: str = "",
        role: str = "player",
        *,
        path: str = "/ws",
        query: str = "",
        **headers: str,
    ) -> bytes:
        if user:
            headers = {"Authorization": f"Bearer {token(user, '*', role)}", **headers}
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            **headers,
        }
        return self.request(f"{path}?{query or f'room={room}'}", **headers)

    async def upgrade(self, *who: str, **how: str) -> tuple[int, dict[str, str]]:
        """Sends a `handshake` of that kind and returns the answer's status and headers."""
        await self.send(self.handshake(*who, **how))
        return await self.answer()

    async def frame(self, wait: float = WAIT) -> Frame:
        """The next frame. Raises `Gone`, `TimeoutError`."""
        first, second = await self.exactly(2, wait)
        length = second & 0x7F
        assert not second & 0x80, "a server masks nothing"
        if length == 126:
            length = int.from_bytes(await self.exactly(2, wait), "big")
        elif length == 127:
            length = int.from_bytes(await self.exactly(8, wait), "big")
        return Frame(first & 0x0F, await self.exactly(length, wait), first >> 4 & 7)

    async def say(self, message: Any) -> None:
        await self.send(frame(TEXT, json.dumps(message).encode()))

    async def message(self, kind: str, wait: float = WAIT, **fields: Any) -> dict[str, Any]:
        """The next message of that type with these fields, in JSON; what comes before it is passed over."""
        async with asyncio.timeout(wait):
            while True:
                came = await self.frame(wait)
                assert came.opcode != CLOSE, f"closed with {closing(came)}"
                if came.opcode != TEXT:
                    continue
                message: dict[str, Any] = json.loads(came.payload)
                if message["type"] == kind and all(
                    message.get(name) == value for name, value in fields.items()
                ):
                    return message

    async def closed(self, wait: float = WAIT) -> tuple[int, str]:
        """Code and reason of the close frame; what comes before it is passed over. The close is answered."""
        async with asyncio.timeout(wait):
            while True:
                came = await self.frame(wait)
                if came.opcode == CLOSE:
                    with contextlib.suppress(ConnectionError):
                        await self.send(frame(CLOSE, came.payload[:2]))
                    return closing(came)


def closing(close: Frame) -> tuple[int, str]:
    return int.from_bytes(close.payload[:2], "big"), close.payload[2:].decode()
