"""Transport layer: what every road is to the client. Knows no retries and no state: `core` decides."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx

from roundtable.common.schema.envelope import Format

from ..address import Address
from ..messages import Message


@dataclass
class Way:
    """What it takes to connect."""

    address: Address
    token: str
    cursor: str
    fmt: Format
    proxy: bool
    ssl: ssl.SSLContext | None
    """None: the usual one, where the address wants TLS."""
    http: Callable[[], httpx.AsyncClient]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


class Outgoing(NamedTuple):
    payload: bytes
    """One message, encoded."""
    id: str = ""
    """Of a request."""
    method: str = ""


class Pipe:
    """One connection. `hear` is told each message, in order."""

    def __init__(self, way: Way, hear: Callable[[Message], None]) -> None:
        self.way = way
        self.hear = hear

    async def run(self) -> None:
        """Connects, and goes on until the connection ends: raises `RoundtableError` with why, or what its library raises."""
        raise NotImplementedError

    def send(self, outgoing: Outgoing) -> None:
        """In order; what cannot be sent any more is lost, as its connection is."""
        raise NotImplementedError


async def first_end(*works: Coroutine[Any, Any, None]) -> None:
    """Runs them together until one ends, which it does by an exception: that is raised, and the others are cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
