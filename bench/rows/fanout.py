"""Row: what one delivery of a cursor costs at a fixed rate, ours beside the peers."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from ..bench import Bench, Row, said
from ..figures import Section, Spread, Table, ratios, verdict
from ..generator import Step
from ..servers import Ours, Server, ours

ROOMS: Final = 10
PEOPLE: Final = 10
HZ: Final = 60
OURS: Final = "Roundtable"
PROMISED: Final = 0.5
"""Of Socket.IO's CPU."""


async def measure(bench: Bench) -> Section:
    steps: dict[str, list[Step]] = defaultdict(list)
    async with ours(bench.folder, bench.cores) as system, bench.peers.running(bench.cores) as peers:
        servers: list[Server] = [Ours(system, bench.tokens(ROOMS * PEOPLE), name=OURS), *peers]
        for turn in range(bench.repeats):
            for server in servers:
                report = await bench.load(server, connections=ROOMS * PEOPLE, rooms=ROOMS, rates=(HZ,))
                step = report.steps[0]
                steps[server.name].append(step)
                said(
                    f"{turn + 1} {server.name}: {step.srv_us_per_msg:.1f} µs, p50 {step.ms.p50:.2f} ms,"
                    f" p99 {step.ms.p99:.2f} ms, loss {step.loss:.2%}"
                )
    return Section(
        f"Fan-out: {ROOMS} rooms × {PEOPLE} people × {HZ} Hz",
        f"Everybody moves their cursor {HZ} times a second: {ROOMS * PEOPLE * (PEOPLE - 1) * HZ:,} deliveries are due"
        " a second. CPU is that of all processes of the server (ours: gateway, three services, nats-server).",
        _table(steps),
        _notes(steps),
    )


def _table(steps: dict[str, list[Step]]) -> Table:
    head = (
        "server",
        "CPU µs a delivery",
        "CPU ÷ Socket.IO's",
        "cores",
        "p50 ms",
        "p99 ms",
        "not delivered %",
    )
    rows = [
        (
            name,
            str(Spread.of(step.srv_us_per_msg for step in found)),
            str(ratios(_costs(found), _costs(steps["Socket.IO"]))) if "Socket.IO" in steps else "–",
            str(Spread.of(step.srv_cpu for step in found)),
            str(Spread.of(step.ms.p50 for step in found)),
            str(Spread.of(step.ms.p99 for step in found)),
            str(Spread.of(100 * step.loss for step in found)),
        )
        for name, found in steps.items()
    ]
    return Table(head, rows)


def _notes(steps: dict[str, list[Step]]) -> list[str]:
    notes = [
        (
            "Ours checks a token for each connection, decodes and checks each message, keeps presence, and takes the road"
            " through NATS where another gateway has the room (here none has). The peers relay what they get, unchecked."
        ),
        "Ours waits up to 8 ms to join writes: its p50 is that by choice.",
        (
            "A cursor that was replaced by a newer one of the same user before it was told counts as not delivered: ours"
            " merges by design (PR4), most of all when the machine stutters. So does what comes half a second after the end."
        ),
    ]
    if "Socket.IO" in steps:
        ratio = ratios(_costs(steps[OURS]), _costs(steps["Socket.IO"])).middle
        notes.append(verdict(f"at most {PROMISED} × Socket.IO's CPU", ratio, PROMISED))
    return notes


def _costs(steps: list[Step]) -> list[float]:
    return [step.srv_us_per_msg for step in steps]


ROW: Final = Row(
    "fanout", "CPU and latency of a cursor's delivery at a fixed rate, beside Socket.IO and ws", measure
)
