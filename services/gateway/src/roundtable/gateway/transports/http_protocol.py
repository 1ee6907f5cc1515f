"""Transport layer: uvicorn's HTTP protocol with a time limit for headers, and a door to our own WebSocket protocol."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import MutableMapping
from typing import Any, ClassVar, Final, Protocol

from httptools import HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .sockets import keep_little
from .websocket_protocol import WebSocketProtocol

_KEY: Final = "roundtable.http"
_CYCLE: Final = "roundtable.cycle"
HEAD_AT_MOST: Final = 65_536
"""Bytes of one request before its body; uvicorn takes any number."""


class Stream(Protocol):
    def keeps_up(self, ready: bool) -> None: ...

    def lost(self) -> None: ...


def http_protocol_of(scope: MutableMapping[str, Any]) -> GatewayHttpProtocol:
    protocol: GatewayHttpProtocol = scope[_KEY]
    return protocol


def cycle_of(scope: MutableMapping[str, Any]) -> RequestResponseCycle:
    """uvicorn's state of this very request: its protocol may have read the next one already."""
    cycle: RequestResponseCycle = scope[_CYCLE]
    return cycle


class GatewayHttpProtocol(HttpToolsProtocol):
    """uvicorn waits for ever for the rest of a request's headers, and for a request that never comes; we do not."""

    header_timeout: ClassVar[float] = 10.0
    message_bytes: ClassVar[int] = 65_536

    stream: Stream | None = None
    """What writes to the transport while a response never ends."""
    _impatience: asyncio.TimerHandle | None = None
    _head = 0
    _latest = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        keep_little(transport)
        self._wait_for_headers()

    def _wait_for_headers(self) -> None:
        self._patient()
        self._impatience = self.loop.call_later(self.header_timeout, self.transport.close)

    def _patient(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def data_received(self, data: bytes) -> None:
        self._latest = data
        super().data_received(data)
        self._latest = b""
        if self._impatience is None:
            return
        self._head += len(data)  # headers that have not ended yet
        if self._head > HEAD_AT_MOST and not self.transport.is_closing():
            self.send_400_response("The headers are too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        self.scope[_KEY] = self  # type: ignore[typeddict-unknown-key]
        self._wait_for_headers()

    def on_headers_complete(self) -> None:
        self._patient()
        super().on_headers_complete()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.scope is self.scope:  # it is not where the request is an upgrade
            self.scope[_CYCLE] = cycle  # type: ignore[typeddict-unknown-key]

    def connection_lost(self, exc: Exception | None) -> None:
        self._patient()
        super().connection_lost(exc)
        if self.stream is not None:
            self.stream.lost()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.stream is not None:
            self.stream.keeps_up(False)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.stream is not None:
            self.stream.keeps_up(True)

    def handle_websocket_upgrade(self) -> None:
        self._patient()
        told = sys.exc_info()[
            1
        ]  # uvicorn calls this where the parser has said at which byte the request ends
        rest = self._latest[told.args[0] :] if isinstance(told, HttpParserUpgrade) else b""
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        scope: dict[str, Any] = dict(self.scope)
        protocol = WebSocketProtocol(self.transport, self.message_bytes)
        self.transport.set_protocol(protocol)
        protocol.open(self.app, scope, self.url)
        if rest:
            protocol.data_received(rest)
        self.scope = self.cycle = self.parser = None  # type: ignore[assignment]


def protocol_class(header_timeout: float, message_bytes: int) -> type[GatewayHttpProtocol]:
    """The class with this gateway's limits, as uvicorn makes the instances itself."""
    limits = {"header_timeout": header_timeout, "message_bytes": message_bytes}
    return type("ConfiguredHttpProtocol", (GatewayHttpProtocol,), limits)
