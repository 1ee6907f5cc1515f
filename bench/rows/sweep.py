"""Row: how the cost grows with rooms, people and gateways: each a curve in `docs/pictures/`."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Final, NamedTuple

import msgspec

from roundtable.common.testing.system import System

from ..bench import Bench, Row, said
from ..contestants import VENV, python_folder
from ..figures import Section, Table, short
from ..generator import HERE, Load, Skipped
from ..isolation import cpu_seconds
from ..servers import CURSOR, Ours, ours

PICTURES: Final = HERE.parent / "docs" / "pictures"
HZ: Final = 20
SECONDS: Final = 2.0


class Point(NamedTuple):
    rooms: int
    people: int
    gateways: int
    deliveries: float
    """A second, due."""
    cores: float
    us: float
    """Of CPU for one delivery due: gateways and nats-server."""
    nats_us: float
    p99: float
    loss: float


PEOPLE: Final = ((4, 2), (4, 5), (4, 10), (4, 25), (4, 50), (4, 100))
"""Rooms, people in each."""
ROOMS: Final = ((2, 10), (5, 10), (10, 10), (25, 10), (50, 10), (100, 10))
GATEWAYS: Final = ((10, 6, 1), (10, 6, 2), (10, 6, 3))


async def measure(bench: Bench) -> Section:
    curves: dict[str, list[Point]] = {"people": [], "rooms": [], "gateways": []}
    async with ours(bench.folder) as system:
        for curve, points in (("people", PEOPLE), ("rooms", ROOMS)):
            for rooms, people in points:
                curves[curve].append(await _point(bench, system, rooms, people))
        alone, idle = await _idle(bench, system, 1), await _idle(bench, system, 100)
    for rooms, people, gateways in GATEWAYS:
        async with ours(bench.folder, gateways=gateways) as system:
            curves["gateways"].append(await _point(bench, system, rooms, people))
    drawn = _draw(bench, curves)
    head = (
        "curve",
        "rooms × people",
        "gateways",
        "deliveries due/s",
        "cores",
        "CPU µs each",
        "of it NATS",
        "p99 ms",
        "not delivered %",
    )
    table = Table(
        head,
        [
            (
                curve,
                f"{each.rooms} × {each.people}",
                str(each.gateways),
                f"{each.deliveries:,.0f}",
                short(each.cores),
                short(each.us),
                short(each.nats_us),
                short(each.p99),
                short(100 * each.loss),
            )
            for curve, points in curves.items()
            for each in points
        ],
    )
    return Section(
        f"How it grows: cursors at {HZ} Hz",
        "Everybody moves. One run each; CPU is that of the gateways and nats-server.",
        table,
        [
            (
                "A delivery becomes cheaper the more people there are in a room, as they share a write: what is received and"
                " written is linear, what is delivered is its square. It bends up again where the core is full."
            ),
            "With several gateways each room is at all of them, the worst case: each tick goes to all others by NATS.",
            (
                f"All processes with 1 idle room of 10 people: {short(100 * alone)} % of a core; with 100 of them:"
                f" {short(100 * idle)} %. That is pings and the presence service's leases; the rooms themselves do nothing."
            ),
            *drawn,
        ],
    )


async def _point(bench: Bench, system: System, rooms: int, people: int) -> Point:
    gateways = system.of("gateway")
    server = Ours(system, bench.tokens(1_000), CURSOR)
    room = server.new_rooms().rpartition("room=")[2]
    share = people // len(gateways)
    nats, all_of_them = server.nats_pid, [server.nats_pid, *(each.pid for each in gateways)]
    loads = [
        Load(
            url=f"{gateway.ws}/ws?room={room}",
            template=server.template,
            connections=rooms * share,
            rooms=rooms,
            rates=(HZ,),
            seconds=SECONDS,
            warm=0.8,
            settle=1.0,
            pids=all_of_them,
            tokens=bench.tokens_from(number * rooms * share, rooms * share),
        )
        for number, gateway in enumerate(gateways)
    ]
    before = cpu_seconds([nats])
    reports = await asyncio.gather(*(bench.generator.run(load) for load in loads))
    of_nats = cpu_seconds([nats]) - before
    steps = [report.steps[0] for report in reports]
    due = rooms * people * (people - 1) * HZ
    delivered = sum(step.msgs_per_s for step in steps)
    cores = max(step.srv_cpu for step in steps)
    found = Point(
        rooms,
        people,
        len(gateways),
        due,
        cores,
        cores * 1e6 / due,
        of_nats * 1e6 / (due * (SECONDS + 0.8)),
        max(step.ms.p99 for step in steps),
        max(0.0, 1 - delivered / due),
    )
    said(
        f"{rooms} × {people}, {len(gateways)} gateways: {found.us:.2f} µs, {cores:.2f} cores, p99 {found.p99:.1f} ms"
    )
    return found


async def _idle(bench: Bench, system: System, rooms: int) -> float:
    """Cores of all processes while ten in each room do nothing."""
    server = Ours(system, bench.tokens(1_000), CURSOR)
    report = await bench.load(server, connections=10 * rooms, rooms=rooms, rates=(0,), seconds=4, settle=3)
    return report.steps[0].srv_cpu


def _draw(bench: Bench, curves: dict[str, list[Point]]) -> list[str]:
    """The pictures, by the environment that has matplotlib."""
    try:
        python_folder()
    except Skipped as why:
        bench.skip(f"pictures of the curves: {why}")
        return []
    PICTURES.mkdir(parents=True, exist_ok=True)
    data = bench.folder / "curves.json"
    data.write_bytes(
        msgspec.json.encode({name: [point._asdict() for point in points] for name, points in curves.items()})
    )
    command = [str(VENV / "bin" / "python"), str(HERE / "draw_curves.py"), str(data), str(PICTURES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        bench.skip(f"pictures of the curves: {done.stderr.strip()[-300:]}")
        return []
    return [
        "Pictures: " + ", ".join(f"[{name}](../docs/pictures/growth-{name}.png)" for name in curves) + "."
    ]


ROW: Final = Row("sweep", "how the cost grows with rooms, people and gateways, as curves", measure)
