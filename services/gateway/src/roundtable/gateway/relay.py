"""Shell layer: the gateway's NATS: rooms' subscriptions, logs, commands, the other gateways. Knows no connections."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Protocol

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from roundtable.common import provision, subjects
from roundtable.common.command_client import CommandClient
from roundtable.common.cursor import epoch_of
from roundtable.common.eventlog import EventLog
from roundtable.common.eventlog_jetstream import JetStreamEventLog
from roundtable.common.schema.log import SERVICES, Service
from roundtable.common.schema.presence import CursorShown
from roundtable.common.telemetry import log

from .metrics import GatewayMetrics
from .outbox import Ephemera

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Ephemera).decode

PENDING_BYTES: Final = 64 << 20
_SERVICE_OF: Final[dict[str, Service]] = {service: service for service in SERVICES}


class Listener(Protocol):
    """A live room, as the relay sees it. Called in the order in which NATS delivers; must not wait."""

    @property
    def name(self) -> str: ...

    company: bool
    """Another gateway has the room live too."""
    asked: int
    """Times that one said so."""

    def stored(self, service: Service, seq: int, previous: int, payload: bytes) -> bool:
        """A stored message; `previous` is the sequence of the one before it in this room's log. True: it has been told."""
        ...

    def heard(self, ephemera: Ephemera) -> None: ...

    def known_cursors(self) -> tuple[CursorShown, ...]:
        """The latest cursors of this gateway's own people."""
        ...


class Relay:
    def __init__(self, client: Client, commands: CommandClient, metrics: GatewayMetrics) -> None:
        self.commands: Final = commands
        self.logs: Final[dict[Service, EventLog]] = {
            service: JetStreamEventLog(client, service) for service in SERVICES
        }
        self._client = client
        self._metrics = metrics
        self._epochs: tuple[str, ...] = ()
        self._outgoing: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(10_000)
        self._sending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._epochs = await provision.epochs(self._client)
        self._sending = asyncio.create_task(self._send(), name="relay")

    async def stop(self) -> None:
        if self._sending is not None:
            self._sending.cancel()

    @property
    def connected(self) -> bool:
        return self._client.is_connected

    def epoch(self, room: str) -> str:
        return epoch_of(self._epochs, room)

    async def renew_epochs(self) -> bool:
        """True when the logs are others than before. Raises `nats.errors.Error` when that cannot be known now."""
        epochs = await provision.epochs(self._client)
        changed, self._epochs = epochs != self._epochs, epochs
        return changed

    async def listen(self, room: Listener) -> list[Subscription]:
        """Subscribes to a room; when it returns, the server has it, so nothing stored from now on is missed."""

        async def on_stored(message: Msg) -> None:
            headers = message.headers or {}
            service = _SERVICE_OF.get(message.subject.split(".", 3)[2])
            sequence = headers.get("Nats-Sequence")
            if service is None or sequence is None:
                return
            previous = int(headers.get("Nats-Last-Sequence", 0))
            if room.stored(service, int(sequence), previous, message.data):
                self._metrics.stored_at(headers.get("Nats-Time-Stamp", ""))

        async def on_ephemera(message: Msg) -> None:
            if message.reply:
                room.company = True
                room.asked += 1
                self._put(message.reply, Ephemera(room.known_cursors()))
                return
            try:
                room.heard(_decode(message.data))
            except (msgspec.MsgspecError, ValueError) as error:
                log.warning("ephemera.unreadable", room=room.name, error=str(error))

        found = [
            await self._client.subscribe(
                subjects.out("*", room.name), cb=on_stored, pending_bytes_limit=PENDING_BYTES
            ),
            await self._client.subscribe(subjects.ephemeral(room.name), cb=on_ephemera),
        ]
        await self._client.flush(timeout=2)
        return found

    async def forget(self, subscriptions: list[Subscription]) -> None:
        for subscription in subscriptions:
            try:
                await subscription.unsubscribe()
            except nats.errors.Error as error:
                log.debug("unsubscribe.failed", error=repr(error))

    def tell(self, room: str, ephemera: Ephemera) -> None:
        """To the other gateways; lost when NATS is away, as it may be."""
        self._put(subjects.ephemeral(room), ephemera)

    async def ask_cursors(self, room: str, wait: float = 0.05) -> tuple[bool, list[CursorShown]]:
        """Whether other gateways have the room live, and what they know of cursors in it.

        Our connection to NATS does not hear itself, so where no other gateway listens the server says so at once.
        """
        inbox = self._client.new_inbox()
        found: list[CursorShown] = []
        alone = asyncio.Event()

        async def on_answer(message: Msg) -> None:
            if message.headers and message.headers.get("Status") == "503":
                alone.set()
            else:
                found.extend(_decode(message.data).cursors)

        subscription = await self._client.subscribe(inbox, cb=on_answer)
        await self._client.publish(subjects.ephemeral(room), b"", reply=inbox)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await alone.wait()
        await self.forget([subscription])
        return not alone.is_set(), found

    def _put(self, subject: str, ephemera: Ephemera) -> None:
        if self._client.is_connected and not self._outgoing.full():
            self._outgoing.put_nowait((subject, _encode(ephemera)))
        else:
            self._metrics.dropped.value += 1

    async def _send(self) -> None:
        while True:
            subject, payload = await self._outgoing.get()
            try:
                await self._client.publish(subject, payload)
            except (nats.errors.Error, OSError) as error:
                log.debug("ephemera.lost", error=repr(error))
