"""One suite over every form of the event log, and what only a server can do: go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import NamedTuple

import anyio
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

from roundtable.common import subjects
from roundtable.common.appends import BATCH_FROM
from roundtable.common.appends import TIMEOUT as APPEND_TIMEOUT
from roundtable.common.eventlog import Conflict, EventLog, LogFull, LogMessage, LogUnavailable
from roundtable.common.eventlog_jetstream import JetStreamEventLog
from roundtable.common.eventlog_memory import MemoryEventLog
from roundtable.common.testing.jetstream import connected, freeze, provisioned_server
from roundtable.common.testing.nats import NatsServer, nats_server

_numbers = count()


class Form(NamedTuple):
    """A log, the same log as another process sees it, and what retention does."""

    log: EventLog
    other: EventLog
    forget: Callable[[int], Awaitable[object]]
    most: int
    """Bytes of the longest payload that it takes."""


@asynccontextmanager
async def memory(_: NatsServer) -> AsyncIterator[Form]:
    log = MemoryEventLog()

    async def forget(before: int) -> None:
        log.forget(before)

    yield Form(log, log, forget, (1 << 20) - 1024)


@asynccontextmanager
async def jetstream(server: NatsServer) -> AsyncIterator[Form]:
    async with connected(server) as client, connected(server) as another:

        async def forget(before: int) -> None:
            await client.jetstream().purge_stream(subjects.stream("canvas"), seq=before)

        log = JetStreamEventLog(client, "canvas")
        yield Form(log, JetStreamEventLog(another, "canvas"), forget, client.max_payload - 1024)


@pytest.fixture(params=[memory, jetstream])
async def form(request: pytest.FixtureRequest, server: NatsServer) -> AsyncIterator[Form]:
    with anyio.fail_after(20):
        async with request.param(server) as form:
            yield form


def new_room() -> str:
    return f"room-{next(_numbers)}"


async def fill(log: EventLog, room: str, number: int) -> list[LogMessage]:
    seq = await log.last(room)
    messages = []
    for at in range(number):
        payload = f"{room} {at}".encode()
        seq = await log.append(room, payload, seq)
        messages.append(LogMessage(room, seq, payload))
    return messages


async def test_a_room_without_messages_has_none(form: Form) -> None:
    room = new_room()
    assert await form.log.last(room) == 0
    assert await form.log.read(room, 0) == []


async def test_what_is_appended_is_read_in_its_order_by_anybody(form: Form) -> None:
    room, neighbour = new_room(), new_room()
    stored = []
    for at in range(5):
        stored += await fill(form.log, room, 1)
        await fill(form.other, neighbour, at)
    assert [message.seq for message in stored] == sorted({message.seq for message in stored})
    assert await form.log.read(room, 0) == stored
    assert await form.other.read(room, 0) == stored
    assert await form.other.last(room) == stored[-1].seq


async def test_an_append_with_another_sequence_than_the_last_is_a_conflict_and_stores_nothing(
    form: Form,
) -> None:
    room = new_room()
    with pytest.raises(Conflict):
        await form.log.append(room, b"a first one", 7)
    [message] = await fill(form.log, room, 1)
    await fill(form.log, new_room(), 1)
    for expected in (0, message.seq - 1, message.seq + 1):
        with pytest.raises(Conflict):
            await form.other.append(room, b"a second one", expected)
    assert await form.log.read(room, 0) == [message]


async def test_of_many_appends_at_once_one_is_stored(form: Form) -> None:
    room = new_room()

    async def attempt(number: int) -> int:
        try:
            return await (form.log, form.other)[number % 2].append(room, b"%d" % number, 0)
        except Conflict:
            return 0

    results = await asyncio.gather(*(attempt(number) for number in range(20)))
    [(_, seq, payload)] = await form.log.read(room, 0)
    assert [seq for seq in results if seq] == [seq]
    assert results[int(payload)] == seq


async def test_reading_goes_on_after_any_sequence_whoever_it_belongs_to(form: Form) -> None:
    room = new_room()
    first = await fill(form.log, room, 3)
    [foreign] = await fill(form.log, new_room(), 1)
    last = await fill(form.log, room, 2)
    assert await form.log.read(room, first[1].seq) == [first[2], *last]
    assert await form.log.read(room, foreign.seq) == last
    assert await form.log.read(room, last[-1].seq) == []
    assert await form.log.read(room, last[-1].seq + 1_000_000) == []
    assert await form.log.read(room, -1) == [*first, *last]


@pytest.mark.parametrize("limit", [1, 2, 7, 256])
async def test_reading_in_steps_misses_nothing(form: Form, limit: int) -> None:
    room = new_room()
    stored = await fill(form.log, room, 20)
    found: list[LogMessage] = []
    while messages := await form.log.read(room, found[-1].seq if found else 0, limit):
        assert len(messages) <= limit
        found += messages
    assert found == stored


async def test_many_large_messages_are_read_in_steps(form: Form) -> None:
    room, seq, stored = new_room(), 0, []
    for number in range(12):
        stored.append(await form.log.append(room, bytes([number]) * 600_000, seq))
        seq = stored[-1]
    found: list[LogMessage] = []
    while messages := await form.other.read(room, found[-1].seq if found else 0):
        found += messages
    assert [(message.seq, message.payload[:1]) for message in found] == [
        (seq, bytes([number])) for number, seq in enumerate(stored)
    ]
    assert {len(message.payload) for message in found} == {600_000}


async def test_a_payload_is_kept_byte_for_byte(form: Form) -> None:
    room = new_room()
    for payload in (b"", b"\r\n\x00\xff", bytes(range(256)) * 40):
        seq = await form.log.append(room, payload, await form.log.last(room))
        assert await form.other.get(seq) == LogMessage(room, seq, payload)
    assert [message.payload for message in await form.other.read(room, 0)][:2] == [b"", b"\r\n\x00\xff"]


async def test_a_message_is_found_by_its_sequence(form: Form) -> None:
    [message] = await fill(form.log, new_room(), 1)
    assert await form.other.get(message.seq) == message
    for nowhere in (-1, 0, message.seq + 1_000_000):
        assert await form.log.get(nowhere) is None


async def test_too_long_a_payload_is_refused_and_leaves_nothing_broken(form: Form) -> None:
    room = new_room()
    seq = await form.log.append(room, b"x" * form.most, 0)
    for excess in (1, 1024, 10_000_000):
        with pytest.raises(LogFull):
            await form.log.append(room, b"x" * (form.most + excess), seq)
    assert await form.log.last(room) == seq
    await fill(form.log, room, 1)


async def test_an_empty_answer_is_the_truth_even_right_after_the_append_of_another(form: Form) -> None:
    room, seq = new_room(), 0
    for _ in range(100):
        assert await form.log.read(room, seq) == []
        new = await form.other.append(room, b"x", seq)
        assert [message.seq for message in await form.log.read(room, seq)] == [new]
        seq = new


async def test_the_heads_are_the_last_messages_of_all_rooms(form: Form) -> None:
    rooms = [new_room() for _ in range(1_234)]
    last: dict[str, LogMessage] = {}
    for some in (rooms, rooms[::3]):
        for at in range(0, len(some), 100):
            filled = await asyncio.gather(*(fill(form.log, room, 1) for room in some[at : at + 100]))
            last.update((message.room, message) for [message] in filled)
    heads = [head async for head in form.other.heads()]
    assert len({head.room for head in heads}) == len(heads)
    assert [head.seq for head in heads] == sorted(head.seq for head in heads)
    assert {head.room: head for head in heads if head.room in last} == last


async def test_heads_that_are_large_all_come(form: Form) -> None:
    rooms = [new_room() for _ in range(40)]
    for room in rooms:
        await form.log.append(room, b"x" * 900_000, 0)
    heads = {head.room: len(head.payload) async for head in form.log.heads()}
    assert {room: heads[room] for room in rooms} == dict.fromkeys(rooms, 900_000)


async def test_looking_at_some_heads_only_leaves_nothing_behind(form: Form) -> None:
    for _ in range(3):
        await fill(form.log, new_room(), 1)
    heads = form.log.heads()
    first = await anext(heads)
    await heads.aclose()  # type: ignore[attr-defined]
    assert (await form.log.get(first.seq)) == first


async def test_after_retention_the_log_begins_later_and_goes_on(form: Form) -> None:
    old, going, new = new_room(), new_room(), new_room()
    [gone] = await fill(form.log, old, 1)
    [also_gone] = await fill(form.log, going, 1)
    rest = await fill(form.log, going, 2)
    assert await form.log.first() <= gone.seq
    await form.forget(rest[0].seq)
    assert await form.log.first() == rest[0].seq
    assert await form.log.get(gone.seq) is None
    assert await form.log.read(going, 0) == rest
    assert await form.log.last(going) == rest[-1].seq
    # A room of which nothing is left counts as one without messages, though its sequences go on.
    assert await form.log.last(old) == 0
    assert await form.log.read(old, 0) == []
    with pytest.raises(Conflict):
        await form.log.append(old, b"x", gone.seq)
    assert await form.log.append(old, b"x", 0) > rest[-1].seq
    [message] = await fill(form.log, new, 1)
    await form.forget(message.seq + 1)
    assert await form.log.first() == message.seq + 1
    heads = {head.room async for head in form.log.heads()}
    assert not {old, going, new} & heads
    assert also_gone.seq < await form.log.append(going, b"x", 0)


# What only a server can do


async def within(seconds: float, work: Awaitable[object]) -> BaseException | None:
    """What it raised. Fails if that took longer, and two seconds more for a machine that does other work too."""
    with anyio.fail_after(seconds + 2):
        try:
            await work
        except LogUnavailable as error:
            return error
    return None


async def all_heads(log: EventLog) -> None:
    async for _ in log.heads():
        pass


def every_call(log: EventLog, room: str) -> dict[str, Awaitable[object]]:
    return {
        "append": log.append(room, b"x", 0),
        "read": log.read(room, 0),
        "get": log.get(1),
        "last": log.last(room),
        "first": log.first(),
        "heads": all_heads(log),
    }


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_while_the_server_is_away_every_call_says_so_soon_and_when_it_is_back_all_is_there(
    how: str,
) -> None:
    async with provisioned_server() as server, connected(server) as client:
        log, room = JetStreamEventLog(client, "canvas"), new_room()
        stored = await fill(log, room, 3)
        await (server.kill() if how == "stopped" else freeze(server, client))
        calls = every_call(log, room)
        results = await asyncio.gather(*(within(APPEND_TIMEOUT + 1, call) for call in calls.values()))
        unsaid = [name for name, result in zip(calls, results, strict=True) if result is None]
        assert not unsaid
        await (server.start() if how == "stopped" else asyncio.to_thread(server.thaw))
        with anyio.fail_after(10):
            while await within(10, log.first()) is not None:
                await asyncio.sleep(0.02)
        assert (await log.read(room, 0))[:3] == stored
        await fill(log, room, 1)


async def test_an_append_without_an_answer_may_be_stored_and_reading_tells() -> None:
    async with provisioned_server() as server, connected(server) as client:
        log, room = JetStreamEventLog(client, "canvas"), new_room()
        seq = (await fill(log, room, 1))[0].seq
        await freeze(server, client)
        assert await within(APPEND_TIMEOUT + 1, log.append(room, b"late", seq)) is not None
        server.thaw()
        with anyio.fail_after(10):
            while not (found := await log.read(room, seq)):
                await asyncio.sleep(0.02)
        assert [message.payload for message in found] == [b"late"]
        with pytest.raises(Conflict):
            await log.append(room, b"late", seq)


async def test_without_a_stream_there_is_no_answer_and_no_lie() -> None:
    async with nats_server() as server, connected(server) as client:
        log = JetStreamEventLog(client, "canvas")
        for name, call in every_call(log, "nowhere").items():
            assert await within(APPEND_TIMEOUT + 1, call) is not None, name


async def test_a_full_stream_refuses_for_good() -> None:
    async with nats_server() as server, connected(server) as client:
        full = StreamConfig(
            name="CANVAS",
            subjects=["rt.evt.canvas.*"],
            max_bytes=2_000,
            discard="new",  # type: ignore[arg-type]
        )
        await client.jetstream().add_stream(full)
        log = JetStreamEventLog(client, "canvas")
        seq = await log.append("room", b"x" * 1_500, 0)
        with pytest.raises(LogFull):
            await log.append("room", b"x" * 1_500, seq)
        assert await log.last("room") == seq


async def test_an_answer_that_is_none_of_jetstreams_counts_as_no_answer() -> None:
    async with nats_server() as server, connected(server) as client, connected(server) as imposter:
        for answer in (b"", b"not JSON", b"{}", b'{"seq":0}', b"[]"):

            async def reply(message: object, answer: bytes = answer) -> None:
                await message.respond(answer)  # type: ignore[attr-defined]

            subscription = await imposter.subscribe("rt.evt.canvas.*", cb=reply)
            await imposter.flush()
            error = await within(1, JetStreamEventLog(client, "canvas").append("room", b"x", 0))
            assert error is not None, answer
            await subscription.unsubscribe()


ROOMS = 6 * BATCH_FROM


async def test_many_rooms_at_once_are_committed_together_and_each_is_judged_for_itself() -> None:
    """In a few messages' time for the disk, and with the conflicts of those alone that have one."""
    async with provisioned_server() as server, connected(server) as client, connected(server) as another:
        log, other = JetStreamEventLog(client, "canvas"), JetStreamEventLog(another, "canvas")
        batches = await heard_batches(another)
        rooms = [new_room() for _ in range(ROOMS)]
        taken = rooms[::7]
        for room in taken:
            await other.append(room, b"first", 0)
        with anyio.fail_after(10):
            found = await asyncio.gather(
                *(log.append(room, room.encode(), 0) for room in rooms), return_exceptions=True
            )
            again = await asyncio.gather(
                *(
                    log.append(room, b"again", seq)
                    for room, seq in zip(rooms, found, strict=True)
                    if isinstance(seq, int)
                )
            )
        for room, seq in zip(rooms, found, strict=True):
            if room in taken:
                assert isinstance(seq, Conflict)
                assert [message.payload for message in await log.read(room, 0)] == [b"first"]
            else:
                messages = await log.read(room, 0)
                assert [message.payload for message in messages] == [room.encode(), b"again"]
                assert messages[0].seq == seq
                assert messages[1].seq in again
        assert len(set(again)) == len(again) == len(rooms) - len(taken)
        await another.flush()
        assert batches, "the test shows nothing without one"


async def test_of_one_room_that_appends_a_hundred_times_at_once_one_is_stored() -> None:
    async with provisioned_server() as server, connected(server) as client:
        log, room = JetStreamEventLog(client, "canvas"), new_room()
        with anyio.fail_after(10):
            found = await asyncio.gather(
                *(log.append(room, b"%d" % number, 0) for number in range(100)), return_exceptions=True
            )
        assert sum(isinstance(each, int) for each in found) == 1
        assert sum(isinstance(each, Conflict) for each in found) == 99
        assert len(await log.read(room, 0)) == 1


async def test_a_batch_without_an_answer_may_be_stored_and_reading_tells() -> None:
    async with provisioned_server() as server, connected(server) as client:
        log, rooms = JetStreamEventLog(client, "canvas"), [new_room() for _ in range(ROOMS)]
        await asyncio.gather(*(log.append(room, b"early", 0) for room in rooms))
        seqs = [await log.last(room) for room in rooms]
        await freeze(server, client)
        late = [log.append(room, b"late", seq) for room, seq in zip(rooms, seqs, strict=True)]
        found = await asyncio.gather(
            *(within(2 * APPEND_TIMEOUT + 1, each) for each in late), return_exceptions=True
        )
        assert all(each is not None for each in found)
        server.thaw()
        with anyio.fail_after(20):
            for room, seq in zip(rooms, seqs, strict=True):
                while True:
                    try:
                        await log.append(room, b"again", seq)
                        break
                    except LogUnavailable:
                        await asyncio.sleep(0.02)
                    except Conflict:
                        assert [message.payload for message in await log.read(room, seq)] == [b"late"]
                        break


async def test_a_stream_that_knows_no_batches_takes_each_alone() -> None:
    async with nats_server() as server, connected(server) as client, connected(server) as another:
        await client.jetstream().add_stream(StreamConfig(name="CANVAS", subjects=["rt.evt.canvas.*"]))
        batches = await heard_batches(another)
        log, rooms = JetStreamEventLog(client, "canvas"), [new_room() for _ in range(ROOMS)]
        for turn in range(2):
            with anyio.fail_after(10):
                found = await asyncio.gather(
                    *(log.append(room, b"x", 0) for room in rooms), return_exceptions=True
                )
            assert all(isinstance(each, Conflict if turn else int) for each in found)
        await another.flush()
        assert not batches


async def heard_batches(client: Client) -> set[str]:
    """The ids of batches that are sent, as they are."""
    heard: set[str] = set()

    async def hear(message: Msg) -> None:
        ident = (message.headers or {}).get("Nats-Batch-Id")
        if ident:
            heard.add(ident)

    await client.subscribe("rt.evt.canvas.*", cb=hear)
    await client.flush()
    return heard
