"""Shell layer: one live room at this gateway: its place in the three logs, its recent events, who listens. Speaks no transport.

Invariants, on which every promise of "never losing anything" rests:
- `vector` moves only forward, event by event; an event is told only when all before it in its log have been (RS4);
- what is told to members and what is in the ring is the same, in the same order, with the same cursors;
- between a member's check that it has all up to `vector` and its joining nothing is awaited.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from roundtable.common.command_handler import now_ms
from roundtable.common.cursor import WHOLE, Cursor, Position, Vector
from roundtable.common.eventlog import LogMessage, LogUnavailable
from roundtable.common.room import decode_stored
from roundtable.common.schema.basics import Point
from roundtable.common.schema.envelope import ServerEvent, to_json
from roundtable.common.schema.fleeting import Fleeting
from roundtable.common.schema.log import SERVICES, Service, StoredEvent
from roundtable.common.schema.presence import ConnectionOpened, Cursors, CursorShown, MoveCursor, PresenceData
from roundtable.common.telemetry import log

from .batch import Entry
from .config import GatewaySettings
from .fanout import Fanout
from .metrics import GatewayMetrics
from .outbox import Ephemera, Outbox
from .relay import Relay
from .ring import Ring, interleaved

if TYPE_CHECKING:
    from .polling import Poller

_presence: Final = msgspec.json.Decoder(PresenceData).decode
_opened: Final = msgspec.json.Decoder(ConnectionOpened).decode
CHUNK: Final = 256
FILL_TIMEOUT: Final = 5.0
"""Seconds that somebody who waits for a log's end has."""


class Pages(NamedTuple):
    """A snapshot, cut into the `data` of events, and the place at which it is true."""

    position: Position
    data: tuple[Raw, ...]


class Room:
    def __init__(self, name: str, relay: Relay, settings: GatewaySettings, metrics: GatewayMetrics) -> None:
        self.name: Final = name
        self.vector = Vector()
        self.fanout: Final = Fanout()
        self.pollers: dict[Poller, None] = {}
        self.cursors: dict[str, Point] = {}
        """The latest of each user in the room, for newcomers (PR4)."""
        self.local_cursors: set[str] = set()
        self.seen: dict[str, float] = {}
        """When each user who wrote to this gateway did so last (monotonic), since presence was told of it."""
        self.company = True
        """Another gateway may have the room live, so it must hear of our cursors; asked now and then."""
        self.asked = 0
        """Times that another gateway asked us for cursors."""
        self.opened: asyncio.Task[None] | None = None
        self.used_until = 0.0
        """Monotonic time after which a room without members may be forgotten."""
        self.holders = 0
        """Joins and requests under way, which need it live."""
        self._relay = relay
        self._settings = settings
        self._metrics = metrics
        self._epoch = relay.epoch(name)
        self._outbox = Outbox(settings.tick_ms / 1000, settings.cursor_hz)
        self._flush: asyncio.TimerHandle | None = None
        self._ring = Ring(settings.ring_events, settings.ring_bytes)
        self._early: list[tuple[Service, int, int, bytes]] | None = []
        """What comes while the room is opening."""
        self.pages: Pages | None = None
        """The canvas as it was last sent to a newcomer; good while nothing has been drawn since."""
        self.paging: asyncio.Task[Pages] | None = None
        self._filling: dict[Service, asyncio.Task[None]] = {}
        self._held: dict[Service, deque[tuple[int, int, bytes]]] = {}
        self._waiters: list[tuple[Service, Position, asyncio.Future[None]]] = []
        self._changed: list[asyncio.Future[None]] = []

    # -- opening

    def begin(self, last: Sequence[int]) -> None:
        """The room is at these sequences of its logs; what has come since then follows."""
        self.vector = Vector(*(Position(seq) for seq in last))
        self._ring.begin(self.vector)
        early, self._early = self._early or [], None
        for service, seq, previous, payload in early:
            self.stored(service, seq, previous, payload)

    def renew_epoch(self) -> None:
        self._epoch = self._relay.epoch(self.name)

    @property
    def cursor(self) -> Cursor:
        return Cursor(self._epoch, self.vector)

    def cursor_at(self, vector: Vector) -> str:
        return str(Cursor(self._epoch, vector))

    def cursor_of(self, service: Service, position: Position, seen: str) -> str:
        """A cursor for an answer that is true at that position of a log, and from which nothing is lost.

        `seen`: where the gateway that asked first was in the other logs, so that a repeated command has the cursor of its
        first answer (RS6), whoever asks; empty for queries.
        """
        try:
            others = Vector.parse(seen) if seen else self.vector
        except ValueError:
            others = self.vector
        return self.cursor_at(others._replace(**{service: position}))

    # -- what NATS delivers

    def stored(self, service: Service, seq: int, previous: int, payload: bytes) -> bool:
        """True when it has been told now: not when it was known, or must wait for what comes before it."""
        if self._early is not None:
            self._early.append((service, seq, previous, payload))
            return False
        if service in self._filling:
            self._held[service].append((seq, previous, payload))
            return False
        at = self.vector.at(service).seq
        if seq <= at:
            return False
        if previous > at:
            log.warning("relay.gap", room=self.name, log=service, at=at, previous=previous)
            self._metrics.gaps.inc()
            self.fill(service)
            self._held[service].append((seq, previous, payload))
            return False
        self._tell(service, seq, payload)
        self._schedule()
        return True

    def _tell(self, service: Service, seq: int, payload: bytes) -> None:
        events = decode_stored(LogMessage(self.name, seq, payload)).events
        for found in self._entries(service, seq, events):
            self.vector = self.vector.moved(service, found.position)
            entry = found.at(self.cursor_at(self.vector))
            self._ring.add(entry)
            self._outbox.store(entry)
            if entry.event.method == "presence.update":
                self._note_presence(entry)
            elif entry.event.method == "presence.open" and self.pollers:
                self._note_opened(entry)
        self.vector = self.vector.moved(service, Position(seq))  # also past a message without events
        self._notify()

    @staticmethod
    def _entries(service: Service, seq: int, events: Sequence[StoredEvent]) -> list[Entry]:
        return [
            Entry(
                service,
                Position.of(seq, number, len(events)),
                ServerEvent(event.method, event.data, event.timestamp),
                event.audience,
                len(bytes(event.data)) + 200,
            )
            for number, event in enumerate(events)
        ]

    def _note_presence(self, entry: Entry) -> None:
        try:
            data = _presence(entry.event.data)
        except msgspec.MsgspecError:
            return
        if data.status == "offline":
            self.cursors.pop(data.user_id, None)
            self.local_cursors.discard(data.user_id)
            self._outbox.forget(data.user_id)

    def _note_opened(self, entry: Entry) -> None:
        try:
            opened = _opened(entry.event.data)
        except msgspec.MsgspecError:
            return
        for poller in self.pollers:
            poller.opened_at(opened)

    def _notify(self) -> None:
        changed, self._changed = self._changed, []
        for future in changed:
            if not future.done():
                future.set_result(None)
        if self._waiters:
            still = []
            for service, position, future in self._waiters:
                if self.vector.at(service) >= position:
                    if not future.done():
                        future.set_result(None)
                elif not future.done():
                    still.append((service, position, future))
            self._waiters = still

    # -- gaps

    def fill(self, service: Service) -> asyncio.Task[None]:
        """Fetches from the log what this room has missed; what comes meanwhile waits behind it (RS4)."""
        task = self._filling.get(service)
        if task is None:
            self._held.setdefault(service, deque())
            task = self._filling[service] = asyncio.create_task(self._fill(service), name=f"fill:{self.name}")
        return task

    async def _fill(self, service: Service) -> None:
        pause = 0.02
        while True:
            try:
                messages = await self._relay.logs[service].read(self.name, self.vector.at(service).seq, CHUNK)
            except LogUnavailable as error:
                log.warning("relay.fill", room=self.name, log=service, error=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
                continue
            except Exception as error:  # noqa: BLE001 - a filling that ended here would hold the room's events for ever
                log.exception("relay.fill_failed", room=self.name, log=service, error=repr(error))
                await asyncio.sleep(1.0)
                continue
            for message in messages:
                self._metrics.filled.inc()
                self._tell(service, message.seq, message.payload)
            if not messages:
                break
            self.flush()
        del self._filling[service]
        held, self._held[service] = self._held[service], deque()
        for seq, previous, payload in held:
            self.stored(service, seq, previous, payload)
        self._schedule()

    async def audit(self) -> None:
        """Compares with the logs: finds what no later event has betrayed."""
        await asyncio.gather(*(asyncio.shield(self.fill(service)) for service in SERVICES))
        await self.look_around()

    async def look_around(self) -> None:
        """Asks the other gateways for cursors. One that asks us meanwhile has just come, and may not have been asked."""
        asked = self.asked
        others, cursors = await self._relay.ask_cursors(self.name)
        self.company = others or self.asked != asked
        for shown in cursors:
            self.cursors[shown.user_id] = Point(shown.x, shown.y)

    async def reach(self, service: Service, position: Position, wait: float = 0.25) -> None:
        """Returns when the room has told everything up to that position of a log, which the log is known to hold.

        Raises `TimeoutError` when the log does not answer.
        """
        if self.vector.at(service) >= position:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((service, position, future))
        try:
            async with asyncio.timeout(wait):
                await asyncio.shield(future)
        except TimeoutError:
            async with asyncio.timeout(FILL_TIMEOUT):
                await asyncio.shield(self.fill(service))
        finally:
            future.cancel()

    @contextlib.contextmanager
    def change(self) -> Iterator[asyncio.Future[None]]:
        """A future that is done when anything is stored, from this very moment on."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.append(future)
        try:
            yield future
        finally:
            if future in self._changed:
                self._changed.remove(future)

    # -- reading back

    async def recover(self, text: str, *, returning: bool = True) -> Vector | None:
        """The place that a client's cursor names, if every event after it can still be told (RS2, RS3).

        None for no cursor, for one that is none of ours, and when the way back is not whole. Raises `LogUnavailable`.
        `returning`: a connection comes back; a poll that only goes on is no news while all is well.
        """
        if not text:
            return None
        outcome = "refused"
        try:
            cursor = Cursor.parse(text)
            if await self.recoverable(cursor):
                outcome = "whole"
                return cursor.vector
        except ValueError:
            outcome = "unreadable"
        finally:
            if returning or outcome != "whole":
                self._metrics.recoveries.labels(outcome).inc()
        return None

    @staticmethod
    def level(place: Vector, end: Vector) -> Vector:
        """A place from which there is nothing to tell until `end`, moved past messages without events."""
        return Vector(*(max(mine, theirs) for mine, theirs in zip(place, end, strict=True)))

    async def recoverable(self, cursor: Cursor) -> bool:
        """Whether every event after the cursor can still be told (RS3). Raises `LogUnavailable`."""
        if cursor.epoch != self._epoch:
            return False
        vector = cursor.vector
        for service in SERVICES:
            theirs = vector.at(service)
            if theirs > self.vector.at(service):
                # Another gateway may be ahead of us by a moment; a position beyond the log's end is of another log.
                await self.reach(service, theirs, wait=0.05)
                if theirs.seq > self.vector.at(service).seq:
                    return False
        if self._ring.reaches(vector):
            return True
        for service in SERVICES:
            theirs = vector.at(service)
            if theirs >= self.vector.at(service):
                continue
            first = await self._relay.logs[service].first()
            needed = theirs.seq if theirs.event < WHOLE else theirs.seq + 1
            if first > max(needed, 1):
                return False
            if self.vector.at(service).seq - theirs.seq > self._settings.replay_events:
                return False
        return True

    async def after(self, vector: Vector, limit: int = CHUNK) -> list[Entry]:
        """The next events after a place, each with a cursor for whoever stands there; empty: there are none.

        From the ring, or else from the logs, each log in its order. Raises `LogUnavailable`.
        """
        if vector.covers(self.vector):
            return []
        if self._ring.reaches(vector):
            found = self._ring.after(vector)
        else:
            logs = [await self._from_log(service, vector.at(service), limit) for service in SERVICES]
            found = interleaved(logs, limit)
        told: list[Entry] = []
        for entry in found[:limit]:
            vector = vector.moved(entry.service, entry.position)
            told.append(entry.at(self.cursor_at(vector)))
        return told

    async def _from_log(self, service: Service, position: Position, limit: int) -> list[Entry]:
        end = self.vector.at(service)
        if position >= end:
            return []
        after = position.seq if position.event >= WHOLE else position.seq - 1
        entries: list[Entry] = []
        while len(entries) < limit:
            messages = await self._relay.logs[service].read(self.name, after, limit)
            for message in messages:
                if message.seq > end.seq:
                    return entries
                after = message.seq
                stored = decode_stored(message).events
                entries += [e for e in self._entries(service, message.seq, stored) if e.position > position]
            if not messages:
                break
        return entries

    # -- telling

    def show(self, user: str, what: Fleeting) -> None:
        """A cursor or a preview of one of this gateway's people."""
        if isinstance(what, MoveCursor):
            self.cursors[user] = what
            self.local_cursors.add(user)
            self._outbox.move(user, what)
        else:
            self._outbox.ink(user, what)
        if self._flush is None:
            self._schedule()

    def heard(self, ephemera: Ephemera) -> None:
        for shown in ephemera.cursors:
            self.cursors[shown.user_id] = Point(shown.x, shown.y)
            self.local_cursors.discard(shown.user_id)
        self._outbox.hear(ephemera)
        self._schedule()

    def known_cursors(self) -> tuple[CursorShown, ...]:
        return tuple(
            CursorShown(user, at.x, at.y) for user, at in self.cursors.items() if user in self.local_cursors
        )

    def all_cursors(self, user: str) -> ServerEvent | None:
        """The latest of everybody else, for a member that has missed some."""
        shown = tuple(CursorShown(owner, at.x, at.y) for owner, at in self.cursors.items() if owner != user)
        return ServerEvent("presence.cursor", to_json(Cursors(shown)), now_ms()) if shown else None

    def _schedule(self) -> None:
        now = time.monotonic()
        due = self._outbox.due(now)
        if due is None:
            return
        if due <= now:
            self.flush()
        elif self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(due - now, self.flush)

    def flush(self) -> None:
        """One write for each member, however much waits."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        began = time.perf_counter()
        batch, ephemera = self._outbox.take(time.monotonic(), now_ms())
        self._metrics.merged.value += batch.merged
        if ephemera is not None and self.company:
            self._relay.tell(self.name, ephemera)
        for poller in self.pollers:
            poller.hear(batch)
        members = len(self.fanout.members)
        if members and not batch.empty:
            written = self.fanout.tell(batch)
            self._metrics.told(members, batch.messages, written, time.perf_counter() - began)
        if self._outbox.due(0.0) is not None:
            self._schedule()

    def overlay(self, data: PresenceData, seen: Callable[[str], int]) -> PresenceData:
        """A user's presence with what only gateways know: the cursor, and the latest sign of life (PR4, PR5)."""
        return msgspec.structs.replace(
            data,
            cursor=self.cursors.get(data.user_id, UNSET),
            last_seen=max(data.last_seen, seen(data.user_id)),
        )
