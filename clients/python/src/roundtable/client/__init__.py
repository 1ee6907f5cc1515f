"""Sit down at a Roundtable from Python: `async with RealtimeClient(url, room=…) as client`. See docs/clients/python.md."""

from .client import PollingClient, RealtimeClient, SSEClient, WebSocketClient
from .errors import RequestTimeout, RoundtableError, Unreachable
from .handlers import Events, Overflow
from .messages import Event

__all__ = [
    "RealtimeClient",
    "WebSocketClient",
    "SSEClient",
    "PollingClient",
    "Event",
    "Events",
    "RoundtableError",
    "RequestTimeout",
    "Unreachable",
    "Overflow",
]
