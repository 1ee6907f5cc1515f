"""Transport layer: what we want of TCP itself, so that whoever does not read costs little. Knows no protocol above it.

By itself the kernel takes four megabytes for each connection before a write finds it full, more than we let wait for anybody
(RS8), and keeps them for minutes after the end if the peer is still there: some hundred silent readers would take all of the
memory that the machine has for TCP, NATS's connections included.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Final

UNSENT_AT_MOST: Final = 128 * 1024
"""Bytes that the kernel takes before the peer has room for them. What is on its way is not counted, so nobody gets slower."""
_UNSENT: Final[int | None] = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # not on every platform
_UNTAKEN: Final[int | None] = getattr(socket, "TCP_USER_TIMEOUT", None)
_NO_LINGER: Final = struct.pack("ii", 1, 0)


def keep_little(transport: asyncio.BaseTransport) -> None:
    """What a peer does not take waits with us, where it is counted."""
    _set(transport, _UNSENT, UNSENT_AT_MOST)


def give_up_after(transport: asyncio.BaseTransport, seconds: float) -> None:
    """The connection of a peer that has taken nothing for so long ends: one whose network has gone tells us nothing else.

    By itself the kernel tries again for a quarter of an hour.
    """
    _set(transport, _UNTAKEN, int(seconds * 1_000))


def _set(transport: asyncio.BaseTransport, option: int | None, value: int) -> None:
    connected = transport.get_extra_info("socket")
    if connected is not None and option is not None:
        with suppress(OSError):
            connected.setsockopt(socket.IPPROTO_TCP, option, value)


def abort(transport: asyncio.WriteTransport) -> None:
    """The end, and nothing remains of what was not taken."""
    connected = transport.get_extra_info("socket")
    if connected is not None:
        with suppress(OSError):
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
