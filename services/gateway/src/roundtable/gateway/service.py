"""Shell layer: the gateway put together: who may come in, the parts that serve them, and how it ends."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Sequence
from typing import ClassVar, Final
from urllib.parse import urlsplit

from roundtable.common.command_client import CommandClient
from roundtable.common.command_handler import now_ms
from roundtable.common.leases import GatewayLease
from roundtable.common.runtime import Check, Process
from roundtable.common.schema.basics import is_room
from roundtable.common.schema.envelope import ErrorMessage, Format, Response, decode_client
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import SERVICES, Service
from roundtable.common.schema.session import Claims
from roundtable.common.telemetry import log

from .codecs import Codec
from .commands import Commands, error_message
from .config import GatewaySettings
from .connection import Connection, Outlet
from .hub import Hub
from .identity import Identity
from .measures import measure
from .metrics import GatewayMetrics
from .polling import Polling
from .presence_link import PresenceLink
from .relay import Relay
from .renewal import Renewal
from .session import Effect, Refuse, Reply, Session


class Gateway:
    GUEST_WAIT: ClassVar[float] = 0.25
    """Seconds that a development guest's connection waits for a first message, which may be a login."""

    def __init__(self, process: Process[GatewaySettings], identity: Identity) -> None:
        self.settings: Final = process.settings
        self.metrics: Final = GatewayMetrics(process.registry)
        self.relay: Final = Relay(process.client, CommandClient(process.client), self.metrics)
        self.hub: Final = Hub(self.relay, self.settings, self.metrics)
        self.commands: Final = Commands(self.relay, self.hub, self.metrics)
        self.lease: Final = GatewayLease(process.client, self.settings.instance, self._lease_lost)
        self.presence: Final = PresenceLink(self.commands, self.hub, self.lease)
        self.polling: Final = Polling(self)
        self.renewal: Final = Renewal(process.client, self._renew_here)
        self.identity: Final = identity
        self._process = process
        self._draining = False
        self._drained = False
        self._background: set[asyncio.Task[None]] = set()

    # -- beginning and end

    async def start(self) -> None:
        await self.relay.commands.start()
        await self.relay.start()
        await self.identity.sessions.start()
        await self.renewal.start()
        await self.lease.acquire(self.settings.start_timeout)
        self.hub.start(self.polling.check)
        self.presence.start()
        self._process.reconnected.append(self._nats_back)
        self._process.measures.append(lambda: measure(self))
        for service in SERVICES:
            self._process.checks[service] = self._service_check(service)

    async def drain(self) -> None:
        """No new connections; the others are sent away one by one over the drain time (CO10). Then all is said and done."""
        self._draining = True
        leaving = list(self.hub.connections.values())
        random.shuffle(leaving)
        log.info("draining", connections=len(leaving))
        self.polling.drain()
        began, spread = self.now(), self.settings.drain_seconds * 0.8
        for number, connection in enumerate(leaving):
            await asyncio.sleep(max(0.0, began + spread * number / len(leaving) - self.now()))
            connection.end(Refusal("draining"))
        while self.hub.connections and self.now() - began < self.settings.drain_seconds:
            for connection in tuple(self.hub.connections.values()):  # those that were just coming in
                connection.end(Refusal("draining"))
            await asyncio.sleep(0.05)
        self._drained = True
        self.polling.close_all()
        await self.presence.stop()
        await self.lease.release()
        await self.identity.sessions.stop()
        await self.hub.stop()
        await self.relay.stop()

    def _nats_back(self) -> None:
        self.identity.sessions.resync()
        self._spawn(self.hub.reconnected())

    async def _lease_lost(self, _: str) -> None:
        self.metrics.leases_lost.inc()
        await self.presence.reopen()
        await self.polling.reopen_presence()

    def _spawn(self, work: asyncio._CoroutineLike[None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _service_check(self, service: Service) -> Check:
        async def check() -> str:
            if not self.relay.connected:
                return "not known without NATS"
            return "" if await self.relay.commands.alive(service) else "no replica answers"

        return check

    # -- clocks and names

    @staticmethod
    def now() -> float:
        """Monotonic seconds."""
        return time.monotonic()

    @staticmethod
    def now_ms() -> int:
        return now_ms()

    @staticmethod
    def new_connection_id() -> str:
        return secrets.token_urlsafe(12)

    # -- who may come in

    @property
    def draining(self) -> bool:
        return self._draining

    def check_open(self) -> None:
        """For a new connection."""
        if self._draining:
            raise Refusal("draining")

    def check_serving(self) -> None:
        """For a request of somebody who may still have a connection here: until the last of those has gone."""
        if self._drained:
            raise Refusal("draining")

    def check_origin(self, origin: str | None, host: str | None) -> None:
        """A browser says which page connects; only pages of our own host or on the list may (AU6)."""
        if origin is None:
            return
        allowed = self.settings.allowed_origins
        if "*" in allowed or origin.lower().rstrip("/") in (each.lower().rstrip("/") for each in allowed):
            return
        if not allowed and host and urlsplit(origin).netloc.lower() == host.lower():
            return
        raise Refusal(
            "origin_refused", f"Pages of {origin[:200]} may not connect here (ROUNDTABLE_ALLOWED_ORIGINS)"
        )

    @staticmethod
    def check_room(asked: str | None) -> None:
        """What can be no room's name is refused whoever asks (CO1). Raises `Refusal("invalid_room")`."""
        if asked is not None and not is_room(asked):
            raise Refusal("invalid_room", "A room's name is 1 to 64 letters, digits, `_` and `-`")

    def room_for(self, asked: str | None, claims: Claims) -> str:
        """The room of a connection (CO1, CO2). Raises `Refusal`: `invalid_room`, or `forbidden` without a role there."""
        self.check_room(asked)
        room = asked if asked is not None else claims.default_room or "lobby"
        if claims.role_in(room) is None:
            raise Refusal("forbidden", f"The token is not good for the room {room}")
        return room

    def connect(
        self, session: Session, claims: Claims, room: str, outlet: Outlet, codec: Codec, address: str
    ) -> Connection:
        """A connection for who was let in; it must be joined, and told when it is lost. Raises `Refusal` (LI3)."""
        role = claims.role_in(room)
        assert role is not None
        self.check_open()
        self.hub.admit(claims.user_id, address)
        session.room, session.claims, session.role = room, claims, role
        session.bucket = self.hub.bucket(claims.user_id)
        connection = Connection(self, session, outlet, codec, address)
        self.hub.connections[session.id] = connection
        self.metrics.opened.labels(session.transport).inc()
        return connection

    def forget(self, connection: Connection) -> None:
        """From the connection, when it has ended."""
        if self.hub.connections.pop(connection.session.id, None) is not None:
            self.hub.dismiss(connection.user, connection.address)

    def guest_of(self, connection: str) -> Claims | None:
        """In development a guest has no token, so the connection's id says who asks."""
        found = self.hub.connections.get(connection)
        claims = found.session.claims if found is not None else None
        if claims is None and (poller := self.polling.of(connection)) is not None:
            claims = poller.claims
        return claims if claims is not None and claims.expires_at is None and self.settings.dev_auth else None

    async def renew_anywhere(self, connection: str, claims: Claims) -> None:
        """Gives a connection, at whichever gateway, a new token (AU3). Raises `Refusal`."""
        await self.renewal.renew(connection, claims)

    def _renew_here(self, connection: str, claims: Claims) -> bool:
        found = self.hub.connections.get(connection)
        if found is not None:
            found.renew(claims)
        return found is not None or self.polling.of(connection) is not None

    def end_session(self, session: str) -> None:
        """It was logged out or revoked somewhere (AU4)."""
        self.polling.end_session(session)
        for connection in tuple(self.hub.connections.values()):
            claims = connection.session.claims
            if claims is not None and claims.session == session:
                connection.end(Refusal("revoked"))

    def end_connection(self, connection: str, user: str, refusal: Refusal) -> None:
        """Whoever reads by SSE or polls is sent away for what they did by /rpc (LI2), if they read here."""
        found = self.hub.connections.get(connection) or self.polling.of(connection)
        if found is not None and found.user == user:
            found.end(refusal)

    # -- before a login

    def is_login(self, data: bytes, fmt: Format) -> bool:
        try:
            return any(getattr(message, "method", "") == "auth.login" for message in decode_client(data, fmt))
        except Refusal:
            return False

    def plain_answers(self, effects: Sequence[Effect]) -> list[Response | ErrorMessage]:
        """The answers that need no room."""
        answers: list[Response | ErrorMessage] = []
        for effect in effects:
            match effect:
                case Reply(ident, method, data) if ident:
                    answers.append(Response(ident, method, data, now_ms()))
                case Refuse(refusal, ident, method):
                    answers.append(error_message(refusal, ident, method))
                case _:
                    pass
        return answers
