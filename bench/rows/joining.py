"""Row: how long it takes to come in: into a large room, and a thousand who come back with their cursors at once."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import nats

from roundtable.common.command_client import CommandClient
from roundtable.common.testing.system import System

from ..bench import Bench, Row, said
from ..clients import Guest, at_once, draw
from ..figures import Section, Spread, Table, quantile
from ..servers import ours

OPERATIONS: Final = 10_000
JOINS: Final = 8
STORM: Final = 1_000
PEOPLE: Final = 10


async def measure(bench: Bench) -> Section:
    first: list[float] = []
    later: list[float] = []
    joined: list[float] = []
    level: list[float] = []
    retries = 0
    slowest: list[float] = []
    megabytes = 0.0
    async with ours(bench.folder) as system:
        client = await nats.connect(system.nats.url)
        commands = CommandClient(client)
        await commands.start()
        for turn in range(bench.repeats):
            room = f"large{turn}"
            await at_once([draw(commands, room, number, 100) for number in range(OPERATIONS // 100)], 8)
            for number in range(JOINS):
                guest = Guest(system.gateway.ws, room, f"j{number}")
                took = await guest.join()
                (later if number else first).append(took * 1000)
                megabytes = guest.bytes / 1e6
                await guest.hang_up()
            said(
                f"{turn + 1} large room: first {first[-1]:.0f} ms, then {later[-1]:.0f} ms, {megabytes:.1f} MB"
            )
            come, all_level, worst, sent_away = await _storm(system, commands, turn)
            retries += sent_away
            joined.append(STORM / come)
            level.append(all_level)
            slowest.append(worst * 1000)
            said(f"{turn + 1} storm: {all_level:.2f} s until all are level")
        await client.close()
    return Section(
        "Coming in, and coming back",
        f"A room with {OPERATIONS:,} strokes of 12 points ({megabytes:.1f} MB of snapshots): from the first byte sent to the"
        f" last page read. Then {STORM:,} in rooms of {PEOPLE} lose their connections, one stroke is drawn in each room, and"
        " all come back with their cursors at once.",
        Table(
            ("what", "figure"),
            [
                ("first to join the large room, ms", str(Spread.of(first))),
                ("each later one, ms", str(Spread.of(later))),
                (f"{STORM:,} new ones: joins a second", str(Spread.of(joined))),
                (f"{STORM:,} come back: seconds until all have what they missed", str(Spread.of(level))),
                ("99 % of them within, ms", str(Spread.of(slowest))),
                ("times that one was sent away (`unavailable`) and came again", str(retries)),
            ],
        ),
        [
            "The clients are one process in Python on the same cores: it takes about half of the time.",
            "Who comes back brings a cursor and gets what was missed from the gateway's ring; nobody reads a snapshot.",
        ],
    )


async def _storm(system: System, commands: CommandClient, turn: int) -> tuple[float, float, float, int]:
    """Seconds to join, seconds until all are level again, the 99th percentile of one's, and how often one was sent away."""
    guests = [
        Guest(system.gateway.ws, f"storm{turn}-{number // PEOPLE}", f"s{number}") for number in range(STORM)
    ]
    began = time.perf_counter()
    await at_once([guest.join() for guest in guests], 200)
    come = time.perf_counter() - began
    await asyncio.gather(*(guest.hang_up() for guest in guests))
    await at_once([draw(commands, f"storm{turn}-{number}", 1) for number in range(STORM // PEOPLE)], 20)
    began = time.perf_counter()

    async def back(guest: Guest) -> float:
        guest.drawn = 0
        await guest.join(guest.cursor)
        await guest.until_drawn(1)
        return time.perf_counter() - began

    took = sorted(await asyncio.gather(*map(back, guests)))
    await asyncio.gather(*(guest.hang_up() for guest in guests))
    return come, took[-1], quantile(took, 0.99), sum(guest.retries for guest in guests)


ROW: Final = Row("joining", "joining a room of 10,000 strokes, and 1,000 who come back at once", measure)
