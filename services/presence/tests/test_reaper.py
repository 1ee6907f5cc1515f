"""No ghost survives: the reaper over the real command handler, first in memory, then on a real nats-server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import nats
import pytest
from msgspec import Raw
from nats.aio.client import Client
from prometheus_client import CollectorRegistry

from roundtable.common import provision
from roundtable.common.command_handler import CommandHandler, now_ms
from roundtable.common.config import Settings
from roundtable.common.eventlog import EventLog, LogMessage, LogUnavailable
from roundtable.common.eventlog_jetstream import JetStreamEventLog
from roundtable.common.eventlog_memory import MemoryEventLog
from roundtable.common.leases import GatewayLease, GatewayLeases, LeasesUnavailable, provision_leases
from roundtable.common.schema.log import CommandMessage, StoredMessage
from roundtable.common.sharding import PARTITIONS, partition_of
from roundtable.common.snapshots import MemorySnapshots
from roundtable.common.telemetry import ServiceMetrics
from roundtable.common.testing.nats import NatsServer, nats_server
from roundtable.presence.decider import Command, Fact, Limits, State
from roundtable.presence.reaper import Reaper, ReaperMetrics, SweepIncomplete, Timing
from roundtable.presence.service import PresenceDomain

Handler = CommandHandler[State, Command, Fact]

ALL = frozenset(range(PARTITIONS))
QUICK = Timing(tick=0.02, every=60, confirm=0.02, settle=0.2)


class Leases:
    """What the reaper asks; `hook` is called before each answer."""

    def __init__(self, *live: str) -> None:
        self.live = set(live)
        self.asked = 0
        self.hook: Callable[[], None] = lambda: None

    async def live_gateways(self) -> frozenset[str]:
        self.asked += 1
        self.hook()
        return frozenset(self.live)


class CountingLog(MemoryEventLog):
    """Knows how often it was read, and can refuse to append to some rooms."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.broken: set[str] = set()

    async def read(self, room: str, after: int, limit: int = 256) -> list[LogMessage]:
        self.reads.append(room)
        return await super().read(room, after, limit)

    async def append(self, room: str, payload: bytes, expected: int) -> int:
        if room in self.broken:
            raise LogUnavailable("broken")
        return await super().append(room, payload, expected)


def handler_of(log: EventLog, limits: Limits | None = None, clock: Callable[[], int] = now_ms) -> Handler:
    """A replica that has just started."""
    domain = PresenceDomain(limits or Limits())
    return CommandHandler(domain, log, MemorySnapshots(), ServiceMetrics(CollectorRegistry()), clock)


def reaper_of(
    handler: Handler, leases: Any, owned: Callable[[], frozenset[int]] = lambda: ALL, **more: Any
) -> Reaper:
    return Reaper(handler, leases, owned, ReaperMetrics(CollectorRegistry()), **({"timing": QUICK} | more))


async def send(handler: Handler, room: str, method: str, user: str, **params: Any) -> Any:
    message = CommandMessage(method, Raw(msgspec.json.encode(params)), user, user.title(), "player")
    reply = await handler.execute(room, message)
    assert isinstance(reply.data, Raw), reply.error
    return msgspec.json.decode(reply.data)


async def join(handler: Handler, room: str, user: str, gateway: str, name: str = "c1") -> None:
    await send(
        handler, room, "presence.open", user, connectionId=name, gateway=gateway, transport="websocket"
    )


async def leave(handler: Handler, room: str, user: str, gateway: str, name: str = "c1") -> None:
    await send(handler, room, "presence.close", user, connectionId=name, gateway=gateway)


async def story(log: EventLog, room: str) -> list[tuple[str, str]]:
    """Who was told to be how, from the log."""
    told, after = [], 0
    while messages := await log.read(room, after):
        for message in messages:
            after = message.seq
            for event in msgspec.json.decode(message.payload, type=StoredMessage).events:
                if event.audience is None:
                    data = msgspec.json.decode(event.data)
                    told.append((data["userId"], data["status"]))
    return told


async def until_told(log: EventLog, room: str, *wanted: tuple[str, str], within: float = 5.0) -> None:
    with anyio.fail_after(within):
        while True:
            with contextlib.suppress(LogUnavailable):
                if (await story(log, room))[-len(wanted) :] == list(wanted):
                    return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(reaper: Reaper) -> AsyncIterator[Reaper]:
    reaper.run()
    try:
        yield reaper
    finally:
        await reaper.stop()


@pytest.mark.rule("PR2")
async def test_a_sweep_takes_the_people_of_dead_gateways_offline_and_nobody_else() -> None:
    handler = handler_of(MemoryEventLog())
    for room in ("cave", "tavern"):
        await join(handler, room, "ada", "dead")
        await join(handler, room, "bob", "dead")
        await join(handler, room, "bob", "alive", "c2")
        await join(handler, room, "cleo", "alive")
    await reaper_of(handler, Leases("alive")).sweep()
    for room in ("cave", "tavern"):
        assert (await story(handler.log, room))[3:] == [("ada", "offline")]
        assert (await handler.view(room)).state.gateways == {"alive": 2}
    await reaper_of(handler, Leases("alive")).sweep()
    assert len(await story(handler.log, "cave")) == 4


@pytest.mark.rule("PR2")
async def test_a_replica_that_starts_after_a_crash_of_all_finds_the_ghosts_in_the_log() -> None:
    log = MemoryEventLog()
    await join(handler_of(log), "cave", "ada", "dead")
    async with running(reaper_of(handler_of(log), Leases())):
        await until_told(log, "cave", ("ada", "online"), ("ada", "offline"))


@pytest.mark.rule("PR1", "PR2")
async def test_a_grace_that_began_before_a_crash_ends_after_it() -> None:
    log, limits = MemoryEventLog(), Limits(grace=150)
    crashed = handler_of(log, limits, clock=lambda: now_ms() + 10)
    await join(crashed, "cave", "ada", "alive")
    await leave(crashed, "cave", "ada", "alive")
    await crashed.stop()
    async with running(reaper_of(handler_of(log, limits), Leases("alive"))):
        await until_told(log, "cave", ("ada", "online"), ("ada", "offline"))


@pytest.mark.rule("PR2")
async def test_a_gateway_that_starts_during_a_sweep_is_not_taken_for_dead() -> None:
    leases = Leases("alive")

    class BusyLog(MemoryEventLog):
        async def heads(self) -> AsyncIterator[LogMessage]:
            async for head in super().heads():
                yield head
            leases.live.add("new")
            await join(handler, "cave", "bob", "new")

    handler = handler_of(BusyLog())
    await join(handler, "cave", "ada", "alive")
    await reaper_of(handler, leases).sweep()
    assert (await handler.view("cave")).state.gateways == {"alive": 1, "new": 1}


@pytest.mark.rule("PR2")
async def test_a_lease_that_is_missing_only_once_is_not_lost() -> None:
    leases = Leases()
    leases.hook = lambda: leases.live.add("slow") if leases.asked == 2 else None
    handler = handler_of(MemoryEventLog())
    await join(handler, "cave", "ada", "slow")
    await reaper_of(handler, leases).sweep()
    assert leases.asked == 2
    assert await story(handler.log, "cave") == [("ada", "online")]


@pytest.mark.rule("PR2")
async def test_nobody_is_taken_offline_while_nobody_can_know_who_lives_nor_right_after() -> None:
    leases, loop = Leases(), asyncio.get_running_loop()
    handler = handler_of(MemoryEventLog())
    await join(handler, "cave", "ada", "away")
    back = loop.time() + 0.2

    def hook() -> None:
        if loop.time() < back:
            raise LeasesUnavailable("NATS is away")

    leases.hook = hook
    async with running(reaper_of(handler, leases)):
        await until_told(handler.log, "cave", ("ada", "offline"))
        assert loop.time() >= back + QUICK.settle - QUICK.tick


@pytest.mark.rule("PR2")
async def test_rooms_of_other_replicas_are_left_alone_until_they_are_ours() -> None:
    handler, owned = handler_of(MemoryEventLog()), [frozenset[int]()]
    await join(handler, "cave", "ada", "dead")
    reaper = reaper_of(handler, Leases(), lambda: owned[0])
    await reaper.sweep()
    assert await story(handler.log, "cave") == [("ada", "online")]
    async with running(reaper):
        owned[0] = frozenset({partition_of("cave")})
        await until_told(handler.log, "cave", ("ada", "offline"))


async def test_a_sweep_reads_only_rooms_with_somebody_in_them_and_each_only_once() -> None:
    log, limits = CountingLog(), Limits(grace=0)
    before = handler_of(log, limits)
    for number in range(20):
        await join(before, f"full{number}", "ada", "alive")
        await join(before, f"left{number}", "ada", "alive")
        await leave(before, f"left{number}", "ada", "alive")
        await before.view(f"left{number}")
    handler = handler_of(log, limits)
    reaper = reaper_of(handler, Leases("alive"))
    log.reads.clear()
    await reaper.sweep()
    assert set(log.reads) == {f"full{number}" for number in range(20)}
    log.reads.clear()
    await reaper.sweep()
    assert log.reads == []
    await join(before, "full3", "bob", "alive", "c2")  # by another replica
    log.reads.clear()
    await reaper.sweep()
    assert set(log.reads) == {"full3"}


@pytest.mark.rule("PR2")
async def test_a_quiet_room_is_looked_at_even_when_the_log_has_let_go_of_its_last_message() -> None:
    log = MemoryEventLog()
    handler, leases = handler_of(log), Leases("g1")
    await join(handler, "cave", "ada", "g1")
    reaper = reaper_of(handler, leases)
    await reaper.sweep()
    log.forget(99)
    leases.live.clear()
    await reaper.sweep()
    assert (await handler.view("cave")).state.users == {}


async def test_an_empty_room_that_was_unloaded_is_not_loaded_again() -> None:
    log = CountingLog()
    handler = handler_of(log, Limits(grace=0))
    await join(handler, "cave", "ada", "g1")
    reaper = reaper_of(handler, Leases("g1"))
    await reaper.sweep()
    await leave(handler, "cave", "ada", "g1")
    await handler.view("cave")
    del handler._rooms["cave"]
    log.reads.clear()
    await reaper.sweep()
    assert (log.reads, reaper._listening) == ([], set())


async def test_a_room_that_cannot_be_written_does_not_save_the_ghosts_of_others() -> None:
    log = CountingLog()
    handler = handler_of(log)
    for room in ("cave", "tavern"):
        await join(handler, room, "ada", "dead")
    log.broken.add("cave")
    reaper = reaper_of(handler, Leases())
    sweep = asyncio.create_task(reaper.sweep())
    await until_told(log, "tavern", ("ada", "offline"))
    log.broken.clear()
    await sweep
    await until_told(log, "cave", ("ada", "offline"))


async def test_a_sweep_says_when_it_could_not_look_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = handler_of(MemoryEventLog())
    await join(handler, "cave", "ada", "dead")
    await join(handler, "tavern", "ada", "dead")
    view = handler.view

    async def broken(room: str) -> Any:
        if room == "cave":
            raise TimeoutError
        return await view(room)

    monkeypatch.setattr(handler, "view", broken)
    reaper = reaper_of(handler, Leases())
    with pytest.raises(SweepIncomplete, match="1 of 2"):
        await reaper.sweep()
    assert ("ada", "offline") in await story(handler.log, "tavern")
    monkeypatch.undo()
    async with running(reaper):
        await until_told(handler.log, "cave", ("ada", "offline"))


@pytest.mark.rule("PR2")
async def test_a_death_in_a_crowded_room_is_told_to_the_last_one() -> None:
    handler = handler_of(MemoryEventLog())
    for number in range(1_500):
        await join(handler, "arena", f"u{number}", "dead")
    await reaper_of(handler, Leases()).sweep()
    assert (await handler.view("arena")).state.users == {}


@pytest.mark.rule("PR2")
async def test_a_lease_that_ends_is_found_out_without_being_told() -> None:
    leases, handler = Leases("g1", "g2"), handler_of(MemoryEventLog())
    await join(handler, "cave", "ada", "g1")
    async with running(reaper_of(handler, leases)) as reaper:
        with anyio.fail_after(2):
            while reaper._wanted or "g1" not in reaper._known:
                await asyncio.sleep(0.01)
        leases.live.remove("g1")
        await until_told(handler.log, "cave", ("ada", "offline"), within=1)


@pytest.mark.rule("PR2")
async def test_words_of_a_gateway_that_arrive_after_its_death_bring_nobody_back_for_long() -> None:
    handler = handler_of(MemoryEventLog())
    async with running(reaper_of(handler, Leases("alive"))) as reaper:
        with anyio.fail_after(2):
            while reaper._wanted:
                await asyncio.sleep(0.01)
        await join(handler, "cave", "ada", "dead")
        reaper.noticed("cave")
        await until_told(handler.log, "cave", ("ada", "offline"), within=1)


@pytest.mark.rule("PR3")
async def test_only_the_replica_that_hears_the_signs_of_life_declares_people_away() -> None:
    log, limits, time = MemoryEventLog(), Limits(), [now_ms()]
    ours, theirs = (handler_of(log, limits, lambda: time[0]) for _ in range(2))
    await join(ours, "cave", "ada", "alive")
    await theirs.view("cave")
    owned = [ALL]

    async def listening(wanted: bool) -> None:
        with anyio.fail_after(5):
            while ((await ours.view("cave")).state.hearing.since is not None) is not wanted:
                await asyncio.sleep(0.01)

    async def later(by: float) -> tuple[str, str]:
        """What was told last, so much of the time until somebody is away later."""
        time[0] += int(by * limits.silence)
        await ours.view("cave")
        await theirs.view("cave")
        return (await story(log, "cave"))[-1]

    async def touch() -> None:
        await send(ours, "cave", "presence.touch", "", seen={"ada": time[0]})

    async with (
        running(reaper_of(ours, Leases("alive"), lambda: owned[0], clock=lambda: time[0])),
        running(reaper_of(theirs, Leases("alive"), frozenset, clock=lambda: time[0])),
    ):
        await listening(True)
        for _ in range(5):
            await touch()
            assert await later(0.8) == ("ada", "online")
        assert await later(0.3) == ("ada", "away")
        await touch()
        assert (await story(log, "cave"))[-1] == ("ada", "online")
        owned[0] = frozenset()
        await listening(False)
        assert await later(3.0) == ("ada", "online")


@pytest.mark.rule("PR3")
async def test_silence_in_a_new_room_is_counted_from_its_first_moment() -> None:
    log = MemoryEventLog()
    handler = handler_of(log, Limits(away_after=100, touch_interval=20))
    reaper = reaper_of(handler, Leases("alive"))
    await join(handler, "cave", "ada", "alive")
    for room in ("cave", "cave", "nowhere"):
        reaper.noticed(room)
    await until_told(log, "cave", ("ada", "online"), ("ada", "away"), within=1)
    await reaper.stop()


# On a real nats-server: leases of one second, and the reaper as it is run.


@asynccontextmanager
async def connected(server: NatsServer) -> AsyncIterator[Client]:
    async def ignore(_: Exception) -> None:
        pass

    client = await nats.connect(
        server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, connect_timeout=1, error_cb=ignore
    )
    try:
        yield client
    finally:
        with contextlib.suppress(ConnectionError):
            await client.close()


@asynccontextmanager
async def table() -> AsyncIterator[tuple[NatsServer, Client]]:
    with anyio.fail_after(30):
        async with nats_server() as server, connected(server) as client:
            await provision.provision(client, Settings())
            await provision_leases(client.jetstream(), 1)
            yield server, client


@asynccontextmanager
async def replica(server: NatsServer) -> AsyncIterator[Handler]:
    async with connected(server) as client:
        handler = handler_of(JetStreamEventLog(client, "presence"))
        reaper = reaper_of(handler, GatewayLeases(client), timing=Timing(tick=0.2, confirm=0.2, settle=1.0))
        await reaper.start(client)
        try:
            yield handler
        finally:
            await reaper.stop()


@asynccontextmanager
async def gateway(server: NatsServer) -> AsyncIterator[GatewayLease]:
    """A gateway's lease; at the end it dies without a word."""

    async def on_lost(_: str) -> None:
        pass

    async with connected(server) as client:
        lease = GatewayLease(client, "gw", on_lost, ttl=1, renew_every=0.2)
        await lease.acquire()
        yield lease
        assert lease._keeping is not None
        lease._keeping.cancel()


@pytest.mark.rule("PR2")
async def test_on_nats_the_people_of_a_gateway_that_died_are_told_to_be_gone_and_others_stay() -> None:
    async with table() as (server, _), replica(server) as handler, gateway(server) as alive:
        async with gateway(server) as doomed:
            await join(handler, "cave", "ada", doomed.id)
            await join(handler, "cave", "bob", alive.id)
        died = now_ms()
        await until_told(handler.log, "cave", ("bob", "online"), ("ada", "offline"))
        assert now_ms() - died < 2_500
        assert (await handler.view("cave")).state.gateways == {alive.id: 1}


@pytest.mark.rule("PR2")
async def test_on_nats_ghosts_go_even_when_gateway_and_presence_die_together_and_nats_restarts() -> None:
    async with table() as (server, client):
        async with replica(server) as handler, gateway(server) as doomed:
            await join(handler, "cave", "ada", doomed.id)
            await server.kill()
        await server.start()
        async with replica(server):
            await until_told(
                JetStreamEventLog(client, "presence"), "cave", ("ada", "online"), ("ada", "offline")
            )


@pytest.mark.rule("PR2")
async def test_on_nats_an_absence_of_the_server_takes_nobody_offline_whose_gateway_comes_back() -> None:
    async with table() as (server, _), replica(server) as handler, connected(server) as client:

        async def open_again(new_id: str) -> None:
            await join(handler, "cave", "ada", new_id)

        lease = GatewayLease(client, "gw", open_again, ttl=1, renew_every=0.2)
        await join(handler, "cave", "ada", await lease.acquire())
        async with gateway(server) as doomed:
            await join(handler, "cave", "bob", doomed.id)
            await server.kill()
            await asyncio.sleep(1.5)
        await server.start()
        await until_told(
            handler.log, "cave", ("ada", "online"), ("bob", "online"), ("bob", "offline"), within=10
        )
        assert (await handler.view("cave")).state.gateways == {lease.id: 1}
        await lease.release()
