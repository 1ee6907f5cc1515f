"""Whoever is killed, stands still or starts again: nothing is lost, doubled or reordered, and nobody becomes a ghost."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

import msgspec
import pytest

from roundtable.common.schema.presence import PresenceData
from roundtable.common.testing.players import Player, PollPlayer, SSEPlayer, WebSocketPlayer
from roundtable.common.testing.system import System, system

from .blows import STANDSTILL, strike, troubles
from .crew import Member
from .figures import Figures, work
from .judge import History, all_told, judge, read_logs

WORST: Final = 2.5
"""Seconds for the worst command under a killed replica. Promised is one; the rest is for a machine that does other work too."""
OFFLINE: Final = 15.0
"""Seconds after which a dead gateway's people are told as gone (PR2)."""
_presence: Final = msgspec.json.Decoder(PresenceData).decode


@pytest.fixture(scope="module")
async def table(anyio_backend: str) -> AsyncIterator[System]:
    async with system(gateways=2, replicas=2, sync=True, settings={"AUDIT_SECONDS": "5"}) as running:
        yield running


def offline(history: History) -> dict[str, list[float]]:
    """Who was told as gone, and when: seconds since the epoch."""
    found: dict[str, list[float]] = {}
    for stored in history["presence"]:
        if stored.event.method == "presence.update":
            person = _presence(stored.event.data)
            if person.status == "offline":
                found.setdefault(person.user_id, []).append(stored.event.timestamp / 1000)
    return found


@pytest.mark.rule("RS2", "RS4", "RS6", "RS7", "PR1", "PR2", "CO4")
async def test_whatever_is_killed_or_stands_still_everybody_has_the_log_once_and_in_order(
    table: System,
) -> None:
    gateways = table.of("gateway")
    kinds = ("json", "msgpack", "deflate", "poll")
    workers = [Member(gateways, f"draws-{n}", f"room{n}", kinds=(kinds[n],)) for n in range(4)]
    workers += [Member(gateways, f"talks-{n}", f"room{n}", kinds=(kinds[n],)) for n in range(2)]
    workers += [Member(gateways, f"roams-{n}", f"room{n}") for n in range(2)]
    readers = [
        Member(gateways, f"reads-{kind}-{n}", f"room{n}", kinds=(kind,))
        for n in range(4)
        for kind in ("json", "sse", "poll")
    ]
    left_behind: list[Player] = [
        WebSocketPlayer(gateways[0].ws, "socket", "porch"),
        SSEPlayer(gateways[0].http, "stream", "porch"),
        PollPlayer(gateways[0].http, "poller", "porch"),
        WebSocketPlayer(gateways[0].ws, "twofold", "porch"),
        WebSocketPlayer(gateways[1].ws, "twofold", "porch"),
    ]
    async with AsyncExitStack() as stack:
        for member in (*workers, *readers):
            await stack.enter_async_context(member)
        for player in left_behind:
            await player.connect()
            stack.push_async_callback(player.close)
        done = asyncio.Event()
        working = asyncio.create_task(work(workers, done))
        figures = Figures([*workers, *readers])
        phase = figures.phase
        await phase("before", "", asyncio.sleep(0))

        died = time.time()
        await phase("kill gateway-0", "", strike(table, "gateway-0", "kill"))
        blows = []
        for name in ("canvas-0", "canvas-1", "activity-0", "presence-0"):
            blow = strike(table, name, "kill", pause=1.2)
            blows.append(await phase(f"kill {name}", name.partition("-")[0], blow, 0.3))
        three = [strike(table, name, "freeze") for name in ("canvas-0", "presence-1", "activity-1")]
        blows.append(await phase("freeze one of each service", "", asyncio.gather(*three)))
        await phase("freeze gateway-1", "", strike(table, "gateway-1", "freeze"), 0.5)
        await phase("freeze nats", "", strike(table, "nats", "freeze"), 0.5)
        await phase("kill nats", "", strike(table, "nats", "kill", pause=0.3))
        await phase("after", "", asyncio.sleep(0), 0.5)

        done.set()
        await asyncio.wait_for(working, 30)
        await all_told(table.nats.url, [*workers, *readers])
    logs = await read_logs(table.nats.url, {member.room for member in workers})
    print("", *figures.phases, sep="\n")
    print(f"longest without a connection: {max(each.away for each in (*workers, *readers)):.2f} s")
    assert judge(logs, [*workers, *readers]) == []
    assert all(len(member.asked) > 50 for member in workers)
    worst = max(each.worst for each in blows)
    assert worst < WORST, f"the worst command waited {worst:.2f} s"
    assert {room: offline(history) for room, history in logs.items() if offline(history)} == {}

    gone = offline((await read_logs(table.nats.url, ["porch"]))["porch"])
    print(
        "told as gone after", {user: [f"{at - died:.1f} s" for at in times] for user, times in gone.items()}
    )
    assert gone.keys() == {"socket", "stream", "poller"}
    assert all(len(times) == 1 and times[0] - died < OFFLINE for times in gone.values())
    for program in table.programs:
        assert troubles(program, "Traceback") == []


@pytest.mark.rule("PR1", "PR2", "RS2")
async def test_when_all_was_killed_at_once_who_comes_back_never_was_gone_and_nobody_else_remains(
    table: System,
) -> None:
    gateways = table.of("gateway")
    lost = [
        WebSocketPlayer(gateways[0].ws, "ann", "hall"),
        SSEPlayer(gateways[1].http, "bob", "hall"),
        PollPlayer(gateways[0].http, "cyd", "hall"),
    ]
    async with AsyncExitStack() as stack:
        back = await stack.enter_async_context(Member(gateways, "dan", "hall"))
        for player in lost:
            await player.connect()
            stack.push_async_callback(player.close)
        await back.draw("before")

        for program in table.programs:
            program.send(signal.SIGKILL)
        await table.nats.kill()
        await asyncio.gather(*(program.kill() for program in table.programs))
        await table.nats.start()
        for program in table.programs:
            program.start()
        await asyncio.gather(*(program.ready() for program in table.programs))
        ready = time.monotonic()
        await back.draw("after")

        async with asyncio.timeout(OFFLINE):
            while len(await shown(back)) > 1:
                await asyncio.sleep(0.2)
        print(f"\nall were told as gone {time.monotonic() - ready:.1f} s after the start")
        assert await shown(back) == ["dan"]
        await all_told(table.nats.url, [back])
    logs = await read_logs(table.nats.url, ["hall"])
    assert judge(logs, [back]) == []
    assert [len(times) for times in offline(logs["hall"]).values()] == [1, 1, 1]


async def shown(member: Member) -> list[str]:
    listed = await member.ask("presence.list", {}, f"look-{time.monotonic_ns()}")
    return sorted(each["userId"] for each in listed["presence"])


@pytest.mark.rule("RS6", "PR1")
async def test_what_reaches_a_replica_after_its_standstill_is_neither_done_twice_nor_undone(
    table: System,
) -> None:
    """What the frozen owner finds in its socket when it wakes was done by others long ago, or had nothing to do."""
    gateway = table.gateway
    rooms = [f"cave{n}" for n in range(4)]
    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(Member([gateway], "ann", room)) for room in rooms]
        frozen = [
            table.programs[n] for n in range(len(table.programs)) if table.programs[n].name.endswith("-1")
        ]
        frozen = [program for program in frozen if program.service in ("canvas", "presence")]
        for program in frozen:
            program.send(signal.SIGSTOP)
        try:
            visitors = []
            for room in rooms:
                visitor = WebSocketPlayer(gateway.ws, "visitor", room)
                await visitor.connect()
                visitors.append(visitor)
            answers = await asyncio.gather(*(each.ask("canvas.undo", {}, "nothing") for each in members))
            assert [answer["undone"] for answer in answers] == [[]] * len(rooms)
            await asyncio.gather(*(each.draw("stroke") for each in members))
            await asyncio.gather(*(visitor.close() for visitor in visitors))
            await asyncio.sleep(STANDSTILL / 2)
        finally:
            for program in frozen:
                program.send(signal.SIGCONT)
        await asyncio.sleep(0.5)
        for member in members:
            assert (await member.ask("canvas.undo", {}, "nothing"))["undone"] == []
            state = await member.ask("canvas.state", {}, "look")
            assert [each["id"] for each in state["operations"]] == ["stroke"]
        async with asyncio.timeout(10):
            while any([await shown(member) != ["ann"] for member in members]):
                await asyncio.sleep(0.1)
