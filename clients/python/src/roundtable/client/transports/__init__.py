"""The roads to a table: WebSocket, server-sent events, long poll. Each only connects, sends, and hands over what comes."""

from __future__ import annotations

from typing import Final

from roundtable.common.schema.session import Transport

from .pipe import Pipe
from .poll import PollPipe
from .sse import EventStreamPipe
from .websocket import WebSocketPipe

PIPES: Final[dict[Transport, type[Pipe]]] = {
    "websocket": WebSocketPipe,
    "sse": EventStreamPipe,
    "poll": PollPipe,
}
"""In the order in which they are tried."""
