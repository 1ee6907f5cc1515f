"""Service layer: follows the logs of presence and canvas and posts what they mean for the feed (AC8).

Once and in order, whatever dies: a follower takes a log's messages one after another, and a room's state remembers the last
source that was derived in it (`decider.State.reached`). So a follower may start again anywhere before its place, and several
may run at once: what one has done is nothing new for the other, and none can overtake. The place is written down now and
then, only to save work.

Not a durable consumer with acknowledgements: redelivery changes the order, unless one message alone is in hand at a time; and
that gave 700 messages a second on three servers, and 1.4 ms of their processor time for each, against 30,000 and 0.01 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import msgspec
import nats.errors
import nats.js.errors
from msgspec import UNSET
from nats.aio.client import Client
from prometheus_client import CollectorRegistry, Counter, Gauge

from roundtable.common import subjects
from roundtable.common.eventlog import LogMessage
from roundtable.common.provision import EPOCH
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage, ReplyMessage, Service
from roundtable.common.telemetry import log

from . import derivation
from .tail import Broken, Tail

Execute = Callable[[str, CommandMessage], Awaitable[ReplyMessage]]
"""Room and command to answer: the handler's `execute`, or a way to the room's owner."""

FOLLOWED: Final[tuple[Service, ...]] = ("presence", "canvas")
SAVE_EVERY: Final = 2.0
LOOK_EVERY: Final = 0.25
ROOMS_AT_ONCE: Final = 32
TRIES: Final = 5
"""Of a command that fails for a reason of its own (`internal`); one that finds the log away is tried for ever."""
SLOWEST_RETRY: Final = 2.0

_TRY_AGAIN: Final = frozenset({"unavailable", "overloaded"})


class FollowMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag = Gauge(
            "roundtable_follow_lag",
            "Messages of a followed log that are still to be read",
            ("log",),
            registry=registry,
        )
        self.derived = Counter(
            "roundtable_follow_derived",
            "Events of a followed log posted to the feed",
            ("log",),
            registry=registry,
        )
        self.skipped = Counter(
            "roundtable_follow_skipped",
            "Messages or events of a followed log that could not be read or posted",
            ("log",),
            registry=registry,
        )
        self.reopened = Counter(
            "roundtable_follow_reopened",
            "Times that reading a followed log was interrupted",
            ("log",),
            registry=registry,
        )


class Place(NamedTuple):
    """How far a log was followed: all up to `seq` of that incarnation."""

    log: str
    seq: int


class _Ended(Exception):
    """It is not for us to go on."""


class Follower:
    """Follows one service's log. Safe in every replica at once; `active` says where it is worth while."""

    def __init__(
        self,
        client: Client,
        service: Service,
        execute: Execute,
        metrics: FollowMetrics,
        active: Callable[[], bool] = lambda: True,
    ) -> None:
        self._client = client
        self._service: Service = service
        self._stream = subjects.stream(service)
        self._execute = execute
        self._metrics = metrics
        self._active = active
        self._place: Place | None = None
        self._saved: Place | None = None
        self._saved_at = 0.0
        self._tail: Tail | None = None
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._running = asyncio.create_task(self._run(), name=f"follow:{self._service}")

    async def stop(self) -> None:
        """Ends between two commands and writes down the place."""
        self._stopping.set()
        if self._tail is not None:
            self._tail.interrupt()
        if self._running is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await asyncio.shield(self._running)
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    async def _run(self) -> None:
        pause = LOOK_EVERY
        while not self._stopping.is_set():
            if not self._active():
                self._place = None  # others go on from here: theirs will be newer
                await self._wait(LOOK_EVERY)
                continue
            before = self._place
            try:
                await self._follow()
            except _Ended:
                continue
            except (Broken, nats.errors.Error, TimeoutError, OSError) as error:
                self._metrics.reopened.labels(self._service).inc()
                log.warning("follow.interrupted", log=self._service, error=repr(error))
            except Exception as error:  # noqa: BLE001 - the feed must not stop for ever by one surprise
                log.exception("follow.failed", log=self._service, error=repr(error))
            pause = LOOK_EVERY if self._place != before else min(pause * 2, SLOWEST_RETRY)
            await self._wait(pause)

    async def _follow(self) -> None:
        place = await self._begin()
        async with Tail(self._client, self._stream, place.seq) as tail:
            self._tail = tail
            log.info("follow.began", log=place.log, after=place.seq)
            try:
                while self._going():
                    messages = await tail.take()
                    self._metrics.lag.labels(self._service).set(tail.pending + len(messages))
                    if messages:
                        await self._derive(place.log, messages)
                        place = self._place = Place(place.log, messages[-1].seq)
                        self._metrics.lag.labels(self._service).set(tail.pending)
                    if place != self._saved and time.monotonic() - self._saved_at > SAVE_EVERY:
                        await self._save(place)
            finally:
                if place != self._saved and self._client.is_connected:
                    with contextlib.suppress(nats.errors.Error, TimeoutError):
                        await self._save(place)
        self._metrics.lag.labels(self._service).set(0)

    def _going(self) -> bool:
        return self._active() and not self._stopping.is_set()

    async def _begin(self) -> Place:
        """Where we were, or else where it was written down that somebody was; a log that is another one, from its start."""
        info = await self._client.jetstream(timeout=2).stream_info(self._stream)
        incarnation = (info.config.metadata or {}).get(EPOCH) or f"{info.created:%Y%m%d%H%M%S}"
        name = f"{self._service}@{incarnation[:16]}"
        place = self._place or await self._load()
        if place is None or place.log != name:
            place = Place(name, 0)
        self._place = Place(name, min(place.seq, info.state.last_seq))
        return self._place

    async def _derive(self, name: str, messages: Sequence[LogMessage]) -> None:
        """Posts what the messages mean: in order within a room, rooms side by side."""
        rooms: dict[str, list[CommandMessage]] = {}
        for message in messages:
            commands, unreadable = derivation.derive(self._service, name, message)
            if unreadable:
                self._metrics.skipped.labels(self._service).inc(unreadable)
                log.error("follow.unreadable", log=name, seq=message.seq, events=unreadable)
            if commands:
                rooms.setdefault(message.room, []).extend(commands)
        if not rooms:
            return
        limit = asyncio.Semaphore(ROOMS_AT_ONCE)

        async def one_room(room: str, commands: Sequence[CommandMessage]) -> None:
            async with limit:
                for command in commands:
                    await self._post(room, command)

        results = await asyncio.gather(*(one_room(*each) for each in rooms.items()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _post(self, room: str, command: CommandMessage) -> None:
        """Returns when the command has taken effect, or never will. Raises `_Ended` when we are told to leave it."""
        pause, tries = 0.05, 0
        while True:
            if not self._going():
                raise _Ended
            try:
                reply = await self._execute(room, command)
                refusal = None if reply.error is UNSET else Refusal.of(reply.error)
            except Refusal as error:
                refusal = error
            except TimeoutError:
                refusal = Refusal("unavailable")
            if refusal is None:
                self._metrics.derived.labels(self._service).inc()
                return
            tries += 1
            again = refusal.reason in _TRY_AGAIN or (refusal.reason == "internal" and tries < TRIES)
            log.warning("follow.refused", room=room, source=command.id, error=str(refusal), again=again)
            if not again:
                self._metrics.skipped.labels(self._service).inc()
                return
            await self._wait(pause)
            pause = min(pause * 2, SLOWEST_RETRY)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    @property
    def _key(self) -> str:
        """In the bucket of the service's snapshots, where no room can have that name."""
        return f"$KV.{subjects.snapshot_bucket('activity')}.follow.{self._service}"

    async def _load(self) -> Place | None:
        jetstream = self._client.jetstream(timeout=2)
        try:
            stored = await jetstream.get_last_msg(f"KV_{subjects.snapshot_bucket('activity')}", self._key)
            self._saved = msgspec.json.decode(stored.data or b"", type=Place)
        except (nats.js.errors.NotFoundError, msgspec.MsgspecError):
            self._saved = None
        return self._saved

    async def _save(self, place: Place) -> None:
        await self._client.jetstream(timeout=2).publish(self._key, msgspec.json.encode(place))
        self._saved, self._saved_at = place, time.monotonic()


def start_following(
    client: Client, execute: Execute, registry: CollectorRegistry, active: Callable[[], bool] = lambda: True
) -> Callable[[], Awaitable[None]]:
    """Follows both logs; the result ends it. One of several replicas should be `active`; more are harmless, none is not."""
    metrics = FollowMetrics(registry)
    followers = [Follower(client, service, execute, metrics, active) for service in FOLLOWED]
    for follower in followers:
        follower.start()

    async def stop() -> None:
        await asyncio.gather(*(follower.stop() for follower in followers))

    return stop
