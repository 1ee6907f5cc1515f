"""Shell layer: one participant at one table, whatever the transport: joins the room, asks, is told, leaves.

Knows no frames and no HTTP: a transport gives it an `Outlet` to write to, and calls `receive` and `lost`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from roundtable.common.command_handler import now_ms
from roundtable.common.cursor import Vector
from roundtable.common.schema.canvas import Preview
from roundtable.common.schema.envelope import Response, ServerEvent, ServerMessage, to_json
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import SERVICES
from roundtable.common.schema.presence import MoveCursor
from roundtable.common.schema.session import Claims, LoggedIn
from roundtable.common.telemetry import CONTEXT, log

from . import snapshots
from .auth import LEEWAY_S
from .codecs import Codec
from .commands import error_message
from .room import Room
from .session import Ask, Authenticate, Effect, End, Refuse, Reply, Session
from .welcome import notice_ms, token_expiring, welcome

if TYPE_CHECKING:
    from .service import Gateway

SILENCE: Final = 2.5
"""Heartbeat intervals without a sign of life after which a peer counts as gone (CO9)."""
QUEUE: Final = 2_048
QUEUE_BYTES: Final = 4 << 20
"""Requests of one connection that may wait for their services; what is more is refused."""


class Outlet(Protocol):
    """What a transport offers for writing. `write` never waits; `waiting` says how many bytes have not left yet."""

    @property
    def straight(self) -> Callable[[bytes], None]:
        """`write` without a look at whether all is over: for the room, which its connection leaves before that."""
        ...

    def write(self, data: bytes) -> None: ...

    def waiting(self) -> int: ...

    async def drained(self) -> None:
        """Returns when the transport takes more; at once after it has ended."""
        ...

    def ping(self) -> None:
        """Makes the peer give a sign of life, or gives one."""
        ...

    def end(self, refusal: Refusal) -> None:
        """Tells the reason and closes. Nothing is written after it."""
        ...


class Connection:
    """A `Member` of its room once it is level with it."""

    __slots__ = (
        "session", "codec", "user", "role", "paused", "write", "room", "address", "ended", "next_check",
        "_gateway", "_outlet", "_received", "_queues", "_queued", "_workers", "_missed", "_heard", "_pinged", "_valid_until",
        "_old_at", "_warned", "_joined", "__weakref__",
    )  # fmt: skip

    def __init__(
        self, gateway: Gateway, session: Session, outlet: Outlet, codec: Codec, address: str
    ) -> None:
        claims = session.claims
        assert claims is not None
        self.session = session
        self.codec = codec
        self.user = claims.user_id
        self.role = session.role
        self.paused = False
        self.write = outlet.straight
        self.room: Room | None = None
        self.address = address
        self.ended = False
        self.next_check = float("inf")
        self._gateway = gateway
        self._outlet = outlet
        self._received = gateway.metrics.received_by(session.transport)
        self._queues: dict[str, deque[Ask]] | None = None
        self._queued = 0
        self._valid_until = _valid_until(claims)
        self._old_at = time.monotonic() + _life(gateway.settings.max_connection_seconds)
        self._workers: set[asyncio.Task[None]] | None = None
        self._missed = False
        self._heard = self._pinged = time.monotonic()
        self._warned = False
        self._joined = False

    # -- coming

    async def join(self, cursor: str) -> None:
        """Welcome, then what was missed or the snapshots, then live (CO7, CO8, RS2, RS3). Raises `Refusal`."""
        gateway, session = self._gateway, self.session
        async with gateway.hub.live(session.room) as room:
            self.room = room
            self._joined = True
            position = await gateway.presence.open(
                room.name, self.user, self._claims.username, session.id, session.transport
            )
            await room.reach("presence", position)
            place = await room.recover(cursor)
            if place is None:
                viewer = snapshots.Viewer(self.user, self.role, session.id)
                snapshot = await snapshots.take(room, gateway.commands, viewer)
                place = snapshot.vector
                self.send(self._welcome(room, place, recovered=False))
                self._schedule_check()
                for event in snapshot.events:
                    self.send(event)
                    await self._drained()
            else:
                self.send(self._welcome(room, place, recovered=True))
                self._schedule_check()
            await self._follow(room, place)

    async def _follow(self, room: Room, place: Vector) -> None:
        """Tells what came after that place until it is level with the room, and then becomes a member in the same step."""
        for service in SERVICES:
            await room.reach(service, place.at(service))
        while not self.ended:
            end = room.vector
            entries = await room.after(place)
            for entry in entries:
                place = place.moved(entry.service, entry.position)
                self.send(entry.seen_by(self.user, self.role))
                await self._drained()  # there may be megabytes of them
            if place.covers(room.vector):
                room.flush()  # what waits in the outbox is part of what we have just been told
                room.fanout.join(self)
                return
            if not entries:
                place = room.level(place, end)
                await self._drained()

    async def _drained(self) -> None:
        """Who takes what is written lives, though its pongs are not heard before it is level."""
        await self._outlet.drained()
        self._heard = time.monotonic()

    def _welcome(self, room: Room, place: Vector, recovered: bool) -> ServerEvent:
        session = self.session
        return welcome(
            self._gateway.settings,
            room,
            place,
            session.id,
            session.transport,
            self._claims,
            self.role,
            recovered=recovered,
        )

    @property
    def waiting(self) -> int:
        """Bytes that have not left yet."""
        return self._outlet.waiting()

    @property
    def _claims(self) -> Claims:
        assert self.session.claims is not None
        return self.session.claims

    async def reopen_presence(self) -> None:
        if self.room is not None and not self.ended:
            session = self.session
            await self._gateway.presence.open(
                self.room.name, self.user, self._claims.username, session.id, session.transport
            )

    # -- what the client says

    def receive(self, data: bytes) -> None:
        """One frame's payload or one request's body."""
        now = self._heard = time.monotonic()
        fleeting = self.session.fleeting(data, self.codec.format)
        room = self.room
        if fleeting is not None and room is not None:
            messages, size = self._received
            messages.value += 1
            size.value += len(data)
            room.seen[self.user] = now
            room.show(self.user, fleeting)
            return
        effects = self.session.receive(data, self.codec.format, now, now_ms())
        self._gateway.metrics.received(self.session.transport, len(effects), len(data))
        for effect in effects:
            if self.ended:
                return
            self._do(effect)
        if room is not None:
            room.seen[self.user] = now

    def alive(self) -> None:
        """The peer gave a sign of life that is no message."""
        self._heard = time.monotonic()

    def _do(self, effect: Effect) -> None:
        room = self.room
        match effect:
            case Ask():
                self._enqueue(effect)
            case MoveCursor() | Preview() if room is not None:
                room.show(self.user, effect)
            case Reply(ident, method, data):
                self._gateway.metrics.replied(method)
                if ident:
                    self.send(Response(ident, method, data, now_ms()))
            case Refuse(refusal, ident, method):
                self._gateway.metrics.refused(method, refusal)
                self.send(error_message(refusal, ident, method))
            case Authenticate(ident, method, token):
                self._spawn(self._authenticate(ident, method, token))
            case End(refusal):
                self.end(refusal)
            case _:
                pass

    def _enqueue(self, ask: Ask) -> None:
        """Requests of one connection to one service go one after another, so that no retry changes their order."""
        if self._queues is None:
            self._queues = {}
        size = len(bytes(ask.command.params))
        service = ask.method.service
        queue = self._queues.get(service)
        if (queue is not None and len(queue) >= QUEUE) or self._queued + size > QUEUE_BYTES:
            refusal = Refusal("overloaded", "Too many requests of this connection are waiting already")
            self.send(error_message(refusal, ask.command.id, ask.method.name))
            return
        self._queued += size
        if queue is None:
            queue = self._queues[service] = deque((ask,))
            self._spawn(self._work(service, queue))
        else:
            queue.append(ask)

    async def _work(self, service: str, queue: deque[Ask]) -> None:
        assert self.room is not None
        assert self._queues is not None
        CONTEXT.set({"connection": self.session.id, "room": self.room.name})
        while queue:
            ask = queue.popleft()
            message = await self._gateway.commands.ask(self.room, ask)
            self._queued -= len(bytes(ask.command.params))
            if ask.answered or not isinstance(message, Response):
                self.send(message)
        del self._queues[service]

    async def _authenticate(self, ident: str, method: str, token: str) -> None:
        """A new token in a living connection (AU3)."""
        try:
            claims = await self._gateway.identity.of_token(token)
            self.renew(claims)
        except Refusal as refusal:
            self.send(error_message(refusal, ident, method))
            return
        answer = LoggedIn(claims.user_id, claims.username, self.role, claims.expires_at)
        self.send(Response(ident, method, to_json(answer), now_ms()))

    def renew(self, claims: Claims) -> None:
        """Raises `Refusal("forbidden")` for somebody else's token, or one that is not good for this room."""
        role = claims.role_in(self.session.room)
        if claims.user_id != self.user:
            raise Refusal("forbidden", "The token is another user's")
        if role is None:
            raise Refusal("forbidden", "The token is not good for this room")
        self.session.claims, self.session.role, self.role = claims, role, role
        self._valid_until = _valid_until(claims)
        self._warned = False
        self._schedule_check()

    # -- what it is told

    def send(self, message: ServerMessage) -> None:
        """To this connection alone."""
        if self.ended:
            return
        try:
            data = self.codec.frame(message)
        except (OverflowError, RecursionError, msgspec.MsgspecError) as error:
            log.error("frame.impossible", codec=self.codec.name, error=repr(error))
            ident = message.id if isinstance(message.id, str) else ""
            data = self.codec.frame(
                error_message(Refusal("internal", "The answer cannot be told in this format"), ident)
            )
        self._push(data)

    def write_lasting(self, data: bytes) -> None:
        self._missed = True
        self._gateway.metrics.skipped.value += 1
        if data:
            self._push(data)

    def _push(self, data: bytes) -> None:
        """What may not be lost: so a reader for whom too much waits already is sent away with its cursor (RS8)."""
        if self.ended:
            return
        metrics = self._gateway.metrics
        if self._outlet.waiting() > self._gateway.settings.slow_bytes:
            metrics.slow.inc()
            self.end(Refusal("slow_consumer"))
        else:
            metrics.own_messages.value += 1
            metrics.own_bytes.value += len(data)
            self._outlet.write(data)

    def keeps_up(self, ready: bool) -> None:
        """From the transport: its buffer is full, or has drained."""
        self.paused = not ready
        if self.room is not None:
            self.room.fanout.sort(self)
        if ready and self._missed and self.room is not None and not self.ended:
            self._missed = False
            cursors = self.room.all_cursors(self.user)
            if cursors is not None:
                self._outlet.write(self.codec.frame(cursors))

    # -- time

    def _schedule_check(self) -> None:
        """When `check` has something to do next: a ping, a token's end, a silent peer, old age."""
        now, ends = time.monotonic(), self._valid_until
        self.next_check = min(now + self._gateway.settings.heartbeat_seconds / 2, self._old_at)
        if ends is not None:
            at = ends if self._warned else ends - notice_ms(self._claims)
            self.next_check = min(self.next_check, now + (at - now_ms()) / 1000)

    def check(self, now: float) -> None:
        """Called by the hub when `next_check` has come."""
        interval, ends = self._gateway.settings.heartbeat_seconds, self._valid_until
        if ends is not None:
            left = ends - now_ms()
            if left <= 0:
                self.end(Refusal("token_expired"))
                return
            if left <= notice_ms(self._claims) and not self._warned:
                self._warned = True
                self.send(token_expiring(ends))
        if self.session.transport == "websocket" and now - self._heard > SILENCE * interval:
            self.end(Refusal("protocol_error", "no sign of life"))
            return
        if now >= self._old_at:
            self.end(Refusal("draining", "This connection is old: the next one may be at a newer gateway"))
            return
        if now - self._pinged >= interval * 0.9:
            self._pinged = now
            self._outlet.ping()
        self._schedule_check()

    # -- going

    def end(self, refusal: Refusal) -> None:
        """Closes it from our side."""
        if not self.ended:
            self._gateway.metrics.closed.labels(refusal.reason).inc()
            self._leave()
            self._outlet.end(refusal)

    def lost(self) -> None:
        """The transport has ended. Requests that were taken are still carried out."""
        if not self.ended:
            self._gateway.metrics.closed.labels("peer").inc()
            self._leave()

    def _leave(self) -> None:
        self.ended = True
        if self.room is not None:
            self.room.fanout.leave(self)
        if self._joined:
            self._gateway.presence.close(self.session.room, self.user, self._claims.username, self.session.id)
        self._gateway.forget(self)

    def _spawn(self, work: Awaitable[None]) -> None:
        if self._workers is None:
            self._workers = set()
        task = asyncio.ensure_future(work)
        self._workers.add(task)
        task.add_done_callback(self._workers.discard)


def _life(most: float) -> float:
    """Seconds; not the same for all, as connections that came together must not go together."""
    return random.uniform(0.75, 1.0) * most if most else float("inf")  # noqa: S311 - no secret


def _valid_until(claims: Claims) -> int | None:
    """When the connection ends with its token (ms). One that was let in by the leeway of clocks gets that leeway."""
    if claims.expires_at is None or claims.expires_at > now_ms():
        return claims.expires_at
    return claims.expires_at + LEEWAY_S * 1000
