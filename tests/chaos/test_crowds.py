"""A thousand who do not read and a thousand who never finish what they began: nobody else waits for them (RS8).

Bounded in number and time; the figures are printed, and only what would be a stall fails.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from roundtable.common.testing.forms import http, until
from roundtable.common.testing.players import WAIT, Player, WebSocketPlayer, stroke
from roundtable.common.testing.system import Program, System, system
from roundtable.common.testing.wire import Wire

CROWD: Final = 1_000
AT_ONCE: Final = 50
STROKES: Final = 60
GROWTH_MB: Final = 256
"""Memory of the gateway that a thousand slow readers may take: what waits for all of them is one and the same."""
LINGER: Final = "60"
HALF: Final = (b"", b"GET /sse?room=porch HTTP/1.1\r\nHost: x\r\nAuthorization: Bear")


@pytest.fixture(scope="module")
async def table(anyio_backend: str) -> AsyncIterator[System]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CROWD + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"{wanted} open files are needed, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    async with system(settings={"HEADER_TIMEOUT": LINGER}) as running:
        yield running
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def metric(program: Program, name: str, label: str = "") -> float:
    """The sum of that metric's samples, of those with the label."""
    async with http(program) as client:
        lines = (await client.get("/metrics")).text.splitlines()
    samples = (line.rpartition(" ") for line in lines if line.startswith((f"{name} ", f"{name}{{")))
    return sum(float(value) for labels, _, value in samples if label in labels)


def memory_mb(program: Program) -> float:
    pages = int(Path(f"/proc/{program.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


async def together(stack: AsyncExitStack, wires: Sequence[Wire]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(wire: Wire) -> None:
        async with gate:
            await stack.enter_async_context(wire)

    await asyncio.gather(*map(one, wires))


async def draw(who: Player, seen_by: Player, name: str) -> float:
    """Thick strokes, one after another; the median of the times until the other one has it (ms)."""
    took = []
    points = [{"x": 1000.125 + n, "y": -2000.375 - n} for n in range(1_200)]
    for number in range(STROKES):
        ident, began = f"{name}-{number}", time.monotonic()
        await who.request("canvas.draw", {"operations": [stroke(ident, points=points)]}, wait=4 * WAIT)
        await seen_by.event("canvas.draw", lambda data, ident=ident: data["operations"][0]["id"] == ident)  # type: ignore[misc]
        took.append(time.monotonic() - began)
    return median(took) * 1_000


@pytest.mark.rule("RS8")
async def test_a_thousand_slow_readers_and_a_thousand_half_open_sockets_slow_nobody_down(
    table: System,
) -> None:
    gateway = table.gateway
    async with AsyncExitStack() as stack:

        async def player(user: str, room: str) -> Player:
            made = WebSocketPlayer(gateway.ws, user, room)
            await made.connect()
            await made.snapshots()
            stack.push_async_callback(made.close)
            return made

        ann, bob = await player("ann", "hall"), await player("bob", "hall")
        cyd, dan = await player("cyd", "porch"), await player("dan", "porch")
        alone = await draw(cyd, dan, "alone")
        before = memory_mb(gateway)

        half = [Wire(gateway) for _ in range(CROWD)]
        await together(stack, half)
        for number, wire in enumerate(half):
            await wire.send(HALF[number % len(HALF)])
        slow = [Wire(gateway, narrow=True) for _ in range(CROWD)]
        await together(stack, slow)
        gate = asyncio.Semaphore(AT_ONCE)

        async def come(number: int) -> None:
            async with gate:
                await slow[number].upgrade("hall", f"slow-{number}")
                await slow[number].message("event", 4 * WAIT, method="activity.snapshot")

        await asyncio.gather(*map(come, range(CROWD)))
        await until(lambda: _there(gateway, CROWD + 4), within=12 * WAIT, every=0.2)
        idle = memory_mb(gateway)

        beside = await draw(cyd, dan, "beside")
        among = await draw(ann, bob, "among")
        assert await metric(gateway, "roundtable_gateway_slow_consumers_total") == CROWD
        grown = memory_mb(gateway) - before
        print(
            f"\na thick stroke, median: {alone:.1f} ms alone, {beside:.1f} ms in another room than the crowd,"
            f" {among:.1f} ms in its room; memory {before:.0f} MB before, {idle:.0f} MB with the crowd, +{grown:.0f} MB after"
        )
        assert grown < GROWTH_MB
        await until(lambda: _there(gateway, 4), within=4 * WAIT, every=0.2)
        for each, name in ((ann, "among"), (bob, "among"), (cyd, "beside"), (dan, "beside")):
            assert [ident for ident in each.strokes() if ident.startswith(name)] == [
                f"{name}-{number}" for number in range(STROKES)
            ]
            assert not each.closed.done()


async def _there(gateway: Program, number: int) -> bool:
    return await metric(gateway, "roundtable_gateway_connections", 'transport="websocket"') == number
