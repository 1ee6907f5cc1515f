"""Row: how many deliveries a second one core carries, ours beside the peers."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from ..bench import Bench, Row, said
from ..figures import Section, Spread, Table, ratios, short, verdict
from ..generator import Skipped, Step
from ..servers import PREVIEW, Ours, Server, ours

ROOMS: Final = 10
PEOPLE: Final = 10
OURS: Final = "Roundtable"
PROMISED: Final = 8
"""Times Socket.IO's and `ws`'s capacity."""
RATES: Final = tuple(20 * 1.25**n for n in range(24))
"""Hz; the last one would be 3 million deliveries a second."""
BACK: Final = 4
"""Later turns begin so many steps below what the first one found."""
BUSY_GENERATOR: Final = 0.9


async def measure(bench: Bench) -> Section:
    best: dict[str, list[Step]] = defaultdict(list)
    unlimited = {"CURSOR_HZ": "0"}
    async with (
        ours(bench.folder, bench.cores, settings=unlimited) as system,
        bench.peers.running(bench.cores) as peers,
    ):
        mine = Ours(system, bench.tokens(ROOMS * PEOPLE), PREVIEW, OURS)
        servers: list[Server] = [mine, *peers]
        start = {server.name: 4 for server in servers}
        for turn in range(bench.repeats):
            for server in servers:
                found = await _climb(bench, server, start[server.name]) or await _climb(bench, server, 0)
                if found is None:
                    raise Skipped(
                        f"capacity: {server.name} is late or loses something at {RATES[0]:g} Hz already;"
                        " if the machine is busy with something else, so is its generator"
                    )
                best[server.name].append(found)
                reached = min(range(len(RATES)), key=lambda n: abs(RATES[n] - found.rate_hz))
                start[server.name] = max(0, reached - BACK)
                said(f"{turn + 1} {server.name}: {found.msgs_per_s:,.0f} a second, p99 {found.ms.p99:.1f} ms")
    return Section(
        f"Capacity: {ROOMS} rooms × {PEOPLE} people, all sending",
        "The rate is raised by a quarter at a time; counted is the last step with every delivery made and p99 at most 50 ms.",
        _table(best),
        _notes(best),
    )


async def _climb(bench: Bench, server: Server, first: int) -> Step | None:
    report = await bench.load(
        server,
        connections=ROOMS * PEOPLE,
        rooms=ROOMS,
        rates=RATES[first:],
        seconds=1.0,
        warm=0.25,
        drain=0.5,
        settle=0.3,
        stop=True,
    )
    found = None
    for step in report.steps:
        if not step.good:
            break
        found = step
    return found


def _table(best: dict[str, list[Step]]) -> Table:
    head = ("server", "deliveries a second", "÷ Socket.IO's", "÷ ws's", "p99 ms there", "generator's core")
    rows = [
        (
            name,
            str(Spread.of(_rates(found))),
            *(
                str(ratios(_rates(found), _rates(best[peer]))) if peer in best else "–"
                for peer in ("Socket.IO", "Node ws")
            ),
            str(Spread.of(step.ms.p99 for step in found)),
            str(Spread.of(step.gen_cpu for step in found)),
        )
        for name, found in best.items()
    ]
    return Table(head, rows)


def _notes(best: dict[str, list[Step]]) -> list[str]:
    notes = [
        (
            "Ours sends pieces of strokes (`canvas.preview`) and has `ROUNDTABLE_CURSOR_HZ=0`: of cursors only the latest"
            " counts, so at high rates most would be replaced, and nothing would be learnt. The peers send cursors."
        ),
        (
            "Where the generator's core is above"
            f" {BUSY_GENERATOR} the figure may be the generator's: the truth is that or more."
        ),
    ]
    for peer in ("Socket.IO", "Node ws"):
        if peer in best:
            ratio = ratios(_rates(best[OURS]), _rates(best[peer])).middle
            notes.append(verdict(f"at least {PROMISED} × {peer}", ratio, PROMISED, at_most=False))
    busy = max(step.gen_cpu for step in best[OURS])
    if busy > BUSY_GENERATOR:
        notes.append(f"The generator had {short(100 * busy)} % of its core in use at our best step.")
    return notes


def _rates(steps: list[Step]) -> list[float]:
    return [step.msgs_per_s for step in steps]


ROW: Final = Row(
    "capacity", "deliveries a second until something is late or lost, beside Socket.IO and ws", measure
)
