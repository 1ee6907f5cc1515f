"""Transport layer: RFC 6455 on an asyncio transport. ASGI does the handshake; then the connection writes here directly.

ASGI's `send` for each connection and message would cost more than all the rest together, so after `accept` the endpoint takes
this object out of the scope (`protocol_of`), gives it a receiver and leaves. Knows no rooms, no sessions, no messages.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, MutableMapping
from hashlib import sha1
from http import HTTPStatus
from typing import Any, Final, Protocol

from starlette.types import ASGIApp

from roundtable.common.schema.errors import Refusal
from roundtable.common.telemetry import log

from ..frames import (
    Binary,
    Close,
    FrameError,
    FrameParser,
    Ping,
    Text,
    close_frame,
    negotiate_deflate,
    ping_frame,
    pong_frame,
)
from .sockets import abort

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = "roundtable.websocket"
BYE: Final = "bye"
"""Our word for a normal end (EN7)."""
CLOSE_WAIT: Final = 5.0
"""Seconds that a peer has to take what is written and to answer our close frame."""
EARLY_AT_MOST: Final = 128
"""Messages that may come before the connection is live; then we stop reading until it is."""
PONGS_AT_MOST: Final = 64 * 1024
"""Unwritten bytes beyond which pings stay unanswered: a peer that floods and does not read gets no memory for it."""


class Receiver(Protocol):
    """Whoever takes the messages: a `Connection`."""

    def receive(self, data: bytes) -> None: ...

    def alive(self) -> None: ...

    def keeps_up(self, ready: bool) -> None: ...

    def lost(self) -> None: ...


def protocol_of(scope: MutableMapping[str, Any]) -> WebSocketProtocol:
    protocol: WebSocketProtocol = scope[_KEY]
    return protocol


class WebSocketProtocol(asyncio.Protocol):
    """One WebSocket. Also an `Outlet` of its connection."""

    __slots__ = (
        "transport", "binary", "deflate", "_max", "_parser", "_receiver", "_early", "_next", "_writable", "_paused",
        "_closing", "_task", "_accept", "_extension", "_denial", "_timer", "_ahead",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, max_bytes: int) -> None:
        self.transport = transport
        self.binary = False
        """The subprotocol's kind of frames: set by the endpoint before `accept`."""
        self.deflate = False
        self._max = max_bytes
        self._parser: FrameParser | None = None
        self._receiver: Receiver | None = None
        self._early: deque[bytes] | None = None
        self._next: asyncio.Future[bytes] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._paused = False
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._accept = b""
        self._extension: str | None = None
        self._denial: tuple[int, list[tuple[bytes, bytes]]] = (403, [])
        self._timer: asyncio.TimerHandle | None = None
        self._ahead = b""
        """What a hasty client sends before its handshake is answered."""

    # -- handshake, as ASGI

    def open(self, app: ASGIApp, scope: dict[str, Any], url: bytes) -> None:
        """Runs the application for the request that uvicorn has parsed."""
        path, _, query = url.partition(b"?")
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        protocols = [
            part.strip()
            for name, value in headers
            if name == b"sec-websocket-protocol"
            for part in value.split(b",")
        ]
        scope |= {
            "type": "websocket",
            "scheme": "wss" if scope.get("scheme") == "https" else "ws",
            "path": urllib.parse.unquote(path.decode("ascii", "replace")),
            "raw_path": path,
            "query_string": query,
            "subprotocols": [part.decode("latin-1") for part in protocols if part],
            "extensions": {"websocket.http.response": {}},
            _KEY: self,
        }
        fault = self._handshake_fault(scope["method"], scope["http_version"], headers)
        if fault is not None:
            self._refuse(*fault)
            return
        self._task = asyncio.get_running_loop().create_task(self._run(app, scope))

    def _handshake_fault(
        self, method: str, version: str, headers: list[tuple[bytes, bytes]]
    ) -> tuple[int, str] | None:
        """RFC 6455, section 4.2.1."""
        fields = dict(headers)
        if method != "GET":
            return 405, "A WebSocket handshake is a GET"
        if version != "1.1":
            return 400, "A WebSocket handshake is HTTP/1.1"
        if fields.get(b"sec-websocket-version") != b"13":
            return 426, "Sec-WebSocket-Version must be 13"
        key = fields.get(b"sec-websocket-key", b"")
        try:
            if len(b64decode(key, validate=True)) != 16:
                raise ValueError
        except ValueError:
            return 400, "Sec-WebSocket-Key must be 16 bytes in base64"
        self._accept = b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
        offers = b", ".join(value for name, value in headers if name == b"sec-websocket-extensions")
        self._extension = negotiate_deflate(offers.decode("latin-1")) if offers else None
        return None

    async def _run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._asgi_receive, self._asgi_send)
        except Exception as error:  # noqa: BLE001 - as an ASGI server does
            log.exception("websocket.failed", error=repr(error))
            if self._parser is not None:
                self.end(Refusal("internal"))
            else:
                self._refuse(500, "Internal error")
        else:
            if self._receiver is None and self._parser is None and not self.transport.is_closing():
                self._refuse(403, "Refused")
        finally:
            self._task = None

    async def _asgi_receive(self) -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def _asgi_send(self, message: MutableMapping[str, Any]) -> None:
        match message["type"]:
            case "websocket.accept":
                self._accepted(message.get("subprotocol"), list(message.get("headers", ())))
            case "websocket.close" if self._parser is None:
                self._refuse(404, "There is no WebSocket here: connect to / or /ws")
            case "websocket.http.response.start":
                self._denial = (message["status"], list(message.get("headers", ())))
            case "websocket.http.response.body":
                status, headers = self._denial
                self._respond(status, headers, message.get("body", b""))
                self.transport.close()
            case _:
                pass

    def _accepted(self, subprotocol: str | None, headers: list[tuple[bytes, bytes]]) -> None:
        lines = [
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", self._accept),
        ]
        if subprotocol:
            lines.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
        if self._extension:
            lines.append((b"Sec-WebSocket-Extensions", self._extension.encode()))
            self.deflate = True
        self._parser = FrameParser(self._max, self.deflate)
        self._respond(101, [*lines, *headers])
        ahead, self._ahead = self._ahead, b""
        if ahead:
            self.data_received(ahead)

    def _refuse(self, status: int, text: str) -> None:
        headers = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Connection", b"close")]
        if status == 426:
            headers.append((b"Sec-WebSocket-Version", b"13"))
        self._respond(status, headers, text.encode())
        self.transport.close()

    def _respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
        lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())]
        if status != 101:
            headers = [
                *(pair for pair in headers if pair[0].lower() != b"content-length"),
                (b"Content-Length", b"%d" % len(body)),
            ]
        lines += [b"%b: %b" % pair for pair in headers]
        self.transport.write(b"\r\n".join((*lines, b"", body)))

    # -- before the connection is live

    async def first_message(self, timeout: float) -> bytes | None:
        """The next message, before there is a receiver; None when none came in time or the peer has gone."""
        if self._early:
            return self._early.popleft()
        if self.transport.is_closing():
            return None
        self._next = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                return await self._next
        except TimeoutError:
            return None
        finally:
            self._next = None

    def push_back(self, payload: bytes) -> None:
        """A first message that is for the receiver after all."""
        if self._early is None:
            self._early = deque()
        self._early.appendleft(payload)

    def hand_to(self, receiver: Receiver) -> None:
        """From now on the receiver takes the messages, those that came early first."""
        self._receiver = receiver
        early, self._early = self._early, None
        for payload in early or ():
            self._hand(receiver, payload)
        if self._paused:
            receiver.keeps_up(False)
        if self.transport.is_closing():
            receiver.lost()
        else:
            self.transport.resume_reading()

    # -- asyncio's side

    def data_received(self, data: bytes) -> None:
        parser, receiver = self._parser, self._receiver
        if parser is None:
            self._ahead += data
            if len(self._ahead) > self._max:
                self.transport.abort()
            return
        if receiver is not None:
            payload = parser.whole(data, self.binary)
            if payload is not None:
                self._hand(receiver, payload)
                return
        fault: FrameError | None = None
        try:
            events = parser.feed(data)
        except FrameError as error:
            events, fault = error.events, error
        for event in events:
            match event:
                case Text(payload) | Binary(payload):
                    if not self._closing:
                        if isinstance(event, Binary) is not self.binary:
                            kind = "binary" if self.binary else "text"
                            self.end(Refusal("unsupported_data", f"This connection speaks {kind} frames"))
                        else:
                            self._message(payload)
                case Ping(payload):
                    self._alive()
                    if not self._closing and self.transport.get_write_buffer_size() < PONGS_AT_MOST:
                        self.transport.write(pong_frame(payload))
                case Close(code, _):
                    self._closed_by_peer(code)
                    return
                case _:
                    self._alive()
        if fault is not None and not self._closing:
            self._end(fault.code, fault.reason)
            if self.transport.can_write_eof():
                self.transport.write_eof()  # the peer's answer could not be read any more: it need not be waited for

    def _message(self, payload: bytes) -> None:
        if self._receiver is not None:
            self._hand(self._receiver, payload)
        elif self._next is not None and not self._next.done():
            self._next.set_result(payload)
        else:
            if self._early is None:
                self._early = deque()
            self._early.append(payload)
            if len(self._early) >= EARLY_AT_MOST:
                self.transport.pause_reading()

    def _hand(self, receiver: Receiver, payload: bytes) -> None:
        try:
            receiver.receive(payload)
        except Exception as error:  # noqa: BLE001 - asyncio would break the connection off without a word
            log.exception("message.failed", error=repr(error))
            self.end(Refusal("internal"))

    def _alive(self) -> None:
        if self._receiver is not None:
            self._receiver.alive()

    def _closed_by_peer(self, code: int) -> None:
        if not self._closing:
            self._closing = True
            self._lose_receiver()
            self.transport.write(close_frame(code, BYE if code == 1000 else ""))
        self.transport.close()
        if self._timer is None:  # what is written waits for a peer that may never read it
            self._timer = asyncio.get_running_loop().call_later(CLOSE_WAIT, abort, self.transport)

    def pause_writing(self) -> None:
        self._paused = True
        if self._receiver is not None:
            self._receiver.keeps_up(False)

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()
        if self._receiver is not None:
            self._receiver.keeps_up(True)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._wake()
        if self._next is not None and not self._next.done():
            self._next.cancel()
        if self._receiver is not None:
            self._lose_receiver()
        elif self._task is not None:
            self._task.cancel()

    def _lose_receiver(self) -> None:
        """Nothing may be written behind the close frame, and what comes is for nobody."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.lost()

    def _wake(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # -- the outlet

    @property
    def straight(self) -> Callable[[bytes], None]:
        return self.transport.write

    def write(self, data: bytes) -> None:
        if not self._closing:
            self.transport.write(data)

    def waiting(self) -> int:
        return self.transport.get_write_buffer_size()

    async def drained(self) -> None:
        if self._paused and not self._closing:
            if self._writable is None:
                self._writable = asyncio.get_running_loop().create_future()
            await self._writable

    def ping(self) -> None:
        self.write(ping_frame(b""))

    def end(self, refusal: Refusal) -> None:
        self._end(refusal.kind.code, refusal.reason)

    def _end(self, code: int, reason: str) -> None:
        """The close frame, then time for the peer to take it and to answer, then the end."""
        if self._closing:
            return
        self._closing = True
        self._lose_receiver()
        self.transport.write(close_frame(code, reason))
        self._timer = asyncio.get_running_loop().call_later(CLOSE_WAIT, abort, self.transport)
