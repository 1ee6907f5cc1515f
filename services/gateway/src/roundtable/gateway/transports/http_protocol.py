"""Transport layer: uvicorn's HTTP protocol with a time limit for headers, and a door to our own WebSocket protocol."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .websocket_protocol import WebSocketProtocol


class GatewayHttpProtocol(HttpToolsProtocol):
    """uvicorn waits for ever for the rest of a request's headers, and for a request that never comes; we do not."""

    header_timeout: ClassVar[float] = 10.0
    message_bytes: ClassVar[int] = 65_536

    _impatience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_headers()

    def _wait_for_headers(self) -> None:
        self._patient()
        self._impatience = self.loop.call_later(self.header_timeout, self.transport.close)

    def _patient(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait_for_headers()

    def on_headers_complete(self) -> None:
        self._patient()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._patient()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._patient()
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        scope: dict[str, Any] = dict(self.scope)
        protocol = WebSocketProtocol(self.transport, self.message_bytes)
        self.transport.set_protocol(protocol)
        protocol.open(self.app, scope, self.url)
        self.scope = self.cycle = self.parser = None  # type: ignore[assignment]


def protocol_class(header_timeout: float, message_bytes: int) -> type[GatewayHttpProtocol]:
    """The class with this gateway's limits, as uvicorn makes the instances itself."""
    limits = {"header_timeout": header_timeout, "message_bytes": message_bytes}
    return type("ConfiguredHttpProtocol", (GatewayHttpProtocol,), limits)
