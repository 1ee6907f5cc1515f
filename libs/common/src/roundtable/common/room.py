"""Shell layer: one room of one service in memory: its state, its place in the log, its recent commands.

Folds stored messages; loads itself from snapshot and tail. Knows no commands and answers nobody.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

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
        self.state: S = domain.decider.initial()
        self.seq = 0
        """The room's last message that is folded in."""
        self.recent = RecentCommands()
        self.loaded = False
        self.unsaved = 0
        """Events since the last snapshot."""
        self.saved_bytes = 0
        self.saved_at = 0.0
        self.used_at = 0.0
        self._domain = domain
        self._log = eventlog
        self._snapshots = snapshots

    async def load(self, metrics: ServiceMetrics) -> None:
        """Snapshot and tail. Raises `LogUnavailable`; then the room is as it was before: not loaded."""
        began = time.perf_counter()
        self.loaded = False
        self.state, self.seq, self.recent, self.unsaved = (
            self._domain.decider.initial(),
            0,
            RecentCommands(),
            0,
        )
        snapshot = await self._snapshots.load(self.name)
        if snapshot is not None:
            try:
                recent, state = snapshot.state
                self.recent, self.state, self.seq = (
                    RecentCommands(recent),
                    self._domain.restore(state),
                    snapshot.seq,
                )
            except (msgspec.MsgspecError, ValueError, TypeError, KeyError, IndexError) as error:
                log.warning("snapshot.unreadable", room=self.name, error=repr(error))
                self.state, self.seq, self.recent = self._domain.decider.initial(), 0, RecentCommands()
            if self.seq > await self._log.last(self.name):
                # Of another incarnation of the log: what it knows never happened here.
                log.warning("snapshot.foreign", room=self.name, seq=self.seq)
                self.state, self.seq, self.recent = self._domain.decider.initial(), 0, RecentCommands()
        await self.catch_up()
        self.loaded = True
        metrics.load_seconds.observe(time.perf_counter() - began)

    async def catch_up(self) -> int:
        """Folds what others have appended; returns how many messages. Afterwards the state was true at this moment."""
        folded = 0
        while True:
            messages = await self._log.read(self.name, self.seq)
            for message in messages:
                stored = decode_stored(message)
                for event in stored.events:
                    fact = self._domain.recall(event)
                    if fact is not None:
                        self.state = self._domain.decider.evolve(self.state, fact)
                self.note(message.seq, stored.events)
                folded += 1
            if not messages:
                return folded

    def note(self, seq: int, events: Sequence[StoredEvent]) -> None:
        """What the shell itself keeps of a stored message whose facts are already in the state."""
        self.seq = seq
        self.unsaved += len(events)
        start = 0
        for number, event in enumerate(events):
            if number and event.command != events[start].command:
                start = number
            last = number + 1 == len(events) or events[number + 1].command != event.command
            if event.command and last:
                key = key_of(event.user, event.cause or event.method, event.command)
                self.recent.add(key, Place(seq, start, number + 1 - start, event.timestamp))

    async def recall_at(self, place: Place) -> tuple[list[E], Position] | None:
        """The facts of an earlier command and where they ended; None when the log no longer holds them."""
        message = await self._log.get(place.seq)
        if message is None:
            return None
        events = decode_stored(message).events
        facts = map(self._domain.recall, events[place.event : place.event + place.count])
        position = Position.of(place.seq, place.event + place.count - 1, len(events))
        return [fact for fact in facts if fact is not None], position

    async def read(self, after: int, limit: int) -> Sequence[tuple[int, Sequence[StoredEvent]]]:
        messages = await self._log.read(self.name, after, limit)
        return [(message.seq, decode_stored(message).events) for message in messages]

    async def save(self) -> None:
        """Writes a snapshot. The state is dumped before the first await, so it is of one moment."""
        dumped: Any = (self.recent.dump(), self._domain.dump(self.state))
        seq, self.unsaved, self.saved_at = self.seq, 0, time.monotonic()
        self.saved_bytes = await self._snapshots.save(self.name, Snapshot(seq, dumped))
