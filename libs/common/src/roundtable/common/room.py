"""Shell layer: one room of one service in memory: its state, its place in the log, its recent commands.

Folds stored messages; loads itself from snapshot and tail. Knows no commands and answers nobody.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from typing import Generic, NamedTuple, TypeVar
from zlib import crc32

import msgspec
from msgspec import Struct

from .cursor import Position
from .decider import Domain
from .eventlog import EventLog, LogMessage
from .recent import Place, RecentCommands, key_of
from .schema.log import StoredEvent, StoredMessage
from .snapshots import Snapshot, Snapshots
from .telemetry import ServiceMetrics, log

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E", bound=Struct)

_decode = msgspec.json.Decoder(StoredMessage).decode


def decode_stored(message: LogMessage) -> StoredMessage:
    """A log's message. One that cannot be read counts as holding no events: the log goes on."""
    try:
        return _decode(message.payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        log.error("log.unreadable", room=message.room, seq=message.seq)
        return StoredMessage(())


class Room(Generic[S, C, E]):
    """Implements `RoomView` for queries."""

    def __init__(self, name: str, domain: Domain[S, C, E], eventlog: EventLog, snapshots: Snapshots) -> None:
        self.name = name
        self.loaded = False
        self.saved_bytes = 0
        self.saved_at = 0.0
        self.used_at = 0.0
        self.undue_until = 0.0
        """Until then what is due waits, for it failed."""
        self._domain = domain
        self._log = eventlog
        self._snapshots = snapshots
        self._begin()

    def _begin(self) -> None:
        self.state: S = self._domain.decider.initial()
        self.seq = 0
        """The room's last message that is folded in."""
        self.digest = 0
        """Of that message's bytes, by which a snapshot knows its log again."""
        self.expected = 0
        """What `EventLog.append` is to expect: `seq`, or 0 once retention has taken that message."""
        self.recent = RecentCommands()
        self.unsaved = 0
        """Events since the last snapshot."""
        self.unsaved_since = 0.0
        """Monotonic time at which the first of them came."""

    async def load(self, metrics: ServiceMetrics) -> None:
        """Snapshot and tail. Raises `LogUnavailable`; the room is not loaded then."""
        began = time.perf_counter()
        self.loaded = False
        self._begin()
        snapshot = await self._snapshots.load(self.name)
        if snapshot is not None and not await self._restore(snapshot):
            self._begin()
        metrics.replayed.inc(await self.catch_up())
        self.loaded = True
        metrics.load_seconds.observe(time.perf_counter() - began)

    async def _restore(self, snapshot: Snapshot) -> bool:
        """False for a snapshot of another log's room: what it knows never happened in this one."""
        try:
            recent, state, self.digest = snapshot.state
            self.recent, self.state = RecentCommands(recent), self._domain.restore(state)
            self.seq = self.expected = snapshot.seq
        except Exception as error:  # noqa: BLE001 - whatever it holds, the log holds it too
            log.warning("snapshot.unreadable", room=self.name, error=repr(error))
            return False
        if self.seq == 0:
            return True
        message = await self._log.get(self.seq)
        if message is not None and message.room == self.name and crc32(message.payload) == self.digest:
            return True
        if message is None and self.seq < await self._log.first():
            self.expected = 0
            return True
        log.warning("snapshot.foreign", room=self.name, seq=self.seq)
        return False

    async def catch_up(self) -> int:
        """Folds what others have appended; returns how many messages. Afterwards the state was true at this moment."""
        folded = 0
        while messages := await self._log.read(self.name, self.seq):
            for message in messages:
                stored = decode_stored(message)
                for event in stored.events:
                    self._fold(message.seq, event)
                self.note(message.seq, message.payload, stored.events)
                folded += 1
        return folded

    def _fold(self, seq: int, event: StoredEvent) -> None:
        fact = self._recall(seq, event)
        if fact is None:
            return
        try:
            self.state = self._domain.decider.evolve(self.state, fact)
        except Exception as error:  # noqa: BLE001 - one event must not keep a room closed for ever
            log.exception("event.skipped", room=self.name, seq=seq, method=event.method, error=repr(error))

    def _recall(self, seq: int, event: StoredEvent) -> E | None:
        try:
            return self._domain.recall(event)
        except Exception as error:  # noqa: BLE001
            log.exception("event.unreadable", room=self.name, seq=seq, method=event.method, error=repr(error))
            return None

    def note(self, seq: int, payload: bytes, events: Sequence[StoredEvent]) -> None:
        """What the shell itself keeps of a stored message whose facts are already in the state."""
        self.seq = self.expected = seq
        self.digest = crc32(payload)
        if not self.unsaved:
            self.unsaved_since = time.monotonic()
        self.unsaved += len(events)
        first = 0
        for cause, of_one in groupby(events, _cause):
            count = sum(1 for _ in of_one)
            if cause.id:
                place = Place(seq, first, count, events[first].timestamp)
                self.recent.add(key_of(cause.user, cause.method, cause.id), place)
            first += count

    async def recall_at(self, place: Place) -> tuple[list[E], Position, str] | None:
        """The facts of an earlier command, where they ended, and what its gateway had seen; None: the log has them no more."""
        message = await self._log.get(place.seq)
        if message is None:
            return None
        events = decode_stored(message).events
        caused = events[place.event : place.event + place.size]
        facts = (self._recall(place.seq, event) for event in caused)
        position = Position.of(place.seq, place.event + place.size - 1, len(events))
        return [fact for fact in facts if fact is not None], position, caused[0].seen if caused else ""

    async def read(self, after: int, limit: int) -> Sequence[tuple[int, Sequence[StoredEvent]]]:
        messages = await self._log.read(self.name, after, limit)
        return [(message.seq, decode_stored(message).events) for message in messages]

    def dump(self) -> Snapshot:
        """What `load` begins with, encoded at once: the state goes on changing."""
        whole = (self.recent.dump(), self._domain.dump(self.state), self.digest)
        return Snapshot(self.seq, msgspec.Raw(msgspec.msgpack.encode(whole)))


class _Cause(NamedTuple):
    user: str
    method: str
    id: str


def _cause(event: StoredEvent) -> _Cause:
    """The command that caused the event. Ids are the clients' own: two people may use the same one, and mostly do."""
    return _Cause(event.user, event.cause or event.method, event.command)
