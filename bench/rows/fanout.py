"""Row: what one delivery of a cursor costs at a fixed rate, ours beside all peers, in two scenes."""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

from ..bench import Bench, Row, said
from ..contestants import JOINED, SINGLE
from ..figures import Section, Spread, Table, ratios, verdict
from ..generator import Step
from ..servers import Ours, Server, ours

OURS: Final = "Roundtable"


class Scene(NamedTuple):
    rooms: int
    people: int
    hz: float
    promises: tuple[tuple[str, float], ...]
    """Of whose CPU, at most how much of it."""

    def __str__(self) -> str:
        return f"{self.rooms} × {self.people} × {self.hz:g} Hz"


SCENES: Final = (
    Scene(10, 10, 60, ((SINGLE, 1.0), ("Socket.IO", 0.5), ("Centrifugo", 0.6))),
    Scene(4, 50, 20, ((JOINED, 2.0), (SINGLE, 0.5), ("uWebSockets", 0.5))),
)


async def measure(bench: Bench) -> Section:
    steps: dict[Scene, dict[str, list[Step]]] = {scene: defaultdict(list) for scene in SCENES}
    most = max(scene.rooms * scene.people for scene in SCENES)
    async with ours(bench.folder, bench.cores) as system, bench.peers.running(bench.cores) as peers:
        servers: list[Server] = [Ours(system, bench.tokens(most), name=OURS), *peers]
        for turn in range(bench.repeats):
            for scene in SCENES:
                for server in servers:
                    step = await bench.step(server, scene.rooms * scene.people, scene.rooms, scene.hz)
                    if step is None:
                        continue
                    steps[scene][server.name].append(step)
                    said(
                        f"{turn + 1} {scene} {server.name}: {step.due_us:.2f} µs, p50 {step.ms.p50:.2f} ms,"
                        f" p99 {step.ms.p99:.2f} ms, loss {step.loss:.2%}"
                    )
    return Section(
        "Fan-out: what a delivery costs",
        "Everybody in a room moves their cursor: rooms × people × times a second. CPU is that of all processes of the server"
        " (ours: gateway, three services, nats-server), divided by the deliveries that were due.",
        _table(steps),
        [
            (
                "Ours checks a token for each connection, decodes and checks each message, keeps presence, and would tell"
                " other gateways over NATS (here is none). The peers relay what they get, unchecked."
            ),
            "Ours waits up to 8 ms to join writes, as the C server with joined writes does: its p50 is that by choice.",
            (
                "A cursor that was replaced by a newer one of the same user before it was told counts as not delivered: ours"
                " merges by design (PR4), most of all when the machine stutters."
            ),
            *_verdicts(steps),
        ],
    )


def _table(steps: dict[Scene, dict[str, list[Step]]]) -> Table:
    head = (
        "server",
        "scene",
        "CPU µs a delivery due",
        "÷ C, joined",
        "cores",
        "p50 ms",
        "p99 ms",
        "not delivered %",
    )
    return Table(
        head,
        [
            (
                name,
                str(scene),
                str(Spread.of(step.due_us for step in found)),
                _ratio(found, by_name.get(JOINED)),
                str(Spread.of(step.srv_cpu for step in found)),
                str(Spread.of(step.ms.p50 for step in found)),
                str(Spread.of(step.ms.p99 for step in found)),
                str(Spread.of(100 * step.loss for step in found)),
            )
            for scene, by_name in steps.items()
            for name, found in by_name.items()
        ],
    )


def _ratio(mine: list[Step], theirs: list[Step] | None) -> str:
    return str(ratios(_costs(mine), _costs(theirs))) if theirs and len(theirs) == len(mine) else "–"


def _verdicts(steps: dict[Scene, dict[str, list[Step]]]) -> list[str]:
    notes = []
    for scene, by_name in steps.items():
        for peer, promised in scene.promises:
            theirs, mine = by_name.get(peer), by_name.get(OURS)
            if theirs and mine and len(theirs) == len(mine):
                ratio = ratios(_costs(mine), _costs(theirs)).middle
                notes.append(verdict(f"{scene}: at most {promised:g} × the CPU of {peer}", ratio, promised))
                if Spread.of(step.loss for step in theirs).middle > 0.02:
                    notes.append(f"{scene}: {peer} did not do its work: its CPU is too low by what it lost.")
        mine, limit = by_name.get(OURS), by_name.get(JOINED)
        if scene.hz == 20 and mine and limit:
            ratio = ratios([step.ms.p99 for step in mine], [step.ms.p99 for step in limit]).middle
            notes.append(verdict(f"{scene}: p99 at most 1.1 × that of {JOINED}", ratio, 1.1))
    return notes


def _costs(steps: list[Step]) -> list[float]:
    return [step.due_us for step in steps]


ROW: Final = Row("fanout", "CPU and latency of a cursor's delivery at fixed rates, beside all peers", measure)
