"""The follower on a real nats-server: everything once, in order, whatever dies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import nats
import nats.errors
import pytest
from msgspec import UNSET
from nats.aio.client import Client
from prometheus_client import CollectorRegistry

from roundtable.activity import follow, tail
from roundtable.activity.follow import Follower, FollowMetrics, Place
from roundtable.activity.service import ActivityDomain
from roundtable.activity.tail import Broken, Tail
from roundtable.common import provision, subjects
from roundtable.common.command_handler import CommandHandler
from roundtable.common.config import Settings
from roundtable.common.eventlog import LogUnavailable
from roundtable.common.eventlog_jetstream import JetStreamEventLog
from roundtable.common.schema.canvas import Cleared, Drawn
from roundtable.common.schema.envelope import to_json
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage, ReplyMessage, Service, StoredEvent, StoredMessage
from roundtable.common.schema.presence import ConnectionOpened, PresenceData
from roundtable.common.snapshots import JetStreamSnapshots
from roundtable.common.telemetry import ServiceMetrics
from roundtable.common.testing.nats import NatsServer, nats_server

pytestmark = pytest.mark.rule("AC8")

NOW = 1_760_000_000_000


@asynccontextmanager
async def connected(server: NatsServer) -> AsyncIterator[Client]:
    async def quiet(_: Exception) -> None:
        pass

    client = await nats.connect(
        server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=quiet, connect_timeout=1
    )
    try:
        yield client
    finally:
        with contextlib.suppress(ConnectionError):
            await client.close()


class System:
    """A server with the streams, somebody who writes the followed logs, and replicas of the activity service."""

    def __init__(self, server: NatsServer, client: Client) -> None:
        self.server = server
        self.client = client
        self._replicas: list[tuple[Follower, CommandHandler[Any, Any, Any]]] = []
        self._stack = contextlib.AsyncExitStack()

    async def write(self, service: Service, room: str, *events: StoredEvent, raw: bytes | None = None) -> int:
        """Appends one message, however long the server takes to come back; returns its sequence."""
        payload = msgspec.json.encode(StoredMessage(events)) if raw is None else raw
        for _ in range(100):
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                answer = await self.client.request(subjects.events(service, room), payload, timeout=1)
                return int(msgspec.json.decode(answer.data)["seq"])
            await asyncio.sleep(0.05)
        raise TimeoutError("the server does not come back")

    async def joins(self, room: str, user: str, at: int = 0) -> int:
        data = ConnectionOpened(f"c-{user}", user, user.title(), "g", "websocket", NOW + at, True)
        return await self.write("presence", room, StoredEvent("presence.open", to_json(data), NOW + at, user))

    async def leaves(self, room: str, user: str, at: int = 0) -> int:
        data = PresenceData(user, "offline", NOW + at, user.title())
        return await self.write(
            "presence", room, StoredEvent("presence.update", to_json(data), NOW + at, user)
        )

    async def clears(self, room: str, user: str, at: int = 0) -> int:
        data = Cleared("all", user, ("a", "b"))
        return await self.write("canvas", room, StoredEvent("canvas.clear", to_json(data), NOW + at, user))

    async def draws(self, room: str, user: str) -> int:
        return await self.write("canvas", room, StoredEvent("canvas.draw", to_json(Drawn(())), NOW, user))

    async def replica(
        self,
        service: Service = "presence",
        execute: Callable[[CommandHandler[Any, Any, Any]], follow.Execute] = lambda handler: handler.execute,
        active: Callable[[], bool] = lambda: True,
    ) -> Follower:
        """A follower with a handler and a connection of its own; started."""
        client = await self._stack.enter_async_context(connected(self.server))
        registry = CollectorRegistry()
        metrics = ServiceMetrics(registry)
        handler = CommandHandler(
            ActivityDomain(),
            JetStreamEventLog(client, "activity"),
            JetStreamSnapshots(client, "activity"),
            metrics,
        )
        follower = Follower(client, service, execute(handler), FollowMetrics(registry), active)
        follower.start()
        self._replicas.append((follower, handler))
        return follower

    async def close(self) -> None:
        for follower, handler in self._replicas:
            await follower.stop()
            await handler.stop()
        await self._stack.aclose()

    async def feed(self, room: str) -> list[dict[str, Any]]:
        """Everything in the room's activity log, oldest first."""
        log, found, after = JetStreamEventLog(self.client, "activity"), list[dict[str, Any]](), 0
        while rows := await log.read(room, after):
            for row in rows:
                events = msgspec.json.decode(row.payload, type=StoredMessage).events
                found += [msgspec.json.decode(event.data) for event in events]
            after = rows[-1].seq
        return found

    async def told(self, room: str, number: int) -> list[tuple[str, str]]:
        """Type and user of the feed when it has that many activities, and a moment later, when it still must."""
        await until(lambda: self._has(room, number))
        await asyncio.sleep(0.1)
        return [(one["type"], one["userId"]) for one in await self.feed(room)]

    async def _has(self, room: str, number: int) -> bool:
        try:
            return len(await self.feed(room)) >= number
        except LogUnavailable:
            return False

    async def place(self, service: Service = "presence") -> Place | None:
        metrics = FollowMetrics(CollectorRegistry())
        return await Follower(self.client, service, no_execute, metrics)._load()


async def no_execute(room: str, command: CommandMessage) -> ReplyMessage:
    raise AssertionError


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(20):
        while not await condition():
            await asyncio.sleep(0.02)


def count(follower: Follower, metric: str) -> float:
    counter = getattr(follower._metrics, metric)
    return float(counter.labels(follower._service)._value.get())


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with nats_server() as server, connected(server) as client:
        await provision.provision(client, Settings())
        system = System(server, client)
        try:
            yield system
        finally:
            await system.close()


async def test_joins_leaves_and_clears_come_into_the_feed_with_their_own_times(system: System) -> None:
    await system.replica("presence")
    await system.joins("cave", "cleo", at=1)
    await system.leaves("cave", "cleo", at=2)
    await system.told("cave", 2)
    await system.replica("canvas")
    await system.draws("cave", "cleo")
    await system.clears("cave", "cleo", at=3)
    await system.told("cave", 3)
    feed = await system.feed("cave")
    assert [{**one, "id": ""} for one in feed] == [
        {
            "id": "",
            "type": "user_joined",
            "userId": "cleo",
            "username": "Cleo",
            "data": {},
            "timestamp": NOW + 1,
        },
        {
            "id": "",
            "type": "user_left",
            "userId": "cleo",
            "username": "Cleo",
            "data": {},
            "timestamp": NOW + 2,
        },
        {
            "id": "",
            "type": "map_updated",
            "userId": "cleo",
            "username": "Cleo",
            "data": {"mapId": "cave", "change": "cleared", "cleared": 2},
            "timestamp": NOW + 3,
        },
    ]


async def test_a_log_that_is_older_than_the_follower_is_followed_from_its_beginning(system: System) -> None:
    for number in range(700):
        await system.joins(f"room{number % 7}", f"u{number}")
    await system.replica()
    for room in range(7):
        users = [user for _, user in await system.told(f"room{room}", 100)]
        assert users == [f"u{number}" for number in range(room, 700, 7)]


async def test_a_follower_goes_on_where_the_last_one_stopped(system: System) -> None:
    first = await system.replica()
    await system.joins("cave", "ada")
    await system.told("cave", 1)
    await first.stop()
    place = await system.place()
    assert place is not None
    assert place.seq == 1
    await system.leaves("cave", "ada")
    second = await system.replica()
    assert await system.told("cave", 2) == [("user_joined", "ada"), ("user_left", "ada")]
    assert count(second, "derived") == 1


async def test_a_follower_that_knows_no_place_doubles_nothing(system: System) -> None:
    first = await system.replica()
    for user in ("ada", "bob"):
        await system.joins("cave", user)
    await system.told("cave", 2)
    await first.stop()
    await system.client.jetstream().purge_stream(f"KV_{subjects.snapshot_bucket('activity')}")
    await system.replica()
    await system.joins("cave", "cleo")
    assert [user for _, user in await system.told("cave", 3)] == ["ada", "bob", "cleo"]


async def test_two_followers_at_once_tell_everything_once_and_in_order(system: System) -> None:
    for number in range(60):
        await system.joins(f"room{number % 3}", f"u{number}")
    await asyncio.gather(*(system.replica() for _ in range(3)))
    for number in range(60, 120):
        await system.joins(f"room{number % 3}", f"u{number}")
    for room in range(3):
        users = [user for _, user in await system.told(f"room{room}", 40)]
        assert users == [f"u{number}" for number in range(room, 120, 3)]


async def test_crashes_of_the_server_lose_and_double_nothing(system: System) -> None:
    await system.replica()
    written = 0
    for _ in range(3):
        for _ in range(10):
            await system.joins("cave", f"u{written}")
            written += 1
        await system.server.restart()
    await system.joins("cave", "last")
    # A write that was not answered is repeated by `write`: so the log itself says what there is to tell.
    source = JetStreamEventLog(system.client, "presence")
    rows = await source.read("cave", 0)
    expected = [msgspec.json.decode(row.payload)["events"][0]["user"] for row in rows]
    assert len(expected) >= 30
    assert [user for _, user in await system.told("cave", len(expected))] == expected


async def test_what_cannot_be_read_is_counted_and_passed_over(system: System) -> None:
    follower = await system.replica()
    await system.write("presence", "cave", raw=b'{"events":["offline"')
    await system.write("presence", "cave", raw=b'"offline" \xff')
    await system.joins("cave", "ada")
    assert await system.told("cave", 1) == [("user_joined", "ada")]
    assert count(follower, "skipped") == 2


async def test_a_command_that_finds_the_service_away_is_repeated_before_any_later_one(system: System) -> None:
    failures = 0

    def sometimes(handler: CommandHandler[Any, Any, Any]) -> follow.Execute:
        async def execute(room: str, command: CommandMessage) -> ReplyMessage:
            nonlocal failures
            failures += 1
            if failures == 1:
                return ReplyMessage(error=Refusal("unavailable").body)
            if failures == 2:
                await handler.execute(room, command)  # took effect, but nobody heard
                raise TimeoutError
            if failures == 3:
                raise Refusal("overloaded")
            return await handler.execute(room, command)

        return execute

    await system.replica(execute=sometimes)
    for user in ("ada", "bob", "cleo"):
        await system.joins("cave", user)
    assert [user for _, user in await system.told("cave", 3)] == ["ada", "bob", "cleo"]
    assert failures == 6


async def test_a_command_that_never_works_is_given_up_and_does_not_hold_the_others(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "SLOWEST_RETRY", 0.01)

    def broken_for_bob(handler: CommandHandler[Any, Any, Any]) -> follow.Execute:
        async def execute(room: str, command: CommandMessage) -> ReplyMessage:
            if command.user == "bob":
                return ReplyMessage(error=Refusal("internal").body)
            if command.user == "dan":
                return ReplyMessage(error=Refusal("invalid_data").body)
            return await handler.execute(room, command)

        return execute

    follower = await system.replica(execute=broken_for_bob)
    for user in ("ada", "bob", "cleo", "dan", "eve"):
        await system.joins("cave", user)
    assert [user for _, user in await system.told("cave", 3)] == ["ada", "cleo", "eve"]
    assert count(follower, "skipped") == 2


async def test_an_idle_replica_follows_nothing_until_it_is_its_turn(system: System) -> None:
    turn = {"first": True, "second": False}
    first = await system.replica(active=lambda: turn["first"])
    second = await system.replica(active=lambda: turn["second"])
    await system.joins("cave", "ada")
    await system.told("cave", 1)
    assert (count(first, "derived"), count(second, "derived")) == (1, 0)
    turn.update(first=False, second=True)
    await until(lambda: _began(second))
    await system.leaves("cave", "ada")
    assert await system.told("cave", 2) == [("user_joined", "ada"), ("user_left", "ada")]
    await until(lambda: _stands_still(first))
    assert count(second, "derived") in (1, 2)


async def _began(follower: Follower) -> bool:
    return follower._place is not None


async def _stands_still(follower: Follower) -> bool:
    return follower._place is None


async def test_a_log_that_was_made_anew_is_followed_from_its_beginning(system: System) -> None:
    await system.replica()
    for user in ("ada", "bob"):
        await system.joins("cave", user)
    await system.told("cave", 2)
    await system.client.jetstream().delete_stream("PRESENCE")
    await provision.provision(system.client, Settings())
    await system.joins("cave", "cleo")
    assert [user for _, user in await system.told("cave", 3)] == ["ada", "bob", "cleo"]


async def test_the_place_is_written_down_while_following(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "SAVE_EVERY", 0.0)
    await system.replica("canvas")
    for _ in range(5):
        await system.draws("cave", "ada")

    async def written() -> bool:
        place = await system.place("canvas")
        return place is not None and place.seq == 5

    await until(written)


async def test_the_lag_is_told(system: System) -> None:
    gate = asyncio.Event()

    def waiting(handler: CommandHandler[Any, Any, Any]) -> follow.Execute:
        async def execute(room: str, command: CommandMessage) -> ReplyMessage:
            await gate.wait()
            return await handler.execute(room, command)

        return execute

    for number in range(tail.BATCH + 30):
        await system.joins("cave", f"u{number % 9}")
    follower = await system.replica(execute=waiting)

    async def behind() -> bool:
        return count(follower, "lag") > 30

    async def caught_up() -> bool:
        return count(follower, "lag") == 0

    await until(behind)
    gate.set()
    await until(caught_up)


async def test_stopping_does_not_wait_for_a_service_that_is_away(system: System) -> None:
    async def away(room: str, command: CommandMessage) -> ReplyMessage:
        return ReplyMessage(error=Refusal("unavailable").body)

    await system.joins("cave", "ada")
    follower = await system.replica(execute=lambda _: away)
    await until(lambda: _began(follower))
    with anyio.fail_after(4):
        await follower.stop()
    assert await system.place() in (None, Place((await _name(system)), 0))


async def _name(system: System) -> str:
    info = await system.client.jetstream().stream_info("PRESENCE")
    return f"presence@{(info.config.metadata or {})[provision.EPOCH][:16]}"


async def test_both_logs_are_followed_until_the_end(system: System) -> None:
    commands: list[str] = []

    async def execute(room: str, command: CommandMessage) -> ReplyMessage:
        commands.append(command.id.split("@")[0])
        return ReplyMessage(data=UNSET)

    stop = follow.start_following(system.client, execute, CollectorRegistry())
    await system.joins("cave", "ada")
    await system.clears("cave", "ada")

    async def both() -> bool:
        return sorted(commands) == ["canvas", "presence"]

    await until(both)
    await stop()
    info = await system.client.jetstream().stream_info("PRESENCE")
    assert info.state.consumer_count == len(await _durables(system, "PRESENCE"))


async def _durables(system: System, stream: str) -> list[str]:
    infos = await system.client.jetstream().consumers_info(stream)
    return [info.name for info in infos if info.config.durable_name]


async def test_a_reader_whose_consumer_is_gone_says_so(system: System) -> None:
    async with Tail(system.client, "PRESENCE", 0) as reader:
        await system.joins("cave", "ada")
        assert [message.seq for message in await reader.take()] == [1]
        await system.client.jetstream().delete_consumer("PRESENCE", reader._consumer)
        with pytest.raises(Broken, match=r"409|503"):
            await taken_until_broken(reader)


async def test_a_reader_that_missed_a_message_says_so(system: System) -> None:
    async with Tail(system.client, "PRESENCE", 0) as reader:
        for user in ("ada", "bob", "cleo"):
            await system.joins("cave", user)
        assert len(await reader.take()) == 3
        reader._count -= 1
        await system.joins("cave", "dan")
        with pytest.raises(Broken, match="lost"):
            await reader.take()


async def taken_until_broken(reader: Tail) -> None:
    for _ in range(5):
        await reader.take()


async def test_a_reader_of_a_silent_server_says_so(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "EXPIRES", 0.1)
    monkeypatch.setattr(tail, "_GRACE", 0.3)
    async with Tail(system.client, "PRESENCE", 0) as reader:
        assert await reader.take() == []
        system.server.freeze()
        try:
            with pytest.raises(Broken, match="silent"):
                await reader.take()
        finally:
            system.server.thaw()
