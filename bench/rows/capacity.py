"""Row: how many deliveries a second one core carries, ours beside the peers: all send, and one sends to a thousand."""

from __future__ import annotations

from collections import defaultdict
from itertools import takewhile
from typing import Final, NamedTuple

from ..bench import Bench, Row, said
from ..contestants import JOINED, SINGLE
from ..figures import Section, Spread, Table, ratios, short, verdict
from ..generator import Step
from ..servers import PREVIEW, Ours, Server, ours

OURS: Final = "Roundtable"
FACTOR: Final = 1.4
BACK: Final = 2
"""Later turns begin so many steps below what the first one found."""
TRIES: Final = 3
BUSY_GENERATOR: Final = 0.9
PROMISES: Final = (
    ("uWebSockets", 0.9),
    ("nats-server", 0.9),
    ("Centrifugo", 5),
    ("Node ws", 8),
    ("Socket.IO", 8),
)
"""Times whose capacity."""
PEERS: Final = (JOINED, SINGLE, "Socket.IO", "Node ws", "uWebSockets", "Centrifugo", "nats-server")


class Scene(NamedTuple):
    name: str
    connections: int
    rooms: int
    senders: int | None
    rates: tuple[float, ...]


SCENES: Final = (
    Scene("A: 10 rooms × 10, all sending", 100, 10, None, tuple(20 * FACTOR**n for n in range(14))),
    Scene("B: one sends to 1,000", 1_001, 1, 1, tuple(20 * FACTOR**n for n in range(14))),
)


async def measure(bench: Bench) -> Section:
    best: dict[str, dict[str, list[Step]]] = {scene.name: defaultdict(list) for scene in SCENES}
    async with (
        ours(bench.folder, bench.cores, settings={"CURSOR_HZ": "0"}) as system,
        bench.peers.running(bench.cores, *PEERS) as peers,
    ):
        servers: list[Server] = [Ours(system, bench.tokens(1_001), PREVIEW, OURS), *peers]
        for scene in SCENES:
            start = dict.fromkeys((server.name for server in servers), BACK)
            for turn in range(min(bench.repeats, 2)):
                for server in servers:
                    found = await _climb(bench, server, scene, start[server.name])
                    if found is None and start[server.name]:
                        found = await _climb(bench, server, scene, 0)
                    if found is None:
                        bench.skip(
                            f"capacity, {scene.name}: {server.name} is late or loses something at {scene.rates[0]:g} Hz"
                            " already; if the machine is busy with something else, so is its generator"
                        )
                        continue
                    best[scene.name][server.name].append(found)
                    reached = min(range(len(scene.rates)), key=lambda n: abs(scene.rates[n] - found.rate_hz))
                    start[server.name] = max(0, reached - BACK)
                    said(
                        f"{turn + 1} {scene.name}, {server.name}: {found.msgs_per_s:,.0f}/s, p99 {found.ms.p99:.1f} ms"
                    )
    return Section(
        "Capacity of one core",
        "The rate is raised by 1.4 at a time; counted is"
        " the last step that in one of three tries made every delivery, with p99 at most 50 ms.",
        Table(
            ("scene", "server", "deliveries a second", "p99 ms there", "generator's core"),
            [
                (
                    scene,
                    name,
                    str(Spread.of(_rates(found))),
                    str(Spread.of(step.ms.p99 for step in found)),
                    str(Spread.of(step.gen_cpu for step in found)),
                )
                for scene, by_name in best.items()
                for name, found in by_name.items()
            ],
        ),
        _notes(best),
    )


async def _climb(bench: Bench, server: Server, scene: Scene, first: int) -> Step | None:
    """The last good step; a step is bad when it was so `TRIES` times: any one second may be somebody else's."""
    best: Step | None = None
    failed = 0
    while failed < TRIES and first < len(scene.rates):
        try:
            report = await bench.load(
                server,
                connections=scene.connections,
                rooms=scene.rooms,
                senders=scene.senders,
                rates=scene.rates[first:],
                seconds=1.0,
                warm=0.25,
                drain=0.5,
                settle=0.3,
                stop=True,
            )
        except RuntimeError:
            break
        good = list(takewhile(lambda step: step.good, report.steps))
        if good:
            best, failed = good[-1], 0
            first += len(good)
        failed += 1
    return best


def _notes(best: dict[str, dict[str, list[Step]]]) -> list[str]:
    notes = [
        (
            "Ours sends pieces of strokes (`canvas.preview`) and has `ROUNDTABLE_CURSOR_HZ=0`: of cursors only the latest"
            " counts, so at high rates most would be replaced, and nothing would be learnt. The peers send cursors."
        ),
        (
            f"Where the generator's core is above {BUSY_GENERATOR} the figure may be the generator's: the truth is that or"
            " more."
        ),
    ]
    for scene, by_name in best.items():
        mine = by_name.get(OURS)
        for peer, promised in PROMISES:
            theirs = by_name.get(peer)
            if mine and theirs and len(mine) == len(theirs):
                ratio = ratios(_rates(mine), _rates(theirs)).middle
                notes.append(
                    verdict(f"{scene[0]}: at least {promised:g} × {peer}", ratio, promised, at_most=False)
                )
        if mine and (busy := max(step.gen_cpu for step in mine)) > BUSY_GENERATOR:
            notes.append(
                f"{scene[0]}: the generator had {short(100 * busy)} % of its core in use at our best step."
            )
    return notes


def _rates(steps: list[Step]) -> list[float]:
    return [step.msgs_per_s for step in steps]


ROW: Final = Row("capacity", "deliveries a second until something is late or lost, beside the peers", measure)
