"""Shell layer: all live rooms and connections of this gateway, and its limits on them. Speaks no transport."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Final

import nats.errors
from nats.aio.subscription import Subscription

from roundtable.common.command_handler import now_ms
from roundtable.common.eventlog import LogUnavailable
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import SERVICES
from roundtable.common.telemetry import log

from .config import GatewaySettings
from .metrics import GatewayMetrics
from .ratelimit import Refusals, TokenBucket
from .relay import Relay
from .room import Room

if TYPE_CHECKING:
    from .connection import Connection

OPEN_TIMEOUT: Final = 5.0
AUDITS_AT_ONCE: Final = 16
CHECK_EVERY: Final = 0.25


class Hub:
    def __init__(self, relay: Relay, settings: GatewaySettings, metrics: GatewayMetrics) -> None:
        self.rooms: Final[dict[str, Room]] = {}
        self.connections: Final[dict[str, Connection]] = {}
        self._relay = relay
        self._settings = settings
        self._metrics = metrics
        self._users: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self._buckets: dict[str, TokenBucket] = {}
        self._refusals: dict[str, Refusals] = {}
        self._subscriptions: dict[Room, list[Subscription]] = {}
        self._seen: dict[str, dict[str, float]] = {}
        """Signs of life in rooms that are live no more."""
        self._tasks: list[asyncio.Task[None]] = []
        self._check: Callable[[float], None] = lambda _: None

    def start(self, check: Callable[[float], None]) -> None:
        """`check` is called with the time at each round of the house's keeping."""
        self._check = check
        self._tasks = [
            asyncio.create_task(self._keep_house(), name="hub"),
            asyncio.create_task(self._audit(), name="audit"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    # -- rooms

    @contextlib.asynccontextmanager
    async def live(self, name: str) -> AsyncIterator[Room]:
        """The room, live for as long as the block runs and a little longer. Raises `Refusal("unavailable")`."""
        room = self.rooms.get(name)
        if room is None:
            room = self.rooms[name] = Room(name, self._relay, self._settings, self._metrics)
            room.opened = asyncio.create_task(self._open(room), name=f"open:{name}")
            self._metrics.rooms.set(len(self.rooms))
        room.holders += 1
        try:
            assert room.opened is not None
            if not room.opened.done():
                async with asyncio.timeout(OPEN_TIMEOUT):
                    await asyncio.shield(room.opened)
            room.opened.result()
            yield room
        except (TimeoutError, LogUnavailable, nats.errors.Error) as error:
            raise Refusal("unavailable", "The room's log did not answer in time") from error
        finally:
            room.holders -= 1
            room.used_until = time.monotonic() + self._settings.room_linger

    async def _open(self, room: Room) -> None:
        """Subscription first, then where the logs are: nothing is between them."""
        try:
            self._subscriptions[room] = await self._relay.listen(room)
            last, _ = await asyncio.gather(
                asyncio.gather(*(self._relay.logs[service].last(room.name) for service in SERVICES)),
                room.look_around(),
            )
            if self.rooms.get(room.name) is not room:
                raise LogUnavailable("the logs were exchanged meanwhile")
            room.begin(last)
        except BaseException:
            await self._close(room)
            raise

    async def _close(self, room: Room) -> None:
        if self.rooms.get(room.name) is room:
            del self.rooms[room.name]
        if room.seen:
            self._seen[room.name] = self._seen.get(room.name, {}) | room.seen
        self._metrics.rooms.set(len(self.rooms))
        await self._relay.forget(self._subscriptions.pop(room, []))

    async def _keep_house(self) -> None:
        rounds = 0
        while True:
            await asyncio.sleep(CHECK_EVERY)
            rounds += 1
            try:
                await self._keep_round(time.monotonic(), rounds % 4 == 0)
            except Exception as error:  # noqa: BLE001 - without this task no token ends and nobody is missed
                log.exception("house.failed", error=repr(error))

    async def _keep_round(self, now: float, whole: bool) -> None:
        for connection in tuple(self.connections.values()):
            if now >= connection.next_check:
                connection.check(now)
        self._check(now)
        if not whole:
            return
        for room in tuple(self.rooms.values()):
            if not (room.fanout.members or room.pollers or room.holders) and now > room.used_until:
                await self._close(room)
        for user, bucket in tuple(self._buckets.items()):
            if not self._users[user] and bucket.full(now):
                del self._buckets[user]
        for user, refusals in tuple(self._refusals.items()):
            if refusals.past(now):
                del self._refusals[user]

    # -- what no event has betrayed

    async def _audit(self) -> None:
        while True:
            await asyncio.sleep(self._settings.audit_seconds)
            try:
                await self.audit()
            except Exception as error:  # noqa: BLE001 - NATS may be away; the next one finds what this one did not
                log.warning("audit.failed", error=repr(error))

    async def audit(self) -> None:
        """Compares every live room with the logs: after a reconnect of NATS, and now and then."""
        gate = asyncio.Semaphore(AUDITS_AT_ONCE)

        async def one(room: Room) -> None:
            async with gate:
                await room.audit()

        rooms = [
            room
            for room in self.rooms.values()
            if room.opened and room.opened.done() and not room.opened.exception()
        ]
        await asyncio.gather(*map(one, rooms))

    async def reconnected(self) -> None:
        """NATS is back: are the logs still the same, and what have we missed?"""
        while True:
            try:
                changed = await self._relay.renew_epochs()
                break
            except (TimeoutError, nats.errors.Error) as error:
                log.warning("epoch.unknown", error=repr(error))
                await asyncio.sleep(0.5)
        if changed:
            log.error("logs.changed", rooms=len(self.rooms))
            for connection in tuple(self.connections.values()):
                connection.end(Refusal("unavailable", "The logs are others than before"))
            for room in tuple(self.rooms.values()):
                for poller in room.pollers:
                    poller.end()
                await self._close(room)
            return
        await self.audit()

    # -- connections and their limits

    def admit(self, user: str, address: str) -> None:
        """Counts a connection in. Raises `Refusal("rate_limited")` where there would be too many (LI3)."""
        settings = self._settings
        if settings.max_connections_per_user and self._users[user] >= settings.max_connections_per_user:
            raise Refusal(
                "rate_limited",
                f"A user may have {settings.max_connections_per_user} connections here",
                retry_after=5,
            )
        self._check_address(address)
        if settings.max_connections and len(self.connections) >= settings.max_connections:
            raise Refusal("overloaded", "This gateway is full")
        self._users[user] += 1
        self._addresses[address] += 1

    def _check_address(self, address: str) -> None:
        most = self._settings.max_connections_per_address
        if address and most and self._addresses[address] >= most:
            raise Refusal("rate_limited", f"One address may have {most} connections here", retry_after=5)

    @contextlib.contextmanager
    def stranger(self, address: str) -> Iterator[None]:
        """One who has not said yet who they are counts for their address. Raises as `admit`."""
        self._check_address(address)
        self._addresses[address] += 1
        try:
            yield
        finally:
            self._addresses[address] -= 1
            if self._addresses[address] <= 0:
                del self._addresses[address]

    def dismiss(self, user: str, address: str) -> None:
        for counter, key in ((self._users, user), (self._addresses, address)):
            counter[key] -= 1
            if counter[key] <= 0:
                del counter[key]

    def bucket(self, user: str) -> TokenBucket | None:
        """The user's, shared by all their connections here; None where there is no limit."""
        most = self._settings.messages_per_minute
        if not most:
            return None
        bucket = self._buckets.get(user)
        if bucket is None:
            bucket = self._buckets[user] = TokenBucket(most, most, time.monotonic())
        return bucket

    def refusals(self, user: str) -> Refusals:
        """Those of a user by /rpc, where each request is a session of its own."""
        return self._refusals.setdefault(user, Refusals())

    # -- signs of life

    def last_seen(self, room: str, user: str) -> int:
        """When a user was last heard here, if presence does not know it yet (ms); else 0."""
        live = self.rooms.get(room)
        seen = live.seen.get(user) if live is not None else None
        return 0 if seen is None else now_ms() - round((time.monotonic() - seen) * 1000)

    def take_seen(self) -> dict[str, dict[str, int]]:
        """Signs of life since the last time: room to user to ms."""
        taken, self._seen = self._seen, {}
        for room in self.rooms.values():
            if room.seen:
                taken[room.name] = taken.get(room.name, {}) | room.seen
                room.seen = {}
        zero = now_ms() - time.monotonic() * 1000
        return {
            room: {user: round(zero + at * 1000) for user, at in seen.items()} for room, seen in taken.items()
        }
