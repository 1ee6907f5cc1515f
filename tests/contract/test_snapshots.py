"""One suite over every form of the snapshots, and what only a server can do to them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, NamedTuple

import anyio
import msgspec
import pytest

from roundtable.common import subjects
from roundtable.common.snapshots import INLINE_BYTES, JetStreamSnapshots, MemorySnapshots, Snapshot, Snapshots
from roundtable.common.testing.jetstream import connected, freeze, provisioned_server
from roundtable.common.testing.nats import NatsServer

_numbers = count()


class Form(NamedTuple):
    """The store, the same as another process sees it, and a way past it."""

    snapshots: Snapshots
    other: Snapshots
    put: Callable[[str, bytes], Awaitable[object]]


@asynccontextmanager
async def memory(_: NatsServer) -> AsyncIterator[Form]:
    snapshots = MemorySnapshots()

    async def put(room: str, value: bytes) -> None:
        snapshots.packed[room] = value[1:]

    yield Form(snapshots, snapshots, put)


@asynccontextmanager
async def jetstream(server: NatsServer) -> AsyncIterator[Form]:
    async with connected(server) as client, connected(server) as another:

        async def put(room: str, value: bytes) -> None:
            bucket = await client.jetstream().key_value(subjects.snapshot_bucket("canvas"))
            await bucket.put(room, value)

        yield Form(JetStreamSnapshots(client, "canvas"), JetStreamSnapshots(another, "canvas"), put)


@pytest.fixture(params=[memory, jetstream])
async def form(request: pytest.FixtureRequest, server: NatsServer) -> AsyncIterator[Form]:
    with anyio.fail_after(20):
        async with request.param(server) as form:
            yield form


def new_room() -> str:
    return f"room-{next(_numbers)}"


SMALL: Any = {"words": ["a", "ä", ""], "numbers": [0, -1, 1.5, 2**63], "none": None}


def large(number: int) -> list[Any]:
    """More than fits into the bucket, however it is compressed."""
    return [number, secrets.token_bytes(1_000_000)]


async def test_a_room_without_a_snapshot_has_none(form: Form) -> None:
    assert await form.snapshots.load(new_room()) is None


async def test_a_snapshot_comes_back_as_it_was_saved_wherever_it_is_loaded(form: Form) -> None:
    room, neighbour = new_room(), new_room()
    assert await form.snapshots.save(room, Snapshot(7, SMALL)) > 0
    await form.snapshots.save(neighbour, Snapshot(8, []))
    assert await form.other.load(room) == Snapshot(7, SMALL)
    assert await form.other.load(neighbour) == Snapshot(8, [])


async def test_a_state_that_is_encoded_already_is_the_same(form: Form) -> None:
    room = new_room()
    await form.snapshots.save(room, Snapshot(7, msgspec.Raw(msgspec.msgpack.encode(SMALL))))
    assert await form.other.load(room) == Snapshot(7, SMALL)


async def test_a_large_snapshot_comes_back_too(form: Form) -> None:
    room, state = new_room(), large(1)
    assert await form.snapshots.save(room, Snapshot(7, state)) > INLINE_BYTES
    assert await form.other.load(room) == Snapshot(7, state)


async def test_a_later_snapshot_takes_the_place_of_the_one_before_whatever_their_sizes(form: Form) -> None:
    room = new_room()
    for seq, state in enumerate((SMALL, large(1), large(2), SMALL, large(3), SMALL)):
        await form.snapshots.save(room, Snapshot(seq, state))
        assert await form.other.load(room) == Snapshot(seq, state)


async def test_saving_at_once_leaves_one_of_them(form: Form) -> None:
    room = new_room()
    states = [large(number) for number in range(3)] + [SMALL]
    both = (form.snapshots, form.other)
    await asyncio.gather(*(both[n % 2].save(room, Snapshot(n, state)) for n, state in enumerate(states)))
    found = await form.snapshots.load(room)
    assert found is not None
    assert found.state == states[found.seq]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"I",
        b"X",
        b"Inot compressed",
        b"I\x78\x9c",
        b"L",
        bytes.fromhex("4978da6364620002000026000c"),
    ],
)
async def test_what_cannot_be_read_counts_as_none(form: Form, value: bytes) -> None:
    room = new_room()
    await form.put(room, value)
    assert await form.other.load(room) is None
    await form.snapshots.save(room, Snapshot(1, SMALL))
    assert await form.other.load(room) == Snapshot(1, SMALL)


@pytest.mark.parametrize(
    "content", [(2, 1, []), (1, -1, []), (1, "1", []), (1, True, []), (1, 1), 7, None, {"version": 1}]
)
async def test_what_another_version_has_written_counts_as_none(form: Form, content: Any) -> None:
    import zlib

    room = new_room()
    await form.put(room, b"I" + zlib.compress(msgspec.msgpack.encode(content)))
    assert await form.other.load(room) is None


# What only a server can do


async def test_a_large_snapshot_whose_parts_are_gone_counts_as_none_soon() -> None:
    async with provisioned_server() as server, connected(server) as client:
        snapshots = JetStreamSnapshots(client, "canvas")
        await snapshots.save("room", Snapshot(1, large(1)))
        bucket = subjects.snapshot_objects("canvas")
        await client.jetstream().purge_stream(f"OBJ_{bucket}", subject=f"$O.{bucket}.C.>")
        with anyio.fail_after(4):
            assert await snapshots.load("room") is None


async def test_loading_while_a_large_one_is_replaced_gives_a_whole_one_or_none() -> None:
    async with provisioned_server() as server, connected(server) as client, connected(server) as another:
        writer, reader = JetStreamSnapshots(client, "canvas"), JetStreamSnapshots(another, "canvas")
        states = [large(number) for number in range(6)]
        await writer.save("room", Snapshot(0, states[0]))

        async def write() -> None:
            for seq, state in enumerate(states):
                await writer.save("room", Snapshot(seq, state))

        with anyio.fail_after(30):
            writing = asyncio.create_task(write())
            while not writing.done():
                found = await reader.load("room")
                assert found is None or found.state == states[found.seq]
            await writing
            assert await reader.load("room") == Snapshot(5, states[5])


async def test_without_buckets_there_is_none_and_saving_says_so(server: NatsServer) -> None:
    async with connected(server) as client:
        snapshots = JetStreamSnapshots(client, "nowhere")  # type: ignore[arg-type]
        assert await snapshots.load("room") is None
        with pytest.raises(Exception, match="NotFound"):
            await snapshots.save("room", Snapshot(1, []))


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_while_the_server_is_away_there_is_none_and_saving_fails_and_then_all_goes_on(how: str) -> None:
    async with provisioned_server() as server, connected(server) as client:
        snapshots = JetStreamSnapshots(client, "canvas")
        await snapshots.save("room", Snapshot(1, SMALL))
        await (server.kill() if how == "stopped" else freeze(server, client))
        with anyio.fail_after(10):
            began = time.monotonic()
            assert await snapshots.load("room") is None
            assert time.monotonic() - began < 3
            with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is, it comes soon
                await snapshots.save("room", Snapshot(2, SMALL))
            assert time.monotonic() - began < 6
            await (server.start() if how == "stopped" else asyncio.to_thread(server.thaw))
            while (found := await snapshots.load("room")) is None:
                await asyncio.sleep(0.02)
        assert found.state == SMALL
