"""Transport layer: server-sent events: the same joined writes as over WebSocket, as chunks of one endless response (EN6).

ASGI sends the headers; what follows is written to the asyncio transport by the hub, and ASGI again ends the response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from roundtable.common.schema.envelope import ServerEvent, to_json
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.session import HeartbeatAnswer
from roundtable.common.telemetry import CONTEXT

from ..codecs import SSE, SSE_PLAIN, Codec
from ..commands import error_message
from ..connection import SILENCE, Connection
from ..session import Session
from .entrance import enter
from .http_protocol import GatewayHttpProtocol, cycle_of, http_protocol_of
from .sockets import abort, give_up_after

if TYPE_CHECKING:
    from ..service import Gateway

HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
"""Proxies are asked neither to keep nor to hold back what comes."""
END_WAIT: Final = 5.0
"""Seconds that a peer has to take what is written before its end."""


def endpoint(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    async def sse(request: Request) -> Response:
        gateway.check_open()
        admitted = await enter(gateway, request)
        cursor = request.headers.get("last-event-id") or request.query_params.get("cursor", "")
        protocol = http_protocol_of(request.scope)
        codec = SSE if request.scope["http_version"] == "1.1" else SSE_PLAIN
        patience = SILENCE * gateway.settings.heartbeat_seconds
        stream = EventStream(protocol, cycle_of(request.scope), codec, gateway.now_ms, patience)
        session = Session(gateway.new_connection_id(), "", "sse", None, admitted.role, None)
        connection = gateway.connect(session, admitted.claims, admitted.room, stream, codec, admitted.address)
        return _Streaming(stream, connection, cursor)

    return sse


class _Streaming(Response):
    """The response: lives until either side ends it."""

    def __init__(self, stream: EventStream, connection: Connection, cursor: str) -> None:
        super().__init__(headers=HEADERS)
        self._stream = stream
        self._connection = connection
        self._cursor = cursor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream, connection = self._stream, self._connection
        CONTEXT.set({"connection": connection.session.id, "room": connection.session.room})
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        try:
            stream.announce()
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            stream.begin(connection)
            await connection.join(self._cursor)
            await stream.ended.wait()
        except Refusal as refusal:
            connection.end(refusal)
        finally:
            connection.lost()
            stream.release()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class EventStream:
    """The `Outlet` of a connection over SSE."""

    def __init__(
        self,
        protocol: GatewayHttpProtocol,
        cycle: RequestResponseCycle,
        codec: Codec,
        clock: Callable[[], int],
        patience: float,
    ) -> None:
        """`patience`: seconds after which a peer that takes nothing of what is written counts as gone (CO9)."""
        self.ended = asyncio.Event()
        self._protocol = protocol
        self._cycle = cycle
        self._codec = codec
        self._clock = clock
        self._patience = patience
        self._connection: Connection | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def announce(self) -> None:
        """Before the headers. uvicorn would announce chunks to HTTP/1.0 too, which has none."""
        if self._codec is SSE_PLAIN:
            self._cycle.chunked_encoding = False

    def begin(self, connection: Connection) -> None:
        """The headers are out: first bytes at once, so that proxies and clients know that it works."""
        self._connection = connection
        self._protocol.stream = self
        give_up_after(self._protocol.transport, self._patience)
        if self._protocol.transport.is_closing():
            self.lost()  # the peer went while we found out who it is: nobody will tell us again
        self.write(self._codec.comment)

    def release(self) -> None:
        self._protocol.stream = None
        if self.ended.is_set() and self._protocol.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(END_WAIT, self._give_up)

    def _give_up(self) -> None:
        if self._protocol.transport.get_write_buffer_size():
            abort(self._protocol.transport)

    # -- from the protocol

    def keeps_up(self, ready: bool) -> None:
        if ready:
            self._writable.set()
        else:
            self._writable.clear()
        if self._connection is not None:
            self._connection.keeps_up(ready)

    def lost(self) -> None:
        self._cycle.disconnected = True  # uvicorn tells it only to the latest of pipelined requests
        self.ended.set()
        self._writable.set()

    # -- the outlet

    @property
    def straight(self) -> Callable[[bytes], None]:
        return self.write

    def write(self, data: bytes) -> None:
        if not self.ended.is_set():
            self._protocol.transport.write(data)

    def waiting(self) -> int:
        return self._protocol.transport.get_write_buffer_size()

    async def drained(self) -> None:
        await self._writable.wait()

    def ping(self) -> None:
        heartbeat = ServerEvent("heartbeat", to_json(HeartbeatAnswer(self._clock())), self._clock())
        self.write(self._codec.frame(heartbeat))

    def end(self, refusal: Refusal) -> None:
        self.write(self._codec.frame(error_message(refusal)))
        self.ended.set()
