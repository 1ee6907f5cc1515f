"""Row: what an idle connection costs the gateway in memory."""

from __future__ import annotations

import resource
from collections import defaultdict
from typing import Final

from ..bench import Bench, Row, said
from ..figures import Section, Spread, Table, verdict
from ..generator import Skipped
from ..servers import CURSOR, Ours, ours

SIZES: Final = (1_000, 5_000, 20_000)
ONCE: Final = 20_000
"""Takes its time, so only in the first turn."""
PEOPLE: Final = 10
PROMISED_KB: Final = 13


async def measure(bench: Bench) -> Section:
    _allow_files(max(SIZES) + 500)
    kilobytes: dict[int, list[float]] = defaultdict(list)
    joins: dict[int, list[float]] = defaultdict(list)
    for turn in range(bench.repeats):
        for size in SIZES:
            if turn and size >= ONCE:
                continue
            # A fresh system each time: what a process has had once it seldom gives back.
            async with ours(bench.folder) as system:
                server = Ours(system, bench.tokens(max(SIZES)), CURSOR)
                await bench.load(server, connections=PEOPLE, rooms=1, seconds=0.2, warm=0)
                only_gateway = _Gateway(server)
                report = await bench.load(
                    only_gateway,
                    connections=size,
                    rooms=size // PEOPLE,
                    seconds=0.2,
                    warm=0,
                    settle=2,
                    connect_limit=180,
                )
            kilobytes[size].append(report.kb_per_conn)
            joins[size].append(size / report.connect_s)
            said(
                f"{turn + 1} {size}: {report.kb_per_conn:.1f} KB each, {size / report.connect_s:.0f} joins a second"
            )
    return Section(
        "Idle WebSockets: memory a connection",
        f"Growth of the gateway's resident memory, for each connection, in rooms of {PEOPLE}: so a tenth of a room is in it.",
        Table(
            ("connections", "KB each", "joins a second meanwhile"),
            [(f"{size:,}", str(Spread.of(kilobytes[size])), str(Spread.of(joins[size]))) for size in SIZES],
        ),
        [
            "All come at once, 64 under way at a time; the system is not pinned to cores.",
            verdict(f"at most {PROMISED_KB} KB each", Spread.of(kilobytes[max(SIZES)]).middle, PROMISED_KB),
        ],
    )


class _Gateway(Ours):
    """The same, but only the gateway's memory counts."""

    def __init__(self, server: Ours) -> None:
        assert server.tokens is not None
        super().__init__(server.system, server.tokens, server.template)

    @property
    def pids(self) -> list[int]:
        return [self.system.gateway.pid]


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        if hard not in (-1, resource.RLIM_INFINITY) and hard < wanted:
            raise Skipped(f"idle memory: {wanted} open files are needed, {hard} are allowed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


ROW: Final = Row("memory", "KB of the gateway for an idle connection", measure)
