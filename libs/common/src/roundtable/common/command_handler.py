"""Shell layer: commands in, facts into the log, answers out; the same for every service. Knows no NATS subject.

The law: **the log is the judge**. One writer task a room decides a batch on the state it believes in and appends it as one
message with the sequence that it expects. If the log refuses, or does not answer, the room is loaded anew and what is still
undone is decided again; ids of stored commands are in the state, so nothing takes effect twice. Two handlers that write the
same room at once are therefore slow, but right.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct

from .cursor import Position
from .decider import Domain
from .eventlog import Conflict, EventLog, LogFull, LogUnavailable
from .recent import key_of
from .room import Room
from .schema.envelope import to_json
from .schema.errors import Refusal
from .schema.log import CommandMessage, ReplyMessage, StoredEvent, StoredMessage
from .schema.methods import METHODS
from .snapshots import Snapshots
from .telemetry import ServiceMetrics, log

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E", bound=Struct)

BATCH: Final = 256
BATCH_BYTES: Final = 512 * 1024
PATIENCE: Final = 5.0
"""Seconds after which a command that could not be stored is given up unanswered; its gateway has stopped waiting too."""
SNAPSHOT_EVENTS: Final = 100
SNAPSHOT_BYTES_PER_EVENT: Final = 1_000
"""A large room is saved less often: as many events apart as its last snapshot had kilobytes, if that is more."""
IDLE_SAVE: Final = 3.0
IDLE_UNLOAD: Final = 300.0
QUEUED_AT_MOST: Final = 20_000

_encode = msgspec.json.Encoder().encode


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Waiting(NamedTuple):
    """One thing to do: a message to answer, or internal commands."""

    message: CommandMessage | None
    commands: Sequence[Any]
    answer: asyncio.Future[ReplyMessage]
    since: float


class _Decided(NamedTuple, Generic[E]):
    waiting: _Waiting
    events: Sequence[E]
    first: int
    """Number of its first event in the message."""
    refusal: Refusal | None = None


class CommandHandler(Generic[S, C, E]):
    def __init__(
        self,
        domain: Domain[S, C, E],
        eventlog: EventLog,
        snapshots: Snapshots,
        metrics: ServiceMetrics,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self.domain = domain
        self.log = eventlog
        self._snapshots = snapshots
        self._metrics = metrics
        self._clock = clock
        self._rooms: dict[str, Room[S, C, E]] = {}
        self._queues: dict[str, deque[_Waiting]] = {}
        self._writers: dict[str, asyncio.Task[None]] = {}
        self._alarms: dict[str, asyncio.TimerHandle] = {}
        self._queued = 0
        self._housekeeper: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Begins to save and to forget rooms in the background."""
        self._housekeeper = asyncio.create_task(self._keep_house(), name="housekeeper")

    async def stop(self) -> None:
        """Finishes the commands that were taken, saves what is not saved yet, and ends."""
        self._stopping = True
        for alarm in self._alarms.values():
            alarm.cancel()
        if self._housekeeper is not None:
            self._housekeeper.cancel()
        while self._writers:
            await asyncio.wait(tuple(self._writers.values()))
        for room in tuple(self._rooms.values()):
            if room.loaded and room.unsaved:
                await self._save(room)

    async def execute(self, room: str, message: CommandMessage) -> ReplyMessage:
        """Answers a command or query; a refusal is an answer too. Raises `TimeoutError` if the log let it wait too long."""
        return await self.submit(room, message)

    def submit(self, room: str, message: CommandMessage) -> asyncio.Future[ReplyMessage]:
        """The same without waiting; commands of one room are handled in the order of their submission."""
        return self._submit(room, message, ())

    async def perform(self, room: str, commands: Sequence[C]) -> None:
        """Internal commands, whose refusals are the domain's own affair."""
        await self._submit(room, None, commands)

    async def view(self, room: str) -> Room[S, C, E]:
        """The room, loaded and up to date with the log."""
        await self._submit(room, None, ())
        return self._rooms[room]

    def loaded(self, room: str) -> Room[S, C, E] | None:
        """The room if it is in memory; how fresh, is not said."""
        found = self._rooms.get(room)
        return found if found is not None and found.loaded else None

    def _submit(
        self, room: str, message: CommandMessage | None, commands: Sequence[C]
    ) -> asyncio.Future[ReplyMessage]:
        answer: asyncio.Future[ReplyMessage] = asyncio.get_running_loop().create_future()
        if message is not None and (self._stopping or self._queued >= QUEUED_AT_MOST):
            answer.set_result(
                ReplyMessage(error=Refusal("overloaded", "The service takes no more just now").body)
            )
            return answer
        self._queues.setdefault(room, deque()).append(_Waiting(message, commands, answer, time.monotonic()))
        self._queued += 1
        if room not in self._writers:
            self._writers[room] = asyncio.create_task(self._write(room), name=f"writer:{room}")
        return answer

    async def _write(self, name: str) -> None:
        """The room's writer: lives while something waits."""
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = Room(name, self.domain, self.log, self._snapshots)
        queue = self._queues[name]
        try:
            while queue:
                batch = [queue.popleft() for _ in range(min(len(queue), BATCH))]
                self._queued -= len(batch)
                room.used_at = time.monotonic()
                try:
                    left = await self._handle(room, batch)
                    queue.extendleft(reversed(left))
                    self._queued += len(left)
                except Exception as error:
                    # Whatever it was, only this batch suffers; the state may be half changed, so it goes.
                    room.loaded = False
                    log.exception("handler.failed", room=name, error=repr(error))
                    for waiting in batch:
                        _settle(waiting, ReplyMessage(error=Refusal("internal").body))
        finally:
            del self._writers[name], self._queues[name]
            self._metrics.rooms.set(len(self._rooms))

    async def _handle(self, room: Room[S, C, E], batch: list[_Waiting]) -> list[_Waiting]:
        """Stores and answers the batch; returns what did not fit into one message."""
        pause = 0.01
        while batch:
            batch = [waiting for waiting in batch if not _given_up(waiting)]
            try:
                if not room.loaded:
                    await room.load(self._metrics)
                return await self._attempt(room, batch)
            except LogFull as error:
                room.loaded = False
                refusal = Refusal("overloaded", "The log cannot take this just now")
                log.error("log.full", room=room.name, error=str(error))
                for waiting in batch:
                    _settle(waiting, ReplyMessage(error=refusal.body))
                return []
            except Conflict:
                self._metrics.conflicts.inc()
                room.loaded = False
            except LogUnavailable as error:
                self._metrics.unavailable.inc()
                log.warning("log.unavailable", room=room.name, error=str(error))
                room.loaded = False
                await asyncio.sleep(pause)
                pause = min(pause * 2, 0.5)
        return []

    async def _attempt(self, room: Room[S, C, E], batch: list[_Waiting]) -> list[_Waiting]:
        now = self._clock()
        decided: list[_Decided[E]] = []
        queries: list[_Waiting] = []
        repeats: list[_Waiting] = []
        stored: list[StoredEvent] = []
        keys: set[int] = set()
        size, left = 0, []
        due, wake = self.domain.due(room.state, now)
        if due:
            batch = [
                _Waiting(None, due, asyncio.get_running_loop().create_future(), time.monotonic()),
                *batch,
            ]
        for number, waiting in enumerate(batch):
            if size > BATCH_BYTES:
                left = batch[number:]
                break
            message = waiting.message
            if message is not None and METHODS[message.method].kind == "query":
                queries.append(waiting)
                continue
            if message is not None and message.id:
                key = key_of(message.user, message.method, message.id)
                if key in keys or room.recent.find(key) is not None:
                    repeats.append(waiting)
                    continue
                keys.add(key)
            try:
                events = self._decide(room, waiting, now)
            except Refusal as refusal:
                decided.append(_Decided(waiting, (), len(stored), refusal))
                continue
            decided.append(_Decided(waiting, events, len(stored)))
            for event in events:
                stored.append(self._record(event, message, now))
                size += len(bytes(stored[-1].data)) + 100
        if stored:
            await self._append(room, stored)
        elif await room.catch_up():
            # What is answered without an append must have been decided on what the log says now.
            return await self._attempt(room, batch)
        for one in decided:
            self._reply(room, one, len(stored))
        for waiting in repeats:
            await self._repeat(room, waiting)
        for waiting in queries:
            _settle(waiting, await self._query(room, waiting))
        if stored or due:
            wake = self.domain.due(room.state, now)[1]
        self._wake_at(room.name, wake)
        return left

    def _decide(self, room: Room[S, C, E], waiting: _Waiting, now: int) -> list[E]:
        decide, evolve = self.domain.decider.decide, self.domain.decider.evolve
        commands = (
            waiting.commands if waiting.message is None else (self.domain.prepare(waiting.message, now),)
        )
        events: list[E] = []
        for command in commands:
            try:
                caused = decide(room.state, command)
            except Refusal:
                if waiting.message is not None:
                    raise
                continue
            for event in caused:
                room.state = evolve(room.state, event)
                events.append(event)
        return events

    def _record(self, event: E, message: CommandMessage | None, now: int) -> StoredEvent:
        method, data, audience = self.domain.record(event)
        if message is None:
            return StoredEvent(method, to_json(data), now, audience=audience)
        cause = message.method if message.method != method else ""
        return StoredEvent(method, to_json(data), now, message.user, message.id, cause, audience)

    async def _append(self, room: Room[S, C, E], stored: list[StoredEvent]) -> None:
        occupied = self.domain.occupied(room.state)
        payload = _encode(StoredMessage(tuple(stored), UNSET if occupied is None else occupied))
        began = time.perf_counter()
        seq = await self.log.append(room.name, payload, room.seq)
        self._metrics.append_seconds.observe(time.perf_counter() - began)
        self._metrics.batch_events.observe(len(stored))
        room.note(seq, stored)
        if room.unsaved >= max(SNAPSHOT_EVENTS, room.saved_bytes / SNAPSHOT_BYTES_PER_EVENT):
            await self._save(room)

    def _reply(self, room: Room[S, C, E], one: _Decided[E], events_in_all: int) -> None:
        waiting, message = one.waiting, one.waiting.message
        if one.refusal is not None:
            _settle(waiting, ReplyMessage(str(Position(room.seq)), error=one.refusal.body))
        elif message is None:
            _settle(waiting, ReplyMessage(str(Position(room.seq))))
        else:
            last = one.first + len(one.events) - 1
            position = Position.of(room.seq, last, events_in_all) if one.events else Position(room.seq)
            _settle(waiting, self._answered(room, message, one.events, position))

    def _answered(
        self, room: Room[S, C, E], message: CommandMessage, events: Sequence[E], position: Position
    ) -> ReplyMessage:
        data = self.domain.answer(room.state, message, events)
        return ReplyMessage(str(position), Raw(b"{}") if data is None else to_json(data))

    async def _repeat(self, room: Room[S, C, E], waiting: _Waiting) -> None:
        message = waiting.message
        assert message is not None
        self._metrics.repeats.inc()
        place = room.recent.find(key_of(message.user, message.method, message.id))
        if place is None:
            # Its twin in this very batch was refused or had no effect: so it is a first one.
            self._queues[room.name].append(waiting)
            self._queued += 1
            return
        found = await room.recall_at(place)
        if found is None:
            refusal = Refusal(
                "internal", "The first answer to this id is no longer known; it did take effect"
            )
            _settle(waiting, ReplyMessage(str(Position(place.seq)), error=refusal.body))
            return
        events, position = found
        _settle(waiting, self._answered(room, message, events, position))

    async def _query(self, room: Room[S, C, E], waiting: _Waiting) -> ReplyMessage:
        message = waiting.message
        assert message is not None
        try:
            data = await self.domain.query(room, message)
        except Refusal as refusal:
            return ReplyMessage(str(Position(room.seq)), error=refusal.body)
        return ReplyMessage(str(Position(room.seq)), to_json(data))

    async def _save(self, room: Room[S, C, E]) -> None:
        try:
            await room.save()
            self._metrics.snapshots.inc()
        except Exception as error:  # a snapshot only saves replay: the next one will do
            log.warning("snapshot.failed", room=room.name, error=repr(error))

    def _wake_at(self, name: str, when: int | None) -> None:
        alarm = self._alarms.pop(name, None)
        if alarm is not None:
            alarm.cancel()
        if when is not None and not self._stopping:
            delay = max(0.0, (when - self._clock()) / 1000)
            self._alarms[name] = asyncio.get_running_loop().call_later(delay, self._wake, name)

    def _wake(self, name: str) -> None:
        self._alarms.pop(name, None)
        self._submit(name, None, ())

    async def _keep_house(self) -> None:
        """Saves rooms that came to rest and forgets those that nobody has used for long."""
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            for name, room in tuple(self._rooms.items()):
                if name in self._writers or not room.loaded:
                    continue
                if room.unsaved and now - room.used_at > IDLE_SAVE:
                    await self._save(room)
                if (
                    now - room.used_at > IDLE_UNLOAD
                    and name not in self._alarms
                    and name not in self._writers
                ):
                    del self._rooms[name]
            self._metrics.rooms.set(len(self._rooms))


def _given_up(waiting: _Waiting) -> bool:
    if waiting.answer.done():
        return True
    if time.monotonic() - waiting.since > PATIENCE:
        waiting.answer.set_exception(TimeoutError("the log did not take it in time"))
        waiting.answer.exception()
        return True
    return False


def _settle(waiting: _Waiting, reply: ReplyMessage) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(reply)
