"""Row: how late a cursor comes in quiet rooms, where nothing is to be joined: beside the peers that are quick there."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from ..bench import Bench, Row, said
from ..contestants import SINGLE
from ..figures import Section, Spread, Table, ratios, verdict
from ..generator import Step
from ..servers import Ours, Server, ours

ROOMS: Final = 10
PEOPLE: Final = 10
HZ: Final = 4
OURS: Final = "Roundtable"
PROMISED: Final = 2
PEERS: Final = (SINGLE, "uWebSockets", "Node ws", "Centrifugo", "nats-server")


async def measure(bench: Bench) -> Section:
    steps: dict[str, list[Step]] = defaultdict(list)
    async with ours(bench.folder, bench.cores) as system, bench.peers.running(bench.cores, *PEERS) as peers:
        servers: list[Server] = [Ours(system, bench.tokens(ROOMS * PEOPLE), name=OURS), *peers]
        for turn in range(bench.repeats):
            for server in servers:
                step = await bench.step(server, ROOMS * PEOPLE, ROOMS, HZ)
                if step is not None:
                    steps[server.name].append(step)
                    said(f"{turn + 1} {server.name}: p50 {step.ms.p50:.2f} ms, p99 {step.ms.p99:.2f} ms")
    notes = []
    if "uWebSockets" in steps and len(steps["uWebSockets"]) == len(steps[OURS]):
        ratio = ratios(
            [each.ms.p50 for each in steps[OURS]], [each.ms.p50 for each in steps["uWebSockets"]]
        ).middle
        notes.append(verdict(f"p50 at most {PROMISED} × that of uWebSockets", ratio, PROMISED))
    else:
        notes.append(
            f"Promise: p50 at most {PROMISED} × that of uWebSockets: **not measured**, it does not run here."
        )
    return Section(
        f"Quiet rooms: {ROOMS} × {PEOPLE} × {HZ} Hz",
        "Forty cursors a second in a room: most find nobody waiting, so are told at once; one that comes within 8 ms of the"
        " last telling waits for the rest of them.",
        Table(
            ("server", "p50 ms", "p99 ms", "CPU µs a delivery"),
            [
                (
                    name,
                    str(Spread.of(each.ms.p50 for each in found)),
                    str(Spread.of(each.ms.p99 for each in found)),
                    str(Spread.of(each.due_us for each in found)),
                )
                for name, found in steps.items()
            ],
        ),
        notes,
    )


ROW: Final = Row("quiet", "milliseconds of a cursor in quiet rooms, beside the peers", measure)
