"""Row: how long a stroke takes from its drawer to the last of those who see it: idle, with fifty rooms busy, and under load."""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

from ..bench import Bench, Row, said
from ..figures import Section, Spread, Table, verdict
from ..generator import Step
from ..servers import STROKE, Ours, ours


class Case(NamedTuple):
    name: str
    rooms: int
    people: int
    hz: float
    """Of the one in each room who draws."""
    seconds: float
    promises: tuple[tuple[str, float], ...]
    """`p50` or `p99`, and milliseconds."""


CASES: Final = (
    Case("idle: 1 room × 6, 5 Hz", 1, 6, 5, 8, (("p50", 5),)),
    Case("busy: 50 rooms × 6, 2 Hz", 50, 6, 2, 5, (("p50", 2), ("p99", 10))),
    Case("loaded: 50 rooms × 6, 10 Hz", 50, 6, 10, 5, ()),
)


async def measure(bench: Bench) -> Section:
    steps: dict[Case, list[Step]] = defaultdict(list)
    async with ours(bench.folder) as system:
        server = Ours(system, bench.tokens(max(case.rooms * case.people for case in CASES)), STROKE)
        for turn in range(bench.repeats):
            for case in CASES:
                report = await bench.load(
                    server,
                    connections=case.rooms * case.people,
                    rooms=case.rooms,
                    senders=1,
                    rates=(case.hz,),
                    seconds=case.seconds,
                    last=True,
                    drain=2,
                )
                step = report.steps[0]
                steps[case].append(step)
                said(f"{turn + 1} {case.name}: p50 {step.last_ms.p50:.2f} ms, p99 {step.last_ms.p99:.2f} ms")
    return Section(
        "A stroke, stored",
        "From the moment at which it should be sent until the last of its room has it: gateway, NATS, canvas service, the"
        " log with `sync_interval: always`, back. Not pinned to cores.",
        Table(
            ("case", "strokes a run", "p50 ms", "p99 ms", "worst ms", "not seen by all"),
            [
                (
                    case.name,
                    str(Spread.of(step.last_ms.n for step in found)),
                    str(Spread.of(step.last_ms.p50 for step in found)),
                    str(Spread.of(step.last_ms.p99 for step in found)),
                    str(Spread.of(step.last_ms.max for step in found)),
                    str(sum(step.last_ms.missed for step in found)),
                )
                for case, found in steps.items()
            ],
        ),
        [
            "With so few strokes in an idle run its p99 is nearly its worst.",
            *(
                verdict(
                    f"{case.name}: {which} at most {promised:g} ms",
                    Spread.of(getattr(step.last_ms, which) for step in found).middle,
                    promised,
                )
                for case, found in steps.items()
                for which, promised in case.promises
            ),
        ],
    )


ROW: Final = Row(
    "stroke", "milliseconds from drawing to everybody's having it, logs synced: idle, busy, loaded", measure
)
