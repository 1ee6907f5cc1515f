"""What a gateway does not hear, it fetches: messages are lost between nats-server and a gateway, for real (RS4)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import httpx
import pytest

from roundtable.common.testing.players import WebSocketPlayer
from roundtable.common.testing.proxy import NatsProxy, nats_proxy
from roundtable.common.testing.system import Program, System, system

from .crew import KINDS, Member
from .judge import all_told, judge, read_logs

pytestmark = pytest.mark.rule("RS4")


class Torn(NamedTuple):
    system: System
    gateway: Program
    """Behind the proxy."""
    proxy: NatsProxy

    @property
    def sound(self) -> Program:
        return self.system.gateway


@pytest.fixture(scope="module")
async def torn(anyio_backend: str) -> AsyncIterator[Torn]:
    async with system() as running, nats_proxy(running.nats.port) as proxy:
        gateway = await running.add("gateway", NATS_URL=proxy.url, AUDIT_SECONDS="1", RING_EVENTS="4")
        await gateway.ready()
        yield Torn(running, gateway, proxy)


@asynccontextmanager
async def readers(torn: Torn, room: str) -> AsyncIterator[list[Member]]:
    """One over each transport, all at the gateway that misses something; when they leave, their accounts are judged."""
    async with AsyncExitStack() as stack:
        found = [Member([torn.gateway], f"reads-{kind}", room, kinds=(kind,)) for kind in KINDS]
        for member in found:
            await stack.enter_async_context(member)
        yield found
        await all_told(torn.system.nats.url, found, within=8)
    assert judge(await read_logs(torn.system.nats.url, [room]), found) == []
    assert [member.comings for member in found] == [1] * len(found)


async def metric(program: Program, name: str) -> float:
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{program.http}/metrics")).text
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name))


async def gaps(program: Program) -> tuple[float, float]:
    """Found, and messages fetched because of them."""
    names = ("roundtable_gateway_gaps_total", "roundtable_gateway_filled_messages_total")
    found, filled = [await metric(program, name) for name in names]
    return found, filled


def of_canvas(subject: str) -> bool:
    return subject.startswith("rt.out.canvas.")


async def test_a_later_event_betrays_what_was_lost_and_is_told_after_it(torn: Torn) -> None:
    before = await gaps(torn.gateway)
    async with readers(torn, "later"), Member([torn.sound], "writer", "later") as writer:
        await writer.draw("heard")
        torn.proxy.swallow = of_canvas
        for number in range(5):
            await writer.draw(f"lost-{number}")
        torn.proxy.swallow = lambda _: False
        await writer.draw("betrays")
    after = await gaps(torn.gateway)
    assert after[0] > before[0]
    assert after[1] >= before[1] + 5


async def test_without_a_later_event_a_look_at_the_log_finds_it(torn: Torn) -> None:
    _, filled = await gaps(torn.gateway)
    async with readers(torn, "quiet") as told, Member([torn.sound], "writer", "quiet") as writer:
        torn.proxy.swallow = lambda subject: subject.startswith("rt.out.")
        await writer.draw("lost")
        await writer.say("lost too")
        began = time.monotonic()
        await all_told(torn.system.nats.url, told, within=8)
        print(f"\nfound after {time.monotonic() - began:.2f} s, with an interval of 1 s")
        torn.proxy.swallow = lambda _: False
    assert (await gaps(torn.gateway))[1] >= filled + 2


@pytest.mark.rule("RS7")
async def test_who_asked_is_told_their_own_lost_event_before_the_answer(torn: Torn) -> None:
    async with readers(torn, "asked"):
        writer = WebSocketPlayer(torn.gateway.ws, "writer", "asked")
        await writer.connect()
        torn.proxy.swallow = of_canvas
        began = time.monotonic()
        answer = await writer.draw("lost")
        seconds = time.monotonic() - began
        torn.proxy.swallow = lambda _: False
        print(f"\nanswered after {seconds:.2f} s")
        names = [(m["type"], m["method"]) for m in writer.messages if m["method"] == "canvas.draw"]
        assert names == [("event", "canvas.draw"), ("response", "canvas.draw")]
        assert writer.cursor == answer["cursor"]
        assert seconds < 2.5
        await writer.close()


async def test_what_was_stored_while_the_connection_was_cut_is_told_when_it_is_back(torn: Torn) -> None:
    async with readers(torn, "cut") as told, Member([torn.sound], "writer", "cut") as writer:
        torn.proxy.cut(refuse=True)
        for number in range(20):
            await writer.draw(f"unheard-{number}")
        torn.proxy.refusing = False
        began = time.monotonic()
        await all_told(torn.system.nats.url, told, within=8)
        print(f"\nlevel {time.monotonic() - began:.2f} s after NATS could be reached again")


async def test_what_comes_late_and_after_its_successors_is_told_once_and_in_its_place(torn: Torn) -> None:
    async with readers(torn, "late"), Member([torn.sound], "writer", "late") as writer:
        torn.proxy.delay = of_canvas
        for number in range(3):
            await writer.draw(f"kept-{number}")
        torn.proxy.delay = lambda _: False
        await writer.draw("overtakes")
        await writer.draw("overtakes too")
        assert torn.proxy.release() >= 3
        await writer.draw("last")


@pytest.mark.rule("RS2")
async def test_with_every_fourth_message_lost_and_the_connection_cut_now_and_then_all_are_told_all(
    torn: Torn,
) -> None:
    chance = random.Random(4)
    async with readers(torn, "torn") as told, AsyncExitStack() as stack:
        writers = [
            await stack.enter_async_context(Member([gateway], f"writes-{n}", "torn", kinds=(kind,)))
            for n, (gateway, kind) in enumerate(
                ((torn.sound, "json"), (torn.gateway, "msgpack"), (torn.gateway, "sse"))
            )
        ]

        async def write(member: Member) -> None:
            for number in range(40):
                await member.draw(f"{member.user}-{number}")
                if number % 5 == 0:
                    await member.say(f"{member.user}-says-{number}", to=["reads-sse"])

        writing = asyncio.gather(*map(write, writers))
        torn.proxy.swallow = lambda subject: subject.startswith("rt.out.") and chance.random() < 0.25
        while not writing.done():
            await asyncio.wait((writing,), timeout=0.7)
            torn.proxy.cut()
        await writing
        torn.proxy.swallow = lambda _: False
        await all_told(torn.system.nats.url, [*told, *writers], within=8)
        print(f"\n{torn.proxy.swallowed} messages were lost in all; {await gaps(torn.gateway)}")
