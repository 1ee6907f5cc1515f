"""Row: how long a stroke takes from its drawer to the last of those who see it, in a system that does nothing else."""

from __future__ import annotations

from typing import Final

from ..bench import Bench, Row, said
from ..figures import Section, Spread, Table, verdict
from ..generator import Step
from ..servers import STROKE, Ours, ours

OTHERS: Final = 5
HZ: Final = 5
SECONDS: Final = 10
PROMISED_MS: Final = 5


async def measure(bench: Bench) -> Section:
    steps: list[Step] = []
    async with ours(bench.folder) as system:
        server = Ours(system, bench.tokens(OTHERS + 1), STROKE)
        for turn in range(bench.repeats):
            report = await bench.load(
                server, connections=OTHERS + 1, rooms=1, senders=1, rates=(HZ,), seconds=SECONDS, last=True
            )
            step = report.steps[0]
            steps.append(step)
            said(f"{turn + 1}: p50 {step.last_ms.p50:.2f} ms, p99 {step.last_ms.p99:.2f} ms")
    lost = sum(step.last_ms.missed for step in steps)
    table = Table(
        ("strokes a run", "p50 ms", "p99 ms", "worst ms", "not seen by all"),
        [
            (
                str(Spread.of(step.last_ms.n for step in steps)),
                str(Spread.of(step.last_ms.p50 for step in steps)),
                str(Spread.of(step.last_ms.p99 for step in steps)),
                str(Spread.of(step.last_ms.max for step in steps)),
                str(lost),
            )
        ],
    )
    return Section(
        f"A stroke, stored: one writer at {HZ} Hz, {OTHERS} others",
        "From the moment at which it should be sent until the last of all six has it: gateway, NATS, canvas service, the"
        " log with `sync_interval: always`, back. Not pinned to cores.",
        table,
        [
            "With so few strokes in a run its p99 is nearly its worst.",
            verdict(
                f"p50 at most {PROMISED_MS} ms",
                Spread.of(step.last_ms.p50 for step in steps).middle,
                PROMISED_MS,
            ),
        ],
    )


ROW: Final = Row(
    "stroke", "milliseconds from drawing to everybody's having it, idle system, logs synced", measure
)
