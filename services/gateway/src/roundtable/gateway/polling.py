"""Shell layer: connections that poll: what they share between polls, and their end ten seconds after the last one (PR1).

Knows no HTTP. A poller keeps no events: those are read from the room at the request's cursor; only cursors and previews, which
are nowhere else, wait here, bounded and merged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from msgspec import Raw

from roundtable.common.cursor import Vector
from roundtable.common.schema.basics import Role
from roundtable.common.schema.envelope import ServerEvent, to_json
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.presence import ConnectionOpened
from roundtable.common.schema.session import Claims, HeartbeatAnswer
from roundtable.common.telemetry import log

from . import snapshots
from .batch import Batch
from .room import Room
from .welcome import notice_ms, token_expiring, welcome

if TYPE_CHECKING:
    from .service import Gateway
    from .transports.entrance import Admitted

LIVES_ON: Final = 10.0
"""Seconds after the end of a poll."""
PREVIEWS_AT_MOST: Final = 200


class Poller:
    """One polling connection at this gateway. Several of its polls may wait at once; the client's mistake, but harmless."""

    def __init__(
        self, gateway: Gateway, connection: str, room: Room, claims: Claims, role: Role, address: str
    ) -> None:
        self.id: Final = connection
        self.room: Final = room
        self.user: Final = claims.user_id
        self.claims = claims
        self.role: Role = role
        self.address: Final = address
        self.polls = 0
        self.expires = float("inf")
        self.ended = False
        self.refusal: Refusal | None = None
        self._gateway = gateway
        self._warned = 0
        self._beat = time.monotonic()
        self._cursors: dict[str, bytes] = {}
        self._previews: list[bytes] = []
        self._woken = asyncio.Event()

    # -- cursors and previews

    def hear(self, batch: Batch) -> None:
        """From the room at each telling."""
        cursors, previews = batch.ephemera_for(self.user)
        if cursors or previews:
            self._cursors |= cursors
            self._previews = [*self._previews, *previews][-PREVIEWS_AT_MOST:]
            self._woken.set()

    @property
    def has_ephemera(self) -> bool:
        return bool(self._cursors or self._previews)

    def take_ephemera(self, at: int) -> list[ServerEvent]:
        events = []
        if self._previews:
            events.append(
                ServerEvent("canvas.preview", Raw(b'{"previews":[%b]}' % b",".join(self._previews)), at)
            )
        if self._cursors:
            events.append(
                ServerEvent(
                    "presence.cursor", Raw(b'{"cursors":[%b]}' % b",".join(self._cursors.values())), at
                )
            )
        self._cursors, self._previews = {}, []
        return events

    # -- what a poll needs

    def welcome(self, room: Room, place: Vector, *, recovered: bool) -> ServerEvent:
        settings = self._gateway.settings
        return welcome(settings, room, place, self.id, "poll", self.claims, self.role, recovered=recovered)

    async def open_fresh(self, room: Room) -> tuple[list[ServerEvent], Vector]:
        """Welcome and snapshots, and the place at which they are true."""
        snapshot = await snapshots.take(
            room, self._gateway.commands, snapshots.Viewer(self.user, self.role, self.id)
        )
        return [self.welcome(room, snapshot.vector, recovered=False), *snapshot.events], snapshot.vector

    def heartbeat_s(self, now: float) -> float:
        """Seconds until a heartbeat is due."""
        return max(0.0, self._beat + self._gateway.settings.heartbeat_seconds - now)

    def heartbeat(self, now: float, at: int) -> list[ServerEvent]:
        """One if it is due: an interval after the last, in whatever poll that falls (CO9)."""
        if self.heartbeat_s(now):
            return []
        self._beat = now
        return [ServerEvent("heartbeat", to_json(HeartbeatAnswer(at)), at)]

    def expiring(self, at: int) -> list[ServerEvent]:
        """The notice that the token ends soon, once for each token."""
        expires = self.claims.expires_at
        if expires is None or expires - at > notice_ms(self.claims) or self._warned == expires:
            return []
        self._warned = expires
        return [token_expiring(expires)]

    def token_s(self, at: int) -> float:
        """Seconds until the token's end is to be told, or is there."""
        expires = self.claims.expires_at
        if expires is None:
            return float("inf")
        return max(0.0, expires - (0 if self._warned == expires else notice_ms(self.claims)) - at) / 1000

    async def wait(self, room: Room, gone: asyncio.Task[None], timeout: float) -> None:
        """Until something is stored in the room, is shown in it, whoever polls has gone, or the time is over."""
        self._woken.clear()
        woken = asyncio.ensure_future(self._woken.wait())
        with room.change() as changed:
            try:
                await asyncio.wait(
                    (changed, woken, gone), timeout=max(0.0, timeout), return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                woken.cancel()

    def opened_at(self, opened: ConnectionOpened) -> None:
        """It may be another gateway that serves the connection's polls now (CO4): then ours is over.

        If the client comes back here, it is opened anew: else the other one, ten seconds later, would end it for all.
        """
        ours = self._gateway.lease.id
        if (opened.connection_id, opened.user_id) == (self.id, self.user) and opened.gateway != ours:
            self.end()

    def end(self, refusal: Refusal | None = None) -> None:
        """Its polls answer at once, with the refusal or what there is; the client comes back, here or elsewhere."""
        self.refusal = self.refusal or refusal
        self.ended = True
        self._woken.set()


class Polling:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._pollers: dict[str, Poller] = {}
        self._waiting = 0
        self._draining = False

    async def begin(self, room: Room, named: str, admitted: Admitted) -> Poller:
        """The connection of a poll, for as long as the poll lasts; `end` must follow. Raises `Refusal`."""
        gateway, claims = self._gateway, admitted.claims
        if self._waiting >= gateway.settings.max_polls:
            raise Refusal("overloaded", "Too many polls wait at this gateway", retry_after=1)
        poller = self._pollers.get(named)
        if poller is not None:
            _check_owner(poller, room, claims)
        self._waiting += 1
        try:
            if poller is not None and poller.ended:
                self._close(poller)
                if poller.refusal is not None:
                    raise poller.refusal
                poller = None
            if poller is None:
                poller = await self._open(room, named or gateway.new_connection_id(), admitted)
        except BaseException:
            self._waiting -= 1
            raise
        poller.claims, poller.role = claims, admitted.role
        poller.polls += 1
        poller.expires = float("inf")
        return poller

    async def _open(self, room: Room, connection: str, admitted: Admitted) -> Poller:
        gateway, claims = self._gateway, admitted.claims
        gateway.hub.admit(claims.user_id, admitted.address)
        try:
            position = await gateway.presence.open(
                room.name, claims.user_id, claims.username, connection, "poll"
            )
            await room.reach("presence", position)
            gateway.identity.sessions.check(claims)  # it may have been revoked meanwhile
            there = self._pollers.get(connection)
            if there is not None:
                _check_owner(there, room, claims)
        except BaseException:
            gateway.hub.dismiss(claims.user_id, admitted.address)
            there = self._pollers.get(connection)
            if there is None or there.user != claims.user_id:
                gateway.presence.close(room.name, claims.user_id, claims.username, connection)
            raise
        if there is not None:  # two first polls at once
            gateway.hub.dismiss(claims.user_id, admitted.address)
            return there
        poller = Poller(gateway, connection, room, claims, admitted.role, admitted.address)
        self._pollers[connection] = poller
        room.pollers[poller] = None
        gateway.metrics.opened.labels("poll").inc()
        if self._draining:
            poller.end()
        return poller

    def end(self, poller: Poller) -> None:
        """A poll is over."""
        self._waiting -= 1
        poller.polls -= 1
        poller.room.seen[poller.user] = time.monotonic()
        if not poller.polls:
            poller.expires = time.monotonic() + LIVES_ON
            if poller.refusal is not None:  # it has just been told
                self._close(poller)

    def of(self, connection: str) -> Poller | None:
        return self._pollers.get(connection)

    def all(self) -> Iterable[Poller]:
        return self._pollers.values()

    def check(self, now: float) -> None:
        """Called by the hub: ends those that have not come back."""
        for poller in tuple(self._pollers.values()):
            if now >= poller.expires:
                self._close(poller)

    def end_session(self, session: str) -> None:
        for poller in self._pollers.values():
            if poller.claims.session == session:
                poller.end(Refusal("revoked", "This session was ended"))

    def drain(self) -> None:
        self._draining = True
        for poller in self._pollers.values():
            poller.end()

    def close_all(self) -> None:
        for poller in tuple(self._pollers.values()):
            self._close(poller)

    async def reopen_presence(self) -> None:
        for poller in tuple(self._pollers.values()):
            claims = poller.claims
            try:
                await self._gateway.presence.open(
                    poller.room.name, poller.user, claims.username, poller.id, "poll"
                )
            except Refusal as refusal:
                log.warning("presence.reopen", reason=refusal.reason)

    def _close(self, poller: Poller) -> None:
        gateway = self._gateway
        if self._pollers.get(poller.id) is not poller:
            return
        del self._pollers[poller.id]
        poller.room.pollers.pop(poller, None)
        gateway.hub.dismiss(poller.user, poller.address)
        gateway.metrics.closed.labels("peer").inc()
        gateway.presence.close(poller.room.name, poller.user, poller.claims.username, poller.id)


def _check_owner(poller: Poller, room: Room, claims: Claims) -> None:
    if poller.user != claims.user_id or poller.room.name != room.name:
        raise Refusal("forbidden", "That connection is somebody else's, or in another room")
