"""Shell layer: sees to it that no ghost survives any crash (PR2): each connection in any room belongs to a live lease.

A *sweep* looks through the rooms of this replica's partitions in which somebody is. It takes the gateways that a room names
first and the live leases second: a lease is always stored before its first connection, so a gateway that is missing then is
dead, and not just new. It must be missing twice, with a pause, for an absence may also be an old leader's ignorance or the
moment in which a gateway takes its lease anew. Looking at a room loads it, and with that its timers run on (graces of
people whose replica has died).

Sweeps happen at start, when partitions come or go, when a lease ends (told by its marker, or found out within a tick), and
at intervals all the same. After a break of NATS, or if the whole machine has slept, gateways get a moment to renew first:
leases may have ended for want of a server, and nobody has left.

The reaper also tells a room's state whether signs of life come to this replica (`decider.Hearing`): it knows who owns what.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final, Protocol, TypeVar

import msgspec
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from roundtable.common import subjects
from roundtable.common.command_handler import CommandHandler, now_ms
from roundtable.common.eventlog import LogUnavailable
from roundtable.common.leases import GatewayLeases
from roundtable.common.room import Room
from roundtable.common.sharding import partition_of
from roundtable.common.tasks import end
from roundtable.common.telemetry import FAST, log

from .decider import Command, DropGateways, Fact, State

T = TypeVar("T")

AT_ONCE: Final = 32
"""Rooms that a sweep looks at at the same time."""


class Timing(Struct, frozen=True):
    """Seconds. From a death to its telling at most: a lease's 10, a tick, the pause, and the work; in all below 15 (PR2)."""

    tick: float = 1.0
    """Between two looks at the leases and at what we own."""
    every: float = 30.0
    """Between two sweeps for which there is no reason."""
    confirm: float = 1.5
    """Between the two absences that make a gateway dead."""
    settle: float = 3.0
    """After a break, before absences count."""


USUAL: Final = Timing()


class LiveLeases(Protocol):
    async def live_gateways(self) -> frozenset[str]:
        """Raises when it cannot be known."""
        ...


class ReaperMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.leases = Gauge(
            "roundtable_presence_leases",
            "Gateways whose lease is live, as this replica last saw",
            registry=registry,
        )
        self.dead = Counter(
            "roundtable_presence_dead_gateways",
            "Gateways that this replica found dead with connections left in its rooms",
            registry=registry,
        )
        self.sweep_seconds = Histogram(
            "roundtable_presence_sweep_seconds",
            "Looking through all occupied rooms of this replica",
            buckets=FAST,
            registry=registry,
        )


class SweepIncomplete(Exception):
    """Some rooms could not be looked at; the next sweep will."""


class _Head(Struct):
    """Of a room's last message, all that the directory needs."""

    occupied: bool = False


_head = msgspec.json.Decoder(_Head).decode


class Reaper:
    def __init__(
        self,
        handler: CommandHandler[State, Command, Fact],
        leases: LiveLeases,
        owned: Callable[[], frozenset[int]],
        metrics: ReaperMetrics,
        *,
        clock: Callable[[], int] = now_ms,
        timing: Timing = USUAL,
    ) -> None:
        self._handler = handler
        self._leases = leases
        self._owned = owned
        self._metrics = metrics
        self._clock = clock
        self._timing = timing
        self._wanted = True
        """A sweep is due."""
        self._woken = asyncio.Event()
        self._swept_for: frozenset[int] = frozenset()
        self._swept_at = 0.0
        self._calm_from = 0.0
        self._known: frozenset[str] = frozenset()
        """Gateways that have been live since the last sweep."""
        self._listening: set[str] = set()
        self._unarmed: set[str] = set()
        """Rooms to which we listen but newly, without a timer for that yet: there is time, the dead come first."""
        self._subscriptions: list[Subscription] = []
        self._running: asyncio.Task[None] | None = None
        self._viewing: set[asyncio.Task[object]] = set()

    async def start(self, client: Client) -> None:
        """Begins to watch and to sweep."""

        async def on_stored(message: Msg) -> None:
            self.noticed(subjects.room_of(message.subject))

        self._subscriptions = [
            await GatewayLeases(client).watch_expiry(lambda _: self.wake()),
            await client.subscribe(subjects.out("presence", "*"), cb=on_stored),
        ]
        self.run()

    def run(self) -> None:
        """The same without NATS: only ticks and `wake` then lead to sweeps."""
        self._running = asyncio.create_task(self._run(), name="reaper")

    async def stop(self) -> None:
        await end(self._running, *self._viewing)
        for subscription in self._subscriptions:
            with suppress(Exception):
                await subscription.unsubscribe()

    def wake(self) -> None:
        """There is a reason to sweep."""
        self._wanted = True
        self._woken.set()

    def noticed(self, name: str) -> None:
        """Something was stored in that room. If it is ours and new to us, we begin to count its people's silence."""
        room = self._handler.loaded(name)
        if room is None or not room.state.users or partition_of(name) not in self._owned():
            return
        if not room.state.gateways.keys() <= self._known:
            self._wanted = True  # a new one, or one whose words arrived after its death
        if room.state.hearing.since is None:
            self._listen(room)
            task = asyncio.create_task(_quietly(self._handler.view(name)))  # so that its timers are set anew
            self._viewing.add(task)
            task.add_done_callback(self._viewing.discard)

    async def sweep(self) -> None:
        """Looks through all occupied rooms that are ours, and drops what is dead. Raises when that was not possible."""
        owned = self._owned()
        rooms = self._remembered(owned)
        async for head in self._handler.log.heads():
            if partition_of(head.room) in owned and _occupied(head.payload):
                rooms[head.room] = head.seq
        named: dict[str, frozenset[str]] = {}

        async def look(name: str) -> None:
            named[name] = await self._look_at(name, rooms[name])

        failed = await _each(rooms, look)
        dead = frozenset().union(*named.values())
        if dead:
            dead -= await self._leases.live_gateways()
        if dead:
            await asyncio.sleep(self._timing.confirm)
            dead -= await self._leases.live_gateways()
        if dead:
            haunted = [name for name, gateways in named.items() if gateways & dead]
            self._metrics.dead.inc(len(dead))
            log.info("gateways.dead", gateways=sorted(dead), rooms=len(haunted))
            failed |= await _each(haunted, lambda name: self._drop(name, dead))
        fresh, self._unarmed = self._unarmed, set()
        failed |= await _each(fresh, self._arm)
        if failed:
            raise SweepIncomplete(f"{len(failed)} of {len(rooms)} rooms")

    async def _run(self) -> None:
        while True:
            before = time.time()
            with suppress(asyncio.TimeoutError):
                async with asyncio.timeout(self._timing.tick):
                    await self._woken.wait()
            self._woken.clear()
            if time.time() - before > self._timing.tick + self._timing.settle:
                self._unsettle()  # we have slept, and perhaps all others
            try:
                await self._tick()
            except Exception as error:  # noqa: BLE001 - whatever it was, it must be tried again
                log.warning("reaper.interrupted", error=repr(error))
                self._unsettle()

    def _unsettle(self) -> None:
        self._wanted, self._calm_from = True, time.monotonic() + self._timing.settle

    async def _tick(self) -> None:
        owned = self._owned()
        if owned != self._swept_for:
            self._wanted = True
            self._deafen(owned)
        live = await self._leases.live_gateways()
        self._metrics.leases.set(len(live))
        if not self._known <= live or time.monotonic() - self._swept_at >= self._timing.every:
            self._wanted = True
        self._known |= live
        if self._wanted and time.monotonic() >= self._calm_from:
            self._wanted = False
            with self._metrics.sweep_seconds.time():
                await self.sweep()
            self._swept_for, self._swept_at, self._known = owned, time.monotonic(), live

    def _remembered(self, owned: frozenset[int]) -> dict[str, int]:
        """Rooms in memory with somebody in them: the log may have let go of the last message of a quiet one."""
        self._listening = {name for name in self._listening if self._handler.loaded(name) is not None}
        loaded = {name: self._handler.loaded(name) for name in self._listening if partition_of(name) in owned}
        return {name: 0 for name, room in loaded.items() if room is not None and room.state.users}

    async def _look_at(self, name: str, seq: int) -> frozenset[str]:
        """The gateways that the room names; its timers run afterwards. No I/O if it is in memory and up to date."""
        room = self._handler.loaded(name)
        if room is None or room.seq < seq:
            room = await self._view(name)
        if room.state.hearing.since is None and room.state.users:
            self._listen(room)
            self._unarmed.add(name)
        return frozenset(room.state.gateways)

    async def _drop(self, name: str, dead: frozenset[str]) -> None:
        left = -1
        while True:
            room = await self._view(name)
            here = sum(count for gateway, count in room.state.gateways.items() if gateway in dead)
            if not here:
                return
            if here == left:
                raise LogUnavailable("the log does not take it")
            left = here
            await self._handler.perform(name, [DropGateways(dead, self._clock())])

    async def _arm(self, name: str) -> None:
        await self._view(name)

    async def _view(self, name: str) -> Room[State, Command, Fact]:
        room = await self._handler.view(name)
        if not room.loaded:
            raise LogUnavailable("the room did not load")
        return room

    def _listen(self, room: Room[State, Command, Fact]) -> None:
        room.state.hearing.listen(self._clock())
        self._listening.add(room.name)

    def _deafen(self, owned: frozenset[int]) -> None:
        """Rooms that others own now: their people's signs of life no longer come here."""
        for name in tuple(self._listening):
            if partition_of(name) not in owned:
                self._listening.discard(name)
                room = self._handler.loaded(name)
                if room is not None:
                    room.state.hearing.deafen()


def _occupied(payload: bytes) -> bool:
    try:
        return _head(payload).occupied
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return True  # not readable: loading it will tell


async def _quietly(work: Awaitable[T]) -> T | None:
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - the next sweep tries again
        log.warning("reaper.view_failed", error=repr(error))
        return None


async def _each(names: Iterable[str], act: Callable[[str], Awaitable[None]]) -> set[str]:
    """Acts on all, a few at a time; returns those for which it failed."""
    waiting, failed = iter(tuple(names)), set[str]()

    async def work() -> None:
        for name in waiting:
            try:
                await act(name)
            except Exception as error:  # noqa: BLE001 - one room's fault is not the others'
                log.warning("reaper.room_failed", room=name, error=repr(error))
                failed.add(name)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return failed
