"""Shell layer: which replicas of a service live, and so which partitions are ours (ADR 0004). Only a hint for speed.

Every replica says "here I am" each 250 ms on core NATS; one not heard for a second is dead to the others. Two replicas may
think for a moment that they own the same partition, or none may: the log and the gateway's retries make that harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from . import sharding, subjects
from .schema.log import Service
from .telemetry import log

BEAT: Final = 0.25
DEAD_AFTER: Final = 1.0
_HELLO, _HERE, _BYE = b"?", b"+", b"-"


class Membership:
    def __init__(
        self, client: Client, service: Service, instance: str, changed: Callable[[frozenset[int]], None]
    ) -> None:
        self.replica: Final = f"{instance}.{secrets.token_hex(4)}"
        """Names this start of this instance."""
        self.owned: frozenset[int] = frozenset()
        self._client = client
        self._subject = subjects.replicas(service)
        self._changed = changed
        self._heard: dict[str, float] = {}
        self._beating: asyncio.Task[None] | None = None

    @property
    def replicas(self) -> int:
        return len(self._heard) + 1

    async def start(self) -> None:
        await self._client.subscribe(self._subject, cb=self._on_beat)
        await self._say(_HELLO)
        await asyncio.sleep(BEAT / 2)  # the others answer at once, so that we do not claim what is theirs
        self._beating = asyncio.create_task(self._beat(), name="membership")

    async def stop(self) -> None:
        """Gives everything up and tells the others."""
        if self._beating is not None:
            self._beating.cancel()
        self._own(frozenset())
        await self._say(_BYE)

    async def _beat(self) -> None:
        while True:
            now = time.monotonic()
            for name, heard in tuple(self._heard.items()):
                if now - heard > DEAD_AFTER:
                    log.warning("replica.dead", replica=name)
                    del self._heard[name]
            self._own(sharding.owned_by(self.replica, (*self._heard, self.replica)))
            await self._say(_HERE)
            await asyncio.sleep(BEAT)

    async def _on_beat(self, message: Msg) -> None:
        kind, name = message.data[:1], message.data[1:].decode(errors="replace")
        if name == self.replica:
            return
        if kind == _BYE:
            self._heard.pop(name, None)
            return
        self._heard[name] = time.monotonic()
        if kind == _HELLO:
            await self._say(_HERE)

    async def _say(self, kind: bytes) -> None:
        if self._client.is_connected:
            with contextlib.suppress(nats.errors.Error):
                await self._client.publish(self._subject, kind + self.replica.encode())

    def _own(self, partitions: frozenset[int]) -> None:
        if partitions != self.owned:
            self.owned = partitions
            self._changed(partitions)
