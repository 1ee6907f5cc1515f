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
from nats.aio.subscription import Subscription

from . import sharding, subjects, tasks
from .schema.log import Service
from .telemetry import log

BEAT: Final = 0.25
DEAD_AFTER: Final = 1.0
HELP_AFTER: Final = 0.4
"""Seconds of an owner's silence after which others answer what is asked of all."""
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
        self._listening: Subscription | None = None
        self._beating: asyncio.Task[None] | None = None

    @property
    def replicas(self) -> int:
        return len(self._heard) + 1

    def helps(self, partition: int) -> bool:
        """Whether we answer what is asked of all replicas: as the owner, or because the owner seems to be gone.

        Else everybody would do the work of an owner that is only slow, and make it slower by their conflicts.
        """
        owner = sharding.owner_of(partition, (*self._heard, self.replica))
        heard = self._heard.get(owner or "")
        return heard is None or time.monotonic() - heard > HELP_AFTER

    async def start(self) -> None:
        self._listening = await self._client.subscribe(self._subject, cb=self._on_beat)
        await self._say(_HELLO)
        await asyncio.sleep(BEAT / 2)  # the others answer at once, so that we do not claim what is theirs
        self._beating = asyncio.create_task(self._beat(), name="membership")

    async def stop(self) -> None:
        """Gives everything up and tells the others."""
        await tasks.end(self._beating)
        self._beating = None
        self._own(frozenset())
        await self._say(_BYE)
        if self._listening is not None:
            with contextlib.suppress(nats.errors.Error):
                await self._listening.unsubscribe()

    async def _beat(self) -> None:
        before = time.monotonic()
        while True:
            now = time.monotonic()
            if now - before > 2 * BEAT or not self._client.is_connected:
                # We stood still, or NATS was away: the others' silence means nothing.
                self._heard = dict.fromkeys(self._heard, now)
            before = now
            for name, heard in tuple(self._heard.items()):
                if now - heard > DEAD_AFTER:
                    log.warning("replica.dead", replica=name)
                    del self._heard[name]
            self._reckon()
            await self._say(_HERE)
            await asyncio.sleep(BEAT)

    async def _on_beat(self, message: Msg) -> None:
        kind, name = message.data[:1], message.data[1:].decode(errors="replace")
        if name == self.replica or kind not in (_HELLO, _HERE, _BYE):
            return
        known = self._heard.pop(name, None) is not None
        if kind != _BYE:
            self._heard[name] = time.monotonic()
        if known != (name in self._heard):
            self._reckon()
        if kind == _HELLO:
            await self._say(_HERE)

    def _reckon(self) -> None:
        if self._beating is not None:
            self._own(sharding.owned_by(self.replica, (*self._heard, self.replica)))

    async def _say(self, kind: bytes) -> None:
        if self._client.is_connected:
            with contextlib.suppress(nats.errors.Error):
                await self._client.publish(self._subject, kind + self.replica.encode())

    def _own(self, partitions: frozenset[int]) -> None:
        if partitions != self.owned:
            self.owned = partitions
            self._changed(partitions)
