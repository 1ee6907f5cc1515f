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
from .round import Decided, Poison, Round, decide_round
from .schema.envelope import to_json
from .schema.errors import Refusal
from .schema.log import CommandMessage, ReplyMessage, StoredEvent, StoredMessage
from .snapshots import Snapshot, Snapshots
from .telemetry import ServiceMetrics, log

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E", bound=Struct)

BATCH: Final = 256
PATIENCE: Final = 5.0
"""Seconds after which a command that could not be stored is given up unanswered; its gateway has stopped waiting too."""
SNAPSHOT_EVENTS: Final = 100
SNAPSHOT_BYTES_PER_EVENT: Final = 1_000
"""A large room is saved less often: as many events apart as its last snapshot had kilobytes, if that is more."""
SAVE_EVERY: Final = 1.0
"""Seconds between two snapshots of a room at the least: what follows the last one is read faster than it was written."""
SAVES_AT_ONCE: Final = 16
KEEP_HOUSE_EVERY: Final = 1.0
IDLE_SAVE: Final = 3.0
IDLE_UNLOAD: Final = 300.0
QUEUED_AT_MOST: Final = 20_000
FIRST_PAUSE: Final = 0.01
"""Seconds between two tries while the log does not answer; then doubled, up to half a second."""
STOP_PATIENCE: Final = 5.0
"""Seconds for the last snapshots; the commands before them have `PATIENCE`."""
WAKE_AFTER: Final = 0.02
"""Seconds to the next look at what is due, at the least."""
UNDUE_FOR: Final = 5.0
"""Seconds that something due waits after it has failed."""

_encode = msgspec.json.Encoder().encode


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Waiting(NamedTuple):
    """One thing to do: a message to answer, or internal commands."""

    message: CommandMessage | None
    commands: Sequence[Any]
    answer: asyncio.Future[ReplyMessage]
    since: float


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
        self._saving: dict[str, asyncio.Task[None]] = {}
        self._queued = 0
        self._housekeeper: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Begins to save and to forget rooms in the background."""
        self._housekeeper = asyncio.create_task(self._keep_house(), name="housekeeper")

    async def stop(self) -> None:
        """Finishes the commands that were taken, saves what is not saved yet, and ends. Takes no longer than patience."""
        self._stopping = True
        for alarm in self._alarms.values():
            alarm.cancel()
        if self._housekeeper is not None:
            self._housekeeper.cancel()
        while busy := [writer for writer in self._writers.values() if not writer.done()]:
            await asyncio.wait(busy)
        limit = asyncio.Semaphore(SAVES_AT_ONCE)

        async def save(room: Room[S, C, E]) -> None:
            async with limit:
                if self._may_save(room):
                    self._save(room)
                if room.name in self._saving:
                    await asyncio.wait((self._saving[room.name],))

        work = [asyncio.create_task(save(room)) for room in self._rooms.values()]
        if work:
            await asyncio.wait(work, timeout=STOP_PATIENCE)
            for task in (*work, *self._saving.values()):
                task.cancel()

    async def execute(self, room: str, message: CommandMessage) -> ReplyMessage:
        """Answers a command or query; a refusal is an answer too. Raises `TimeoutError` if the log let it wait too long."""
        return await self.submit(room, message)

    def submit(self, room: str, message: CommandMessage) -> asyncio.Future[ReplyMessage]:
        """The same without waiting; commands of one room are handled in the order of their submission."""
        return self._submit(room, message, ())

    async def perform(self, room: str, commands: Sequence[C]) -> None:
        """Internal commands; that one is refused is the domain's own affair. Raises `Refusal` when they came to nothing
        for a reason of the shell, and `TimeoutError` as `execute` does.
        """
        reply = await self._submit(room, None, commands)
        if reply.error is not UNSET:
            raise Refusal.of(reply.error)

    async def view(self, room: str) -> Room[S, C, E]:
        """The room, loaded and up to date with the log. Raises as `perform` does."""
        await self.perform(room, ())
        return self._rooms[room]

    def loaded(self, room: str) -> Room[S, C, E] | None:
        """The room if it is in memory; how fresh, is not said."""
        found = self._rooms.get(room)
        return found if found is not None and found.loaded else None

    def measure(self) -> None:
        """Brings up to date the metrics that are only looked at now and then."""
        now = time.monotonic()
        unsaved = (room.unsaved_since for room in self._rooms.values() if room.loaded and room.unsaved)
        self._metrics.snapshot_age.set(now - min(unsaved, default=now))
        self._metrics.waiting.set(self._queued)

    def _submit(
        self, room: str, message: CommandMessage | None, commands: Sequence[C]
    ) -> asyncio.Future[ReplyMessage]:
        waiting = _waiting(message, commands)
        if message is not None and (self._stopping or self._queued >= QUEUED_AT_MOST):
            refusal = Refusal("overloaded", "The service takes no more just now")
            _settle(waiting, ReplyMessage(error=refusal.body))
            return waiting.answer
        self._queues.setdefault(room, deque()).append(waiting)
        self._queued += 1
        if room not in self._writers:
            self._writers[room] = asyncio.create_task(self._write(room), name=f"writer:{room}")
        return waiting.answer

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
                left = await self._handle(room, batch)
                queue.extendleft(reversed(left))
                self._queued += len(left)
                if not room.loaded:
                    self._wake_at(
                        room, self._clock() + int(UNDUE_FOR * 1000)
                    )  # or what is due would be forgotten
                elif self._save_is_due(room):
                    self._save(room)
        finally:
            del self._writers[name], self._queues[name]
            self._metrics.rooms.set(len(self._rooms))

    async def _handle(self, room: Room[S, C, E], batch: list[_Waiting]) -> list[_Waiting]:
        """Stores and answers the batch, or gives it up; returns what did not fit into one message."""
        pause = FIRST_PAUSE
        while batch := [waiting for waiting in batch if not _given_up(waiting)]:
            due = False
            try:
                async with asyncio.timeout(batch[0].since + PATIENCE - time.monotonic()):
                    if not room.loaded:
                        await room.load(self._metrics)
                    due = room.undue_until <= time.monotonic()
                    return await self._attempt(room, batch, due)
            except Poison as poison:
                log.exception("command.failed", room=room.name, error=repr(poison.__cause__))
                _settle(poison.work, ReplyMessage(error=Refusal("internal").body))
                if all(waiting is not poison.work for waiting in batch):
                    room.undue_until = time.monotonic() + UNDUE_FOR
            except LogFull as error:
                self._metrics.full.inc()
                log.error("log.full", room=room.name, commands=len(batch), error=str(error))
                room.loaded = False
                if len(batch) > 1:  # each may fit alone
                    half, rest = batch[: len(batch) // 2], batch[len(batch) // 2 :]
                    left = await self._handle(room, half)
                    return [*left, *rest] if left else await self._handle(room, rest)
                if not due:
                    refusal = Refusal("overloaded", "The log cannot take this just now")
                    _settle(batch[0], ReplyMessage(error=refusal.body))
                room.undue_until = time.monotonic() + UNDUE_FOR
            except Conflict:
                self._metrics.conflicts.inc()
            except (LogUnavailable, TimeoutError) as error:
                self._metrics.unavailable.inc()
                if pause == FIRST_PAUSE:
                    log.warning("log.unavailable", room=room.name, error=repr(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, 0.5)
            except Exception as error:  # noqa: BLE001 - whatever it was, only this batch suffers
                log.exception("handler.failed", room=room.name, error=repr(error))
                for waiting in batch:
                    _settle(waiting, ReplyMessage(error=Refusal("internal").body))
            # The state may hold what the log does not.
            room.loaded = False
        return []

    async def _attempt(self, room: Room[S, C, E], batch: list[_Waiting], due: bool) -> list[_Waiting]:
        while True:
            round_ = self._decide(room, batch, due)
            if round_.stored:
                await self._append(room, round_.stored)
                break
            # What is answered without an append must have been decided on what the log says now.
            if not await room.catch_up():
                break
        for one in round_.decided:
            self._reply(room, one, len(round_.stored))
        for waiting in round_.repeats:
            await self._repeat(room, waiting)
        for waiting in round_.queries:
            _settle(waiting, await self._query(room, waiting))
        self._wake_at(room, self._due(room, self._clock())[1])
        return round_.left

    def _decide(self, room: Room[S, C, E], batch: list[_Waiting], due: bool) -> Round[_Waiting, E]:
        now = self._clock()
        commands = self._due(room, now)[0] if due else ()
        if commands:
            batch = [_waiting(None, commands), *batch]
        return decide_round(self.domain, room, batch, now)

    def _due(self, room: Room[S, C, E], now: int) -> tuple[Sequence[C], int | None]:
        try:
            return self.domain.due(room.state, now)
        except Exception as error:  # noqa: BLE001
            log.exception("due.failed", room=room.name, error=repr(error))
            return (), now + int(UNDUE_FOR * 1000)

    async def _append(self, room: Room[S, C, E], stored: list[StoredEvent]) -> None:
        occupied = self.domain.occupied(room.state)
        payload = _encode(StoredMessage(tuple(stored), UNSET if occupied is None else occupied))
        began = time.perf_counter()
        seq = await self.log.append(room.name, payload, room.expected)
        self._metrics.append_seconds.observe(time.perf_counter() - began)
        self._metrics.batch_events.observe(len(stored))
        room.note(seq, payload, stored)

    def _reply(self, room: Room[S, C, E], one: Decided[_Waiting, E], events_in_all: int) -> None:
        waiting, message = one.work, one.work.message
        if one.refusal is not None:
            _settle(waiting, ReplyMessage(str(Position(room.seq)), error=one.refusal.body))
        elif message is None:
            _settle(waiting, ReplyMessage(str(Position(room.seq))))
        else:
            position = Position.of(room.seq, one.end - 1, events_in_all) if one.end else Position(room.seq)
            _settle(waiting, self._answered(room, message, one.events, position, message.seen))

    def _answered(
        self, room: Room[S, C, E], message: CommandMessage, events: Sequence[E], position: Position, seen: str
    ) -> ReplyMessage:
        try:
            data = self.domain.answer(room.state, message, events)
            return ReplyMessage(str(position), Raw(b"{}") if data is None else to_json(data), seen=seen)
        except Exception as error:  # noqa: BLE001 - it is stored; only its answer is lost
            log.exception("answer.failed", room=room.name, method=message.method, error=repr(error))
            return ReplyMessage(str(position), error=Refusal("internal").body)

    async def _repeat(self, room: Room[S, C, E], waiting: _Waiting) -> None:
        message = waiting.message
        assert message is not None
        self._metrics.repeats.inc()
        place = room.recent.find(key_of(message.user, message.method, message.id))
        if place is None:
            # Its twin in this very batch was refused: so it is a first one.
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
        _settle(waiting, self._answered(room, message, *found))

    async def _query(self, room: Room[S, C, E], waiting: _Waiting) -> ReplyMessage:
        message = waiting.message
        assert message is not None
        position = str(Position(room.seq))
        try:
            return ReplyMessage(position, to_json(await self.domain.query(room, message)))
        except Refusal as refusal:
            return ReplyMessage(position, error=refusal.body)
        except (LogUnavailable, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001
            log.exception("query.failed", room=room.name, method=message.method, error=repr(error))
            return ReplyMessage(position, error=Refusal("internal").body)

    def _may_save(self, room: Room[S, C, E]) -> bool:
        """Only between batches is the state what the log says."""
        return (
            room.loaded
            and room.unsaved > 0
            and room.name not in self._writers
            and room.name not in self._saving
        )

    def _save_is_due(self, room: Room[S, C, E]) -> bool:
        return (
            room.loaded
            and room.unsaved >= max(SNAPSHOT_EVENTS, room.saved_bytes / SNAPSHOT_BYTES_PER_EVENT)
            and time.monotonic() - room.saved_at > SAVE_EVERY
            and room.name not in self._saving
        )

    def _save(self, room: Room[S, C, E]) -> None:
        """Takes the snapshot now and writes it in the background, one at a time for each room."""
        events, room.unsaved, room.saved_at = room.unsaved, 0, time.monotonic()
        try:
            snapshot = room.dump()
        except Exception as error:  # noqa: BLE001
            log.exception("snapshot.failed", room=room.name, error=repr(error))
            return
        writing = self._write_snapshot(room, snapshot, events)
        self._saving[room.name] = asyncio.create_task(writing, name=f"save:{room.name}")

    async def _write_snapshot(self, room: Room[S, C, E], snapshot: Snapshot, events: int) -> None:
        try:
            room.saved_bytes = await self._snapshots.save(room.name, snapshot)
            self._metrics.snapshots.labels("written").inc()
        except Exception as error:  # noqa: BLE001 - a snapshot only saves replay: the next one will do
            room.unsaved += events
            self._metrics.snapshots.labels("failed").inc()
            log.warning("snapshot.failed", room=room.name, error=repr(error))
        finally:
            del self._saving[room.name]

    def _wake_at(self, room: Room[S, C, E], when: int | None) -> None:
        alarm = self._alarms.pop(room.name, None)
        if alarm is not None:
            alarm.cancel()
        if when is not None and not self._stopping:
            earliest = max(WAKE_AFTER, room.undue_until - time.monotonic())
            delay = max(earliest, (when - self._clock()) / 1000)
            self._alarms[room.name] = asyncio.get_running_loop().call_later(delay, self._wake, room.name)

    def _wake(self, name: str) -> None:
        self._alarms.pop(name, None)
        self._submit(name, None, ())

    async def _keep_house(self) -> None:
        """Saves rooms that came to rest and forgets those that nobody has used for long."""
        while True:
            await asyncio.sleep(KEEP_HOUSE_EVERY)
            now = time.monotonic()
            for name, room in tuple(self._rooms.items()):
                idle = now - room.used_at
                if idle > IDLE_SAVE and len(self._saving) < SAVES_AT_ONCE and self._may_save(room):
                    self._save(room)
                if idle > IDLE_UNLOAD and not (
                    name in self._alarms or name in self._writers or name in self._saving
                ):
                    del self._rooms[name]
            self._metrics.rooms.set(len(self._rooms))


def _waiting(message: CommandMessage | None, commands: Sequence[Any] = ()) -> _Waiting:
    return _Waiting(message, commands, asyncio.get_running_loop().create_future(), time.monotonic())


def _given_up(waiting: _Waiting) -> bool:
    if waiting.answer.done():
        return True
    if time.monotonic() - waiting.since >= PATIENCE:
        waiting.answer.set_exception(TimeoutError("the log did not take it in time"))
        waiting.answer.exception()
        return True
    return False


def _settle(waiting: _Waiting, reply: ReplyMessage) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(reply)
