"""Who reads too slowly, or not at all, or never says what they want, costs little and slows nobody else (RS8, LI3)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import socket
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any, Final

import httpx
import pytest

from roundtable.common.testing.players import WebSocketPlayer, stroke, token
from roundtable.common.testing.system import Program, System, system

from .crew import Member
from .judge import all_told, judge, read_logs

pytestmark = pytest.mark.rule("RS8")

NARROW: Final = 4_096
"""Bytes that a slow reader's kernel takes for it, about."""
BIG: Final = 40_000
"""Bytes of a big stroke, about."""
WORST: Final = 2.5
"""Seconds that anything may take for others, on a machine that does other work too."""
HEADER_TIMEOUT: Final = 3.0


@pytest.fixture(scope="module")
async def table(anyio_backend: str) -> AsyncIterator[System]:
    settings = {"HEADER_TIMEOUT": f"{HEADER_TIMEOUT:g}", "RING_EVENTS": "64"}
    async with system(settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def files() -> Iterator[int]:
    """As many open files as we may have; how many that is."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(most, 16_384) if most != resource.RLIM_INFINITY else 16_384
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before, wanted), most))
    yield max(before, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def big(ident: str) -> dict[str, Any]:
    return stroke(ident, points=[{"x": n + 0.5, "y": n} for n in range(BIG // 20)])


async def draw_big(player: WebSocketPlayer, count: int, name: str = "big") -> None:
    for number in range(count):
        await player.request("canvas.draw", {"operations": [big(f"{name}-{number}")]}, wait=20)


async def narrow(port: int) -> socket.socket:
    """Connected, and with hardly any room for what comes."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
    except BaseException:
        made.close()
        raise
    return made


def head(path: str, user: str, room: str, *more: str) -> bytes:
    lines = (
        f"GET {path}?room={room} HTTP/1.1",
        "Host: test",
        f"Authorization: Bearer {token(user, room)}",
        *more,
        "",
        "",
    )
    return "\r\n".join(lines).encode()


def upgrade() -> tuple[str, ...]:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
    )


async def deaf(gateway: Program, user: str, room: str) -> socket.socket:
    """A WebSocket that asks to be let in and then never reads."""
    made = await narrow(gateway.port)
    await asyncio.get_running_loop().sock_sendall(made, head("/ws", user, room, *upgrade()))
    return made


async def rest_of(deaf_one: socket.socket, within: float = 10.0) -> bytes:
    """All that was still on its way."""
    found = bytearray()
    async with asyncio.timeout(within):
        while data := await asyncio.get_running_loop().sock_recv(deaf_one, 1 << 16):
            found += data
    return bytes(found)


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Opcodes and payloads of a server's frames (RFC 6455, 5.2)."""
    found, at = [], 0
    while at + 2 <= len(data):
        length, start = data[at + 1], at + 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, start = int.from_bytes(data[start : start + size], "big"), start + size
        found.append((data[at] & 0x0F, data[start : start + length]))
        at = start + length
    return found


async def metric(gateway: Program, name: str) -> float:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        page = (await client.get(f"{gateway.http}/metrics")).text
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name))


async def until(gateway: Program, name: str, holds: Callable[[float], bool], within: float = 15.0) -> float:
    async with asyncio.timeout(within):
        while not holds(value := await metric(gateway, f"roundtable_gateway_{name}")):
            await asyncio.sleep(0.05)
    return value


def memory(program: Program) -> float:
    """Megabytes."""
    with open(f"/proc/{program.pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


class Probe:
    """Two who draw for each other in a room of their own all the time: what the others' trouble costs them."""

    def __init__(self, first: WebSocketPlayer, second: WebSocketPlayer) -> None:
        self.seconds: list[float] = []
        self._first, self._second = first, second

    async def run(self) -> None:
        for number in range(1_000_000):
            began = time.monotonic()
            await self._first.draw(f"probe-{number}", wait=20)
            await self._second.event(
                "canvas.draw", lambda data, n=number: data["operations"][0]["id"] == f"probe-{n}", wait=20
            )
            self.seconds.append(time.monotonic() - began)
            await asyncio.sleep(0.01)

    def take(self, name: str) -> float:
        """Tells what it was since the last time; returns the worst."""
        seconds, self.seconds = sorted(self.seconds), []
        worst = seconds[-1] if seconds else float("inf")
        print(
            f"\n{name}: {len(seconds)} strokes, p50 {statistics.median(seconds or [0]) * 1000:.1f} ms, "
            f"p99 {(seconds or [0])[int(len(seconds) * 0.99)] * 1000:.1f} ms, worst {worst * 1000:.1f} ms",
            end="",
        )
        return worst


@asynccontextmanager
async def probing(gateway: Program) -> AsyncIterator[Probe]:
    async with (
        WebSocketPlayer(gateway.ws, "first", "probe") as first,
        WebSocketPlayer(gateway.ws, "second", "probe") as second,
    ):
        assert isinstance(first, WebSocketPlayer)
        assert isinstance(second, WebSocketPlayer)
        probe = Probe(first, second)
        running = asyncio.create_task(probe.run())
        await asyncio.sleep(0.3)
        probe.take("before")
        try:
            yield probe
        finally:
            if running.done():
                running.result()
            running.cancel()
            await asyncio.wait((running,))


@pytest.mark.rule("RS2")
async def test_who_does_not_read_is_closed_with_a_word_and_comes_back_for_the_rest(table: System) -> None:
    gateway = table.gateway
    slow = await metric(gateway, "roundtable_gateway_slow_consumers_total")
    with await deaf(gateway, "deaf", "one") as socket_:
        writer = WebSocketPlayer(gateway.ws, "writer", "one")
        await writer.connect()
        await writer.wait_for(lambda: len(writer.told("presence.update")) >= 1)
        await draw_big(writer, 45)
        await until(gateway, "slow_consumers_total", lambda value: value == slow + 1)
        told = (await rest_of(socket_)).partition(b"\r\n\r\n")[2]
    *messages, (opcode, reason) = frames(told)
    assert (opcode, int.from_bytes(reason[:2], "big"), reason[2:]) == (8, 1013, b"slow_consumer")
    events = [json.loads(payload) for _, payload in messages]
    cursors = [event["id"] for event in events if "id" in event]
    drawn = [op["id"] for e in events if e["method"] == "canvas.draw" for op in e["data"]["operations"]]
    assert len(told) < 3_000_000

    back = WebSocketPlayer(gateway.ws, "deaf", "one")
    assert (await back.connect(cursors[-1]))["recovered"]
    await back.wait_for(lambda: len(drawn + back.strokes()) >= 45)
    assert drawn + back.strokes() == writer.strokes()
    await back.close()
    await writer.close()


async def test_a_stream_that_is_not_read_ends_with_a_word(table: System) -> None:
    gateway = table.gateway
    slow = await metric(gateway, "roundtable_gateway_slow_consumers_total")
    with await narrow(gateway.port) as socket_:
        await asyncio.get_running_loop().sock_sendall(socket_, head("/sse", "deaf", "stream"))
        writer = WebSocketPlayer(gateway.ws, "writer", "stream")
        await writer.connect()
        await draw_big(writer, 45)
        await until(gateway, "slow_consumers_total", lambda value: value == slow + 1)
        told = b""
        async with asyncio.timeout(10):
            while b"slow_consumer" not in told[-2_000:]:
                told += await asyncio.get_running_loop().sock_recv(socket_, 1 << 16)
        await writer.close()
    assert b"event: error" in told[-2_000:]


@pytest.mark.rule("PR4")
async def test_who_pauses_and_goes_on_has_every_stroke_and_the_latest_cursors(table: System) -> None:
    gateway = table.gateway
    reader = WebSocketPlayer(gateway.ws, "reader", "pause", sock=await narrow(gateway.port))
    mover = WebSocketPlayer(gateway.ws, "mover", "pause")
    await reader.connect()
    await reader.snapshots()
    await mover.connect()
    assert reader.socket is not None
    skipped = await metric(gateway, "roundtable_gateway_writes_skipped_total")
    reader.socket.transport.pause_reading()
    await draw_big(mover, 12)
    for number in range(50):
        await mover.tell("presence.cursor", {"x": number, "y": -number})
        await asyncio.sleep(0.01)
    await until(gateway, "writes_skipped_total", lambda value: value > skipped)
    await asyncio.sleep(0.1)
    reader.socket.transport.resume_reading()
    last = [{"userId": "mover", "x": 49, "y": -49}]
    await reader.event("presence.cursor", lambda data: data["cursors"] == last)
    await reader.wait_for(lambda: len(reader.strokes()) == 12)
    assert reader.strokes() == mover.strokes()
    assert not reader.closed.done()
    assert len(reader.told("presence.cursor")) < 50
    for player in (reader, mover):
        await player.close()


@pytest.mark.rule("RS2")
async def test_who_comes_back_for_megabytes_and_reads_them_is_not_taken_for_slow(table: System) -> None:
    gateway = table.gateway
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(Member([gateway], f"back-{kind}", "heap", kinds=(kind,)))
            for kind in ("json", "msgpack", "sse", "poll")
        ]
        await all_told(table.nats.url, members)
        for member in members:
            await member.leave()
        writer = WebSocketPlayer(gateway.ws, "writer", "heap")
        await writer.connect()
        await asyncio.gather(*(draw_big(writer, 50, name=f"pile{n}") for n in range(4)))
        await writer.close()
        for member in members:
            await stack.enter_async_context(member)
        await all_told(table.nats.url, members)
    assert judge(await read_logs(table.nats.url, ["heap"]), members) == []
    assert [member.ends for member in members] == [[]] * len(members)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads memory in /proc")
async def test_two_hundred_who_do_not_read_are_closed_early_and_leave_nothing_behind(
    table: System, files: int
) -> None:
    gateway, many = table.gateway, 200
    slow = await metric(gateway, "roundtable_gateway_slow_consumers_total")
    async with probing(gateway) as probe:
        with ExitStack() as sockets:
            for number in range(many):
                sockets.enter_context(await deaf(gateway, f"deaf-{number}", "many"))
            writer = WebSocketPlayer(gateway.ws, "writer", "many")
            await writer.connect()
            await until(gateway, 'connections{transport="websocket"}', lambda value: value >= many + 3)
            before = memory(gateway)
            await draw_big(writer, 45)
            await until(gateway, "slow_consumers_total", lambda value: value == slow + many)
            grown = memory(gateway) - before
            worst = probe.take(f"beside {many} who do not read")
        await writer.close()
    print(f"\nmemory {before:.0f} MB, grown by {grown:.0f} MB while they were waited for")
    assert grown < 150
    assert worst < WORST


@pytest.mark.rule("LI3")
async def test_a_thousand_slow_readers_and_a_thousand_half_open_sockets_slow_nobody_down(
    table: System, files: int
) -> None:
    gateway, loop = table.gateway, asyncio.get_running_loop()
    crowd = min(1_000, (files - 1_000) // 2)
    rooms = [f"crowd-{n}" for n in range(10)]
    slow = await metric(gateway, "roundtable_gateway_slow_consumers_total")
    async with probing(gateway) as probe:
        with ExitStack() as sockets:
            began = time.monotonic()
            for number in range(crowd):
                sockets.enter_context(await deaf(gateway, f"deaf-{number}", rooms[number % len(rooms)]))
            await until(
                gateway, 'connections{transport="websocket"}', lambda value: value >= crowd + 2, within=40
            )
            print(f"\n{crowd} came in {time.monotonic() - began:.1f} s", end="")
            worst = [probe.take("while slow ones come")]

            half_open = []
            for number in range(crowd):
                half_open.append(sockets.enter_context(await narrow(gateway.port)))
                if number % 2:
                    await loop.sock_sendall(half_open[-1], b"GET /ws?room=crowd HTTP/1.1\r\nHost: te")
            opened = time.monotonic()
            worst.append(probe.take("while half-open ones come"))

            async def busy(room: str) -> None:
                async with WebSocketPlayer(gateway.ws, "writer", room) as writer:
                    assert isinstance(writer, WebSocketPlayer)
                    await draw_big(writer, 45)

            for room in rooms:
                await busy(room)
            await until(gateway, "slow_consumers_total", lambda value: value == slow + crowd, within=30)
            worst.append(probe.take("while slow ones are sent away"))

            async with asyncio.timeout(HEADER_TIMEOUT + 10):
                ends = await asyncio.gather(*(_end_of(each) for each in half_open))
            print(f"\nthe last half-open one was closed after {max(ends) - opened:.1f} s")
            worst.append(probe.take("at the end"))
            assert max(worst) < WORST


async def _end_of(half_open: socket.socket) -> float:
    """When it was closed: an end or a reset, and nothing but perhaps an error before it."""
    loop = asyncio.get_running_loop()
    try:
        while await loop.sock_recv(half_open, 4_096):
            pass
    except ConnectionError:
        pass
    return time.monotonic()
