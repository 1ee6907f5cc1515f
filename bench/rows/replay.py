"""Row: a canvas replica starts on a log of a million events: until it is ready, and until every room has answered."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec
import nats
from msgspec import Raw

from roundtable.common.command_client import CommandClient
from roundtable.common.eventlog_jetstream import JetStreamEventLog
from roundtable.common.schema.log import CommandMessage, StoredEvent, StoredMessage

from ..bench import Bench, Row, said
from ..clients import STROKE, at_once
from ..figures import Section, Spread, Table
from ..isolation import cpu_seconds
from ..servers import ours

ROOMS: Final = 1_000
EVENTS: Final = 1_000
MESSAGE: Final = 250
"""Events in one stored message: about what a hot room's writer makes."""


async def measure(bench: Bench) -> Section:
    ready: list[float] = []
    cold: list[float] = []
    warm: list[float] = []
    cpu: list[float] = []
    async with ours(bench.folder, gateways=0, sync=False) as system:
        client = await nats.connect(system.nats.url, pending_size=64 << 20)
        log = JetStreamEventLog(client, "canvas")
        began = time.perf_counter()
        sizes = await at_once([_fill(log, f"r{room}") for room in range(ROOMS)], 40)
        said(
            f"{ROOMS * EVENTS:,} events, {sum(sizes) / 1e6:.0f} MB, written in {time.perf_counter() - began:.0f} s"
        )
        commands = CommandClient(client)
        await commands.start()
        for turn in range(min(bench.repeats, 2)):
            for program in system.of("canvas"):
                await program.end()
                system.programs.remove(program)
            began = time.perf_counter()
            program = await system.add("canvas", f"canvas-{turn + 1}")
            await program.ready()
            ready.append(time.perf_counter() - began)
            began = time.perf_counter()
            await at_once([_ask(commands, f"r{room}", turn) for room in range(ROOMS)], 40)
            (warm if turn else cold).append(time.perf_counter() - began)
            cpu.append(cpu_seconds([program.pid]))
            said(
                f"{turn + 1}: ready in {ready[-1]:.2f} s, all rooms answered in {time.perf_counter() - began:.2f} s"
            )
            await asyncio.sleep(5)  # idle rooms save their snapshots
        await client.close()
    return Section(
        f"Starting on {ROOMS * EVENTS:,} events",
        f"{ROOMS:,} rooms of {EVENTS:,} strokes each, in messages of {MESSAGE}. A replica starts; then somebody undoes in each"
        " room, so that it is loaded: first with no snapshot at all, then with those that the first start has left.",
        Table(
            ("what", "seconds"),
            [
                ("until it is ready (its process's start included)", str(Spread.of(ready))),
                ("until every room has answered, from the whole log", str(Spread.of(cold))),
                ("until every room has answered, from snapshots", str(Spread.of(warm)) if warm else "–"),
            ],
        ),
        [
            f"The replica's CPU in all: {cpu[0]:.1f} s from the whole log"
            + (f", {cpu[1]:.1f} s from snapshots." if len(cpu) > 1 else "."),
            "Rooms load when they are asked for, 40 at a time here: nobody waits for the others' history.",
        ],
    )


async def _fill(log: JetStreamEventLog, room: str) -> int:
    seq = size = 0
    for first in range(0, EVENTS, MESSAGE):
        events = []
        for number in range(first, first + MESSAGE):
            operation = {
                **STROKE,
                "id": f"{number}",
                "userId": "bench",
                "points": [{"x": 1, "y": 2}, {"x": 3.5, "y": -4}],
            }
            data = Raw(msgspec.json.encode({"operations": [operation]}))
            events.append(StoredEvent("canvas.draw", data, 1_700_000_000_000 + number, "bench", f"{number}"))
        payload = msgspec.json.encode(StoredMessage(tuple(events)))
        seq = await log.append(room, payload, seq)
        size += len(payload)
    return size


async def _ask(commands: CommandClient, room: str, turn: int) -> None:
    command = CommandMessage("canvas.undo", Raw(b"{}"), "bench", "bench", "player", f"undo{turn}")
    reply = await commands.request("canvas", room, command, 120)
    if reply.error is not msgspec.UNSET:
        raise RuntimeError(f"a room could not be loaded: {reply.error}")


ROW: Final = Row("replay", "starting a canvas replica on a million events", measure)
