"""The shell around a domain: what is answered is in the log, once and in order, whatever fails and whoever else writes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import anyio
import msgspec
import pytest

from roundtable.common import command_handler, subjects
from roundtable.common.command_handler import BATCH, SNAPSHOT_EVENTS, CommandHandler, now_ms
from roundtable.common.eventlog import EventLog, LogMessage
from roundtable.common.eventlog_jetstream import JetStreamEventLog
from roundtable.common.eventlog_memory import MemoryEventLog
from roundtable.common.recent import WINDOW_MS
from roundtable.common.room import Room
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage, ReplyMessage, StoredEvent, StoredMessage
from roundtable.common.snapshots import JetStreamSnapshots, MemorySnapshots, Snapshot, Snapshots
from roundtable.common.testing.faults import FaultyEventLog
from roundtable.common.testing.jetstream import connected, metrics, provisioned_server
from roundtable.common.testing.nats import NatsServer
from roundtable.common.testing.toy import Come, ToyDomain, command, did, put, words

Handler = CommandHandler[Any, Any, Any]


class World:
    """A log, snapshots, and handlers around them as so many replicas have them."""

    def __init__(self, log: EventLog, snapshots: Snapshots, room: str = "room") -> None:
        self.log = log
        self.snapshots = snapshots
        self.room = room
        self.now = now_ms()
        self._handlers: list[Handler] = []

    def handler(self, log: EventLog | None = None, snapshots: Snapshots | None = None) -> Handler:
        handler: Handler = CommandHandler(
            ToyDomain(), log or self.log, snapshots or self.snapshots, metrics(), lambda: self.now
        )
        self._handlers.append(handler)
        return handler

    async def stop(self) -> None:
        for handler in self._handlers:
            await handler.stop()

    async def words(self, handler: Handler | None = None, room: str = "") -> list[str]:
        """As a query tells them; without a handler one that begins with the log alone."""
        handler = handler or self.handler(snapshots=MemorySnapshots())
        return words(await handler.execute(room or self.room, command("state")))

    async def stored(self, room: str = "") -> list[StoredMessage]:
        found: list[LogMessage] = []
        while messages := await self.log.read(room or self.room, found[-1].seq if found else 0):
            found += messages
        return [msgspec.json.decode(message.payload, type=StoredMessage) for message in found]

    async def events(self, room: str = "") -> list[StoredEvent]:
        return [event for message in await self.stored(room) for event in message.events]


@asynccontextmanager
async def memory(_: NatsServer) -> AsyncIterator[World]:
    yield World(MemoryEventLog(), MemorySnapshots())


@asynccontextmanager
async def jetstream(server: NatsServer) -> AsyncIterator[World]:
    async with connected(server) as client:
        room = f"room-{time.monotonic_ns()}"
        yield World(JetStreamEventLog(client, "canvas"), JetStreamSnapshots(client, "canvas"), room)


@pytest.fixture(params=[memory, jetstream])
async def world(request: pytest.FixtureRequest, server: NatsServer) -> AsyncIterator[World]:
    with anyio.fail_after(30):
        async with request.param(server) as world:
            yield world
            await world.stop()


@pytest.fixture
async def small() -> AsyncIterator[World]:
    """In memory only: for what does not depend on the log's form."""
    with anyio.fail_after(30):
        world = World(MemoryEventLog(), MemorySnapshots())
        yield world
        await world.stop()


@pytest.fixture(autouse=True)
def quiet(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    capsys.readouterr()


async def at_once(handler: Handler, room: str, messages: Sequence[CommandMessage]) -> list[ReplyMessage]:
    return await asyncio.gather(*(handler.submit(room, message) for message in messages))


def refused(reply: ReplyMessage) -> str:
    with pytest.raises(Refusal) as caught:
        did(reply)
    return caught.value.reason


class Gate:
    """A log that lets an append pass when it is told to."""

    def __init__(self, log: EventLog) -> None:
        self.sound = log
        self.asked, self.open = asyncio.Event(), asyncio.Event()

    async def append(self, room: str, payload: bytes, expected: int) -> int:
        self.asked.set()
        await self.open.wait()
        return await self.sound.append(room, payload, expected)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sound, name)


# Answers


@pytest.mark.rule("RS7")
async def test_a_command_is_answered_when_it_is_stored_and_not_before(small: World) -> None:
    gate = Gate(small.log)
    answer = small.handler(gate).submit("room", put("a", id="1"))
    await gate.asked.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not answer.done()
    assert await small.events() == []
    gate.open.set()
    assert len(did(await answer)) == 1
    assert len(await small.events()) == 1


async def test_an_answer_tells_what_the_command_did_and_where_that_stands(world: World) -> None:
    handler = world.handler()
    first, second = await at_once(handler, world.room, [put("a", "b", id="1"), put("c", id="2")])
    assert [len(did(reply)) for reply in (first, second)] == [2, 1]
    seq = await world.log.last(world.room)
    assert (first.position, second.position) == (f"{seq}-1", f"{seq}")
    [message] = await world.stored()
    assert [event.method for event in message.events] == ["canvas.draw"] * 3


async def test_commands_of_a_room_take_effect_in_the_order_in_which_they_came(world: World) -> None:
    handler = world.handler()
    names = [f"w{number}" for number in range(3 * BATCH + 7)]
    replies = await at_once(handler, world.room, [put(name, id=name) for name in names])
    assert all("number=" + str(number) in did(reply)[0] for number, reply in enumerate(replies, 1))
    assert await world.words() == names == await world.words(handler)
    stored = await world.stored()
    assert [len(message.events) for message in stored] == [BATCH, BATCH, BATCH, 7]
    positions = [tuple(map(int, reply.position.split("-"))) for reply in replies]
    assert [position[0] for position in positions] == sorted(position[0] for position in positions)


async def test_rooms_do_not_wait_for_one_another(small: World) -> None:
    gate = Gate(small.log)
    handler = small.handler(gate)
    waiting = handler.submit("slow", put("a"))
    await gate.asked.wait()
    assert await small.words(handler, "other") == []
    gate.open.set()
    await waiting


async def test_a_batch_ends_where_a_message_of_the_log_would_grow_too_long(world: World) -> None:
    handler = world.handler()
    names = [f"{number:02}" + "x" * 60_000 for number in range(40)]
    replies = await at_once(handler, world.room, [put(name, id=name[:2]) for name in names])
    assert all(len(did(reply)) == 1 for reply in replies)
    assert await world.words() == names
    sizes = [sum(len(event.data) for event in message.events) for message in await world.stored()]
    assert len(sizes) < 8
    assert max(sizes) < 700_000


async def test_a_command_that_is_too_long_for_the_log_is_refused_alone(small: World) -> None:
    handler = small.handler()
    messages = [put(str(number), id=str(number)) for number in range(9)]
    messages[4] = put("x" * 1_100_000, id="long")
    messages[7] = put("y" * 1_100_000, id="longer")
    replies = await at_once(handler, "room", messages)
    assert [number for number, reply in enumerate(replies) if reply.error is not msgspec.UNSET] == [4, 7]
    assert refused(replies[4]) == "overloaded"
    assert await small.words() == ["0", "1", "2", "3", "5", "6", "8"] == await small.words(handler)


async def test_long_commands_that_do_not_fit_together_are_stored_apart(small: World) -> None:
    handler = small.handler()
    names = [letter * 500_000 for letter in "abcd"] + [letter * 900_000 for letter in "ef"]
    replies = await at_once(handler, "room", [put(name, id=name[0]) for name in names])
    assert all(len(did(reply)) == 1 for reply in replies)
    assert await small.words() == names


async def test_a_refusal_changes_nothing(world: World) -> None:
    handler = world.handler()
    forbidden = msgspec.structs.replace(command("clear", "1"), role="spectator")
    replies = await at_once(handler, world.room, [put("a", id="0"), forbidden, put("b", id="2")])
    assert refused(replies[1]) == "forbidden"
    assert await world.words() == ["a", "b"] == await world.words(handler)
    assert refused(await handler.execute(world.room, forbidden)) == "forbidden"
    assert len(await world.events()) == 2


async def test_a_method_that_nobody_knows_is_refused_alone(small: World) -> None:
    replies = await at_once(small.handler(), "room", [put("a"), command("dance", "1"), put("b")])
    assert refused(replies[1]) == "unknown_method"
    assert await small.words() == ["a", "b"]


# Once


@pytest.mark.rule("RS6")
async def test_a_command_that_is_repeated_in_the_same_batch_takes_effect_once(world: World) -> None:
    handler = world.handler()
    replies = await at_once(handler, world.room, [put("a", "b", id="1")] * 7)
    assert len({(did(reply), reply.position) for reply in replies}) == 1
    assert await world.words() == ["a", "b"]


@pytest.mark.rule("RS6")
@pytest.mark.parametrize("saved", [True, False])
async def test_a_repeated_command_gets_its_first_answer_wherever_and_whenever(
    world: World, saved: bool
) -> None:
    handler = world.handler()
    others = [put(f"{number}", id=f"{number}") for number in range(5)]
    first = (await at_once(handler, world.room, [*others, put("a", "b", id="x"), put("c", id="y")]))[5]
    assert await handler.execute(world.room, put("a", "b", id="x")) == first
    neighbour = world.handler()
    assert await neighbour.execute(world.room, put("a", "b", id="x")) == first
    if saved:
        await handler.stop()
        assert await world.snapshots.load(world.room) is not None
    later = world.handler()
    assert await later.execute(world.room, put("a", "b", id="x")) == first
    await later.execute(world.room, put("d", id="z"))
    assert await neighbour.execute(world.room, put("a", "b", id="x")) == first
    assert await world.words() == ["0", "1", "2", "3", "4", "a", "b", "c", "d"]


@pytest.mark.rule("RS6")
@pytest.mark.parametrize("how", ["at once", "one by one"])
async def test_people_may_use_the_same_ids_and_so_may_methods(world: World, how: str) -> None:
    handler = world.handler()
    messages = [put("a", id="1", user="ada"), put("b", id="1", user="bob"), command("undo", "1", "bob")]
    messages += [put("c", id="1", user="cem"), command("undo", "1", "ada"), put("d", id="1", user="dan")]
    if how == "at once":
        first = await at_once(handler, world.room, messages)
    else:
        first = [await handler.execute(world.room, message) for message in messages]
    expected = [("WordPut", "a"), ("WordPut", "b"), ("WordTaken", "b"), ("WordPut", "c"), ("WordTaken", "c")]
    for reply, (kind, word) in zip(first, expected, strict=False):
        [done] = did(reply)
        assert done.startswith(f"{kind}(word='{word}'")
    for replica in (handler, world.handler()):
        assert await at_once(replica, world.room, messages) == first
    assert await world.words() == ["a", "d"]


@pytest.mark.rule("RS6")
async def test_what_was_refused_is_decided_anew_when_it_is_repeated(small: World) -> None:
    handler = small.handler()
    spectator = msgspec.structs.replace(command("clear", "1"), role="spectator")
    replies = await at_once(
        handler, "room", [put("a"), spectator, spectator, command("clear", "1"), put("b")]
    )
    assert [reply.error is msgspec.UNSET for reply in replies] == [True, False, False, True, True]
    assert sorted(await small.words()) in (["b"], [])


@pytest.mark.rule("RS6", "CV2")
async def test_what_had_no_effect_has_none_when_it_is_repeated_later(world: World) -> None:
    handler = world.handler()
    assert did(await handler.execute(world.room, command("undo", "1"))) == ()
    await handler.execute(world.room, put("a", id="2"))
    for replica in (handler, world.handler()):
        assert did(await replica.execute(world.room, command("undo", "1"))) == ()
    assert await world.words() == ["a"]


@pytest.mark.rule("RS6")
async def test_after_five_minutes_of_the_logs_time_an_id_is_new_again(small: World) -> None:
    handler = small.handler()
    await handler.execute("room", put("a", id="1"))
    small.now += WINDOW_MS
    await handler.execute("room", put("b", id="2"))
    await handler.execute("room", put("a", id="1"))
    assert await small.words() == ["a", "b"]
    small.now += 1
    await handler.execute("room", put("c", id="3"))
    await handler.execute("room", put("a", id="1"))
    assert await small.words() == ["a", "b", "c", "a"] == await small.words(handler)


async def test_commands_without_an_id_are_never_repeats(small: World) -> None:
    replies = await at_once(small.handler(), "room", [put("a"), put("a"), put("a")])
    assert [did(reply)[0][-2] for reply in replies] == ["1", "2", "3"]
    assert await small.words() == ["a", "a", "a"]


@pytest.mark.rule("RS6")
async def test_a_repeat_whose_first_answer_retention_has_taken_is_told_so_and_has_no_effect(
    small: World,
) -> None:
    handler = small.handler()
    await handler.execute("room", put("a", id="1"))
    await handler.execute("room", put("b", id="2"))
    assert isinstance(small.log, MemoryEventLog)
    small.log.forget(2)
    assert refused(await handler.execute("room", put("a", id="1"))) == "internal"
    assert await small.words(handler) == ["a", "b"]


# Queries, and other writers


async def test_a_query_sees_what_another_has_written(world: World) -> None:
    one, other = world.handler(), world.handler()
    expected = []
    for number in range(10):
        writer, reader = (one, other) if number % 2 else (other, one)
        await writer.execute(world.room, put(str(number)))
        expected.append(str(number))
        assert await world.words(reader) == expected


async def test_what_causes_nothing_is_decided_on_what_the_log_says_now(world: World) -> None:
    one, other = world.handler(), world.handler()
    assert await world.words(one) == []
    await other.execute(world.room, put("a"))
    assert len(did(await one.execute(world.room, command("undo")))) == 1
    assert await world.words(other) == []


async def test_a_view_is_as_fresh_as_a_query(world: World) -> None:
    one, other = world.handler(), world.handler()
    assert one.loaded(world.room) is None
    await one.view(world.room)
    await other.execute(world.room, put("a"))
    room = await one.view(world.room)
    assert room.state.words == ["a"]
    assert one.loaded(world.room) is room
    assert room.seq == await world.log.last(world.room)


async def test_internal_commands_are_stored_without_anybodys_name(small: World) -> None:
    handler = small.handler()
    await handler.perform("room", [Come(0)])
    await handler.execute("room", command("draw", words=["a", "b"], after=100))
    await handler.perform("room", [Come(small.now + 200)])
    assert await small.words(handler) == ["a", "b"]
    assert [(event.user, event.command) for event in (await small.events())[-2:]] == [("", "")] * 2


# What is due


async def test_what_waits_for_its_time_comes_by_itself(small: World) -> None:
    handler = small.handler()
    await handler.execute("room", command("draw", words=["a"], after=60))
    await handler.execute("room", command("draw", words=["b"], after=30))
    small.now += 60
    while await small.words() != ["a", "b"]:
        await asyncio.sleep(0.005)
    assert await small.words(handler) == ["a", "b"]


async def test_what_became_due_while_nobody_had_the_room_comes_with_the_next_command(world: World) -> None:
    handler = world.handler()
    await handler.execute(world.room, command("draw", words=["a"], after=5_000))
    await handler.stop()
    world.now += 6_000
    await world.handler().execute(world.room, put("b"))
    assert await world.words() == ["a", "b"]


async def test_an_alarm_that_finds_the_log_away_comes_again(
    small: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_handler, "PATIENCE", 0.05)
    monkeypatch.setattr(command_handler, "UNDUE_FOR", 0.05)
    log = FaultyEventLog(small.log, Random(1), slowest=0)
    handler = small.handler(log)
    await handler.execute("room", command("draw", words=["a"], after=10))
    log.unavailable()
    small.now += 10
    while log.faults < 20:
        await asyncio.sleep(0.005)
    await log.mend()
    while await small.words() != ["a"]:
        await asyncio.sleep(0.005)


class FaultyDue(ToyDomain):
    """Fails on whatever is due: when asked for it, or at the command."""

    def __init__(self, at: str) -> None:
        self.at = at

    def due(self, state: Any, now: int) -> tuple[Sequence[Any], int | None]:
        if self.at == "due":
            raise ZeroDivisionError
        return [7], now


@pytest.mark.parametrize("at", ["due", "command"])
async def test_a_fault_in_what_is_due_stops_no_commands(small: World, at: str) -> None:
    handler: Handler = CommandHandler(FaultyDue(at), small.log, small.snapshots, metrics())
    for number in range(20):
        assert len(did(await handler.execute("room", put(str(number), id=str(number))))) == 1
    await handler.stop()


# Faults of the domain


@pytest.mark.parametrize("at", ["prepare", "decide", "evolve", "record"])
async def test_a_command_on_which_the_domain_fails_is_answered_alone_and_the_room_goes_on(
    world: World, at: str
) -> None:
    handler = world.handler()
    messages = [put("a", id="1"), command("redo", "2", at=at), put("b", id="3"), command("redo", "4", at=at)]
    replies = await at_once(handler, world.room, [*messages, put("c", id="5"), command("state")])
    assert [refused(replies[number]) for number in (1, 3)] == ["internal", "internal"]
    assert [len(did(replies[number])) for number in (0, 2, 4)] == [1, 1, 1]
    assert words(replies[5]) == ["a", "b", "c"] == await world.words() == await world.words(handler)
    assert refused(await handler.execute(world.room, messages[1])) == "internal"


async def test_where_only_the_answer_fails_all_else_has_happened(small: World) -> None:
    handler = small.handler()
    replies = await at_once(handler, "room", [put("a"), command("redo", "2", at="answer"), put("b")])
    assert refused(replies[1]) == "internal"
    assert await small.words() == ["a", "b"]
    assert [event.method for event in await small.events()] == ["canvas.draw", "canvas.redo", "canvas.draw"]


async def test_a_query_that_fails_is_answered_alone(small: World) -> None:
    handler = small.handler()
    replies = await at_once(handler, "room", [put("a"), command("state", at="query"), command("state")])
    assert refused(replies[1]) == "internal"
    assert words(replies[2]) == ["a"]


async def test_events_that_cannot_be_read_or_folded_do_not_close_a_room(small: World) -> None:
    await small.handler().execute("room", put("a", id="1"))
    newer = [
        StoredEvent("canvas.sing", msgspec.Raw(b"{}"), small.now),
        StoredEvent("canvas.draw", msgspec.Raw(b'{"word":7}'), small.now),
        StoredEvent("canvas.redo", msgspec.Raw(b'{"at":"nowhere"}'), small.now),
    ]
    for payload in (
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 9_000,
        msgspec.json.encode(StoredMessage(tuple(newer))),
    ):
        await small.log.append("room", payload, await small.log.last("room"))
    handler = small.handler()
    assert len(did(await handler.execute("room", put("b", id="2")))) == 1
    assert await small.words(handler) == ["a", "b"] == await small.words()


# Snapshots


class CountedReads(FaultyEventLog):
    """A sound log that counts."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log, Random(0), slowest=0)


async def until_saved(world: World, seq: int = 1) -> Snapshot:
    while (snapshot := await world.snapshots.load(world.room)) is None or snapshot.seq < seq:
        await asyncio.sleep(0.005)
    return snapshot


async def test_a_room_is_saved_after_some_events_and_loaded_from_there(world: World) -> None:
    handler = world.handler()
    names = [f"w{number}" for number in range(SNAPSHOT_EVENTS + 1)]
    await at_once(handler, world.room, [put(name, id=name) for name in names])
    await until_saved(world)
    await handler.execute(world.room, put("more"))
    log = CountedReads(world.log)
    assert await world.words(world.handler(log)) == [*names, "more"]
    assert log.reads <= 4


async def test_a_room_that_came_to_rest_is_saved_and_one_that_is_unused_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"KEEP_HOUSE_EVERY": 0.01, "IDLE_SAVE": 0.05, "IDLE_UNLOAD": 0.3}.items():
        monkeypatch.setattr(command_handler, name, value)
    handler = world.handler()
    handler.start()
    await handler.execute(world.room, put("a", id="1"))
    await handler.execute(f"{world.room}-waiting", command("draw", words=["b"], after=60_000))
    await until_saved(world)
    while handler.loaded(world.room) is not None:
        await asyncio.sleep(0.005)
    assert handler.loaded(f"{world.room}-waiting") is not None
    assert await world.words(handler) == ["a"]
    assert len(did(await handler.execute(world.room, put("a", id="1")))) == 1
    assert await world.words(handler) == ["a"]


async def test_a_room_that_never_loaded_is_forgotten_too(
    small: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "KEEP_HOUSE_EVERY": 0.01,
        "IDLE_UNLOAD": 0.1,
        "PATIENCE": 0.05,
        "UNDUE_FOR": 0.05,
    }.items():
        monkeypatch.setattr(command_handler, name, value)
    log = FaultyEventLog(small.log, Random(0), slowest=0)
    log.unavailable()
    handler = small.handler(log)
    handler.start()
    with pytest.raises(TimeoutError):
        await handler.execute("room", put("a"))
    await log.mend()
    while handler._rooms:
        await asyncio.sleep(0.01)


class SlowSnapshots(MemorySnapshots):
    """Takes its time, in which the room goes on."""

    async def save(self, room: str, snapshot: Snapshot) -> int:
        await asyncio.sleep(0.02)
        return await super().save(room, snapshot)


async def test_a_snapshot_that_is_written_while_the_room_goes_on_is_of_one_moment(
    small: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_handler, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(command_handler, "SNAPSHOT_EVENTS", 1)
    snapshots = SlowSnapshots()
    handler = small.handler(snapshots=snapshots)
    for number in range(100):
        messages = [put(f"{number}.{each}", id=f"{number}.{each}") for each in range(3)]
        await at_once(
            handler, "room", [*messages, command("undo", f"{number}.u"), command("redo", at="evolve")]
        )
        found = await snapshots.load("room")
        if found is not None:
            room: Room[Any, Any, Any] = Room("room", ToyDomain(), MemoryEventLog(), snapshots)
            assert await room._restore(found) is False  # of a log that it does not know
            history = [event async for event in folded(small, found.seq)]
            assert list(found.state[1][0]) == history
    assert await small.words(small.handler(snapshots=snapshots)) == await small.words()


async def folded(world: World, until: int) -> AsyncIterator[str]:
    """The words after that sequence, from the log alone."""
    told: list[str] = []
    for message in await world.log.read("room", 0, 10_000):
        if message.seq <= until:
            for event in msgspec.json.decode(message.payload, type=StoredMessage).events:
                if event.method == "canvas.draw":
                    told.append(json.loads(bytes(event.data))["word"])
                elif event.method == "canvas.undo":
                    told.pop()
    for word in told:
        yield word


class NoSnapshots(MemorySnapshots):
    async def save(self, room: str, snapshot: Snapshot) -> int:
        raise OSError("no space")


async def test_where_snapshots_fail_nothing_else_does(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_handler, "SAVE_EVERY", 0.0)
    handler = small.handler(snapshots=NoSnapshots())
    for number in range(3 * SNAPSHOT_EVENTS):
        await handler.execute("room", put(str(number)))
    assert len(await small.words(handler)) == 3 * SNAPSHOT_EVENTS
    await handler.stop()


@pytest.mark.parametrize(
    "state", [[], [[], []], [[[1]], [[], []], 0], [[], 7, 0], None, "text", [[], [[], []], "0"]]
)
async def test_a_snapshot_that_means_nothing_is_as_good_as_none(small: World, state: Any) -> None:
    await small.handler().execute("room", put("a", id="1"))
    await small.snapshots.save("room", Snapshot(1, state))
    handler = small.handler()
    assert await small.words(handler) == ["a"]
    await handler.execute("room", put("b", id="2"))
    assert await small.words() == ["a", "b"]


async def test_a_snapshot_of_another_log_is_not_believed(small: World) -> None:
    """Of a log that was made anew, while the snapshots stayed: even where its sequences have caught up."""
    await at_once(small.handler(), "room", [put("a", id="1")])
    await small.stop()
    for length in (0, 1, 5):
        anew = World(MemoryEventLog(), small.snapshots)
        for number in range(length):
            await anew.handler(snapshots=MemorySnapshots()).execute("room", put(str(number)))
        handler = anew.handler()
        assert await anew.words(handler) == [str(number) for number in range(length)]
        assert len(did(await handler.execute("room", put("a", id="1")))) == 1
        assert (await anew.words())[-1] == "a"


@pytest.mark.parametrize("loaded", [True, False])
async def test_a_room_goes_on_from_its_snapshot_when_retention_has_taken_all_its_events(loaded: bool) -> None:
    with anyio.fail_after(20):
        async with provisioned_server() as server, connected(server) as client:
            log = JetStreamEventLog(client, "canvas")
            world = World(log, JetStreamSnapshots(client, "canvas"))
            handler = world.handler()
            await at_once(handler, "room", [put("a", id="1"), put("b", id="2")])
            other = world.handler()
            if loaded:
                assert await world.words(other) == ["a", "b"]
            await handler.stop()
            seq = await log.last("room")
            await client.jetstream().purge_stream(subjects.stream("canvas"), seq=seq + 1)
            assert await log.last("room") == 0
            assert len(did(await other.execute("room", put("c", id="3")))) == 1
            assert await world.words(other) == ["a", "b", "c"] == await world.words(world.handler())
            assert refused(await other.execute("room", put("a", id="1"))) == "internal"
            assert await world.words(world.handler()) == ["a", "b", "c"]


# An end


async def test_stopping_finishes_what_was_taken_saves_it_and_takes_no_more(world: World) -> None:
    handler = world.handler()
    handler.start()
    rooms = [f"{world.room}-{number}" for number in range(20)]
    answers = [
        handler.submit(room, put(f"{number}", id=f"{number}")) for number in range(50) for room in rooms
    ]
    await handler.stop()
    assert all(len(did(answer.result())) == 1 for answer in answers)
    assert refused(await handler.execute(world.room, put("late"))) == "overloaded"
    for room in rooms:
        snapshot = await world.snapshots.load(room)
        assert snapshot is not None
        assert snapshot.seq == await world.log.last(room)


async def test_stopping_while_the_log_is_away_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_handler, "PATIENCE", 0.5)
    with anyio.fail_after(20):
        async with provisioned_server() as server, connected(server) as client:
            world = World(JetStreamEventLog(client, "canvas"), JetStreamSnapshots(client, "canvas"))
            handler = world.handler()
            handler.start()
            rooms = [f"room-{number}" for number in range(100)]
            await asyncio.gather(*(handler.execute(room, put("a")) for room in rooms))
            await server.kill()
            late = [handler.submit(room, put("b")) for room in rooms]
            began = time.monotonic()
            await handler.stop()
            assert time.monotonic() - began < 6
            assert {type(answer.exception()) for answer in late} == {TimeoutError}


async def test_no_more_wait_than_can_be_served(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_handler, "QUEUED_AT_MOST", 10)
    gate = Gate(small.log)
    handler = small.handler(gate)
    answers = [handler.submit("room", put(str(number))) for number in range(20)]
    assert [answer.done() for answer in answers] == [False] * 10 + [True] * 10
    gate.open.set()
    replies = await asyncio.gather(*answers)
    assert [refused(reply) for reply in replies[10:]] == ["overloaded"] * 10
    assert len(await small.words(handler)) == 10


# Faults of the log


async def test_a_log_that_does_not_answer_is_waited_for_no_longer_than_patience(
    small: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_handler, "PATIENCE", 0.2)
    log = FaultyEventLog(small.log, Random(0), slowest=0)
    handler = small.handler(log)
    await handler.execute("room", put("a"))
    log.unavailable()
    began = time.monotonic()
    results = await asyncio.gather(
        handler.execute("room", put("b")),
        handler.execute("room", command("state")),
        handler.execute("other", put("c")),
        handler.perform("third", [Come(0)]),
        handler.view("fourth"),
        return_exceptions=True,
    )
    assert {type(result) for result in results} == {TimeoutError}
    assert 0.15 < time.monotonic() - began < 4
    await log.mend()
    assert await small.words(handler) == ["a"]


async def test_a_log_that_only_hangs_is_given_up_too(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_handler, "PATIENCE", 0.2)
    gate = Gate(small.log)
    handler = small.handler(gate)
    began = time.monotonic()
    answers = [handler.submit("room", put("a", id="1"))]
    await asyncio.sleep(0.1)
    answers.append(handler.submit("room", put("b", id="2")))
    results = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(result) for result in results] == [TimeoutError, TimeoutError]
    assert time.monotonic() - began < 4
    gate.open.set()
    assert len(did(await handler.execute("room", put("a", id="1")))) == 1
    assert await small.words() == ["a"]


async def test_a_full_log_refuses_and_takes_again_when_there_is_space(small: World) -> None:
    log = FaultyEventLog(small.log, Random(0), full=1.0, slowest=0)
    handler = small.handler(log)
    replies = await at_once(handler, "room", [put("a", id="1"), put("b", id="2")])
    assert {refused(reply) for reply in replies} == {"overloaded"}
    assert await small.words(handler) == []
    await log.mend()
    assert len(did(await handler.execute("room", put("a", id="1")))) == 1
    assert await small.words() == ["a"] == await small.words(handler)


@pytest.mark.rule("RS6", "RS7")
async def test_an_append_that_was_stored_without_an_answer_is_not_stored_again(world: World) -> None:
    log = FaultyEventLog(world.log, Random(0), unanswered=1.0)
    handler = world.handler(log)
    messages = [put(str(number), id=str(number)) for number in range(10)] + [command("undo", "u")]
    replies = await at_once(handler, world.room, messages)
    assert [len(did(reply)) for reply in replies] == [1] * 11
    assert await world.words() == [str(number) for number in range(9)]


class Client:
    """Somebody who sends one command after another to any handler, and again with its id where no answer came."""

    def __init__(self, name: str, random: Random, handlers: list[Handler], rooms: Sequence[str]) -> None:
        self.name = name
        self.random = random
        self.handlers = handlers
        self.rooms = rooms
        self.answers: dict[tuple[str, str], list[ReplyMessage]] = {}
        self.slowest = 0.0

    async def send(self, number: int) -> None:
        random, ident = self.random, str(number)
        room = random.choice(self.rooms)
        message = random.choices(
            [
                put(
                    *(f"{self.name}.{number}.{each}" for each in range(random.randint(1, 3))),
                    id=ident,
                    user=self.name,
                ),
                command("undo", ident, self.name),
                command(
                    "draw",
                    ident,
                    self.name,
                    words=[f"{self.name}.{number}.later"],
                    after=random.randint(0, 5),
                ),
                msgspec.structs.replace(command("clear", ident, self.name), role="spectator"),
                command("redo", ident, self.name, at=random.choice(["decide", "evolve"])),
                command("state", "", self.name),
            ],
            [20, 4, 3, 1, 1, 3],
        )[0]
        while True:
            copies = random.choice([1, 1, 1, 2, 3])
            asked = [self.ask(random.choice(self.handlers), room, message) for _ in range(copies)]
            answers = [answer for answer in await asyncio.gather(*asked) if answer is not None]
            if answers and message.method != "canvas.state":
                self.answers.setdefault((room, ident), []).extend(answers)
            if any(
                answer.error is msgspec.UNSET or answer.error.reason != "overloaded" for answer in answers
            ):
                return

    async def ask(self, handler: Handler, room: str, message: CommandMessage) -> ReplyMessage | None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(0.2):  # it may be dead
                return await handler.execute(room, message)
        except (TimeoutError, asyncio.CancelledError):
            return None
        finally:
            self.slowest = max(self.slowest, time.monotonic() - began)


def kill(world: World, handler: Handler) -> None:
    """As a crash does: nothing is finished, nothing saved."""
    world._handlers.remove(handler)
    for task in (*handler._writers.values(), *handler._saving.values()):
        task.cancel()
    for alarm in handler._alarms.values():
        alarm.cancel()


async def simulate(world: World, seed: int, clients: int, commands: int) -> None:
    random = Random(seed)
    rooms = [f"{world.room}-{seed}-{number}" for number in range(random.choice([1, 3]))]
    chances = {"unanswered": 0.1, "late": 0.1, "refused": 0.1, "full": 0.02, "unavailable": 0.05}
    chances = {name: random.choice([0, chance, 2 * chance]) for name, chance in chances.items()}
    logs: list[FaultyEventLog] = []

    def replica() -> Handler:
        logs.append(FaultyEventLog(world.log, random, **chances))
        return world.handler(logs[-1])

    handlers = [replica() for _ in range(random.choice([1, 2, 3]))]
    people = [Client(f"p{number}", random, handlers, rooms) for number in range(clients)]
    busy = asyncio.gather(*(speak(person, commands) for person in people))
    while not busy.done():
        await asyncio.wait((busy,), timeout=random.uniform(0.01, 0.1))
        which = random.randrange(len(handlers))
        old, handlers[which] = handlers[which], replica()
        if random.random() < 0.5:
            kill(world, old)
        else:
            await old.stop()
    await busy
    for log in logs:
        await log.mend()
    for room in rooms:
        await judge(world, handlers, room, people)
    assert max(person.slowest for person in people) < 5  # nobody who gives up is held


async def speak(person: Client, commands: int) -> None:
    for number in range(commands):
        await person.send(number)


async def judge(world: World, handlers: list[Handler], room: str, people: list[Client]) -> None:
    """The log holds every acknowledged command once and in its people's order, and all that was answered or is known agrees."""
    caused: dict[tuple[str, str], list[StoredEvent]] = {}
    before: tuple[str, str] | None = None
    for message in await world.stored(room):
        before = None
        for event in message.events:
            who = (event.user, event.command)
            assert who == before or who not in caused or who == ("", ""), f"{who} stands there twice"
            before = who
            caused.setdefault(who, []).append(event)
    for person in people:
        own = [int(ident) for user, ident in caused if user == person.name]
        assert own == sorted(own)
        for (where, ident), answers in person.answers.items():
            if where != room:
                continue
            done = [answer for answer in answers if answer.error is msgspec.UNSET]
            assert len({(bytes(answer.data), answer.position) for answer in done}) <= 1  # type: ignore[arg-type]
            facts = map(ToyDomain().recall, caused.get((person.name, ident), ()))
            told = tuple(repr(fact) for fact in facts if fact is not None)
            assert all(did(answer) == told for answer in done), (did(done[0]), told)
            assert done or (person.name, ident) not in caused or refused(answers[0]) == "overloaded"
    replayed = await world.words(room=room)
    for handler in (*handlers, world.handler()):
        assert words(await handler.execute(room, command("state"))) == replayed


@pytest.mark.rule("RS6", "RS7")
@pytest.mark.parametrize("seed", range(12))
async def test_nothing_is_lost_or_doubled_whatever_the_log_does_and_whoever_dies(
    small: World, seed: int
) -> None:
    await simulate(small, seed, clients=5, commands=12)


@pytest.mark.rule("RS6", "RS7")
@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_lost_or_doubled_on_a_real_server_either(server: NatsServer, seed: int) -> None:
    with anyio.fail_after(30):
        async with jetstream(server) as world:
            await simulate(world, seed, clients=5, commands=12)
            await world.stop()
