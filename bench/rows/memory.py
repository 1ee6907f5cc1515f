"""Row: what an idle connection costs the gateway in memory."""

from __future__ import annotations

import resource
from collections import defaultdict
from typing import Final

from ..bench import Bench, Row, said
from ..figures import Section, Spread, Table, verdict
from ..servers import CURSOR, Ours, ours

SIZES: Final = (1_000, 5_000, 20_000)
MANY: Final = 10_000
"""More than that take their time, so only in the first turn."""
OTHER_FILES: Final = 200
PEOPLE: Final = 10
PROMISED_KB: Final = 13


async def measure(bench: Bench) -> Section:
    sizes: list[int] = []
    for wanted in SIZES:
        size = _possible(wanted)
        if size < wanted:
            bench.skip(
                f"{wanted:,} idle connections: a process may open no more files here than for {size:,}"
            )
        if size > max(sizes, default=0):
            sizes.append(size)
    kilobytes: dict[int, list[float]] = defaultdict(list)
    joins: dict[int, list[float]] = defaultdict(list)
    for turn in range(bench.repeats):
        for size in sizes:
            if turn and size > MANY:
                continue
            # A fresh system each time: what a process has had once it seldom gives back.
            async with ours(bench.folder) as system:
                server = Ours(system, bench.tokens(max(sizes)), CURSOR)
                await bench.load(server, connections=PEOPLE, rooms=1, seconds=0.2, warm=0)
                only_gateway = _Gateway(server)
                report = await bench.load(
                    only_gateway,
                    connections=size,
                    rooms=size // PEOPLE,
                    seconds=0.2,
                    warm=0,
                    settle=2,
                    connect_limit=300,
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
            [(f"{size:,}", str(Spread.of(kilobytes[size])), str(Spread.of(joins[size]))) for size in sizes],
        ),
        [
            "All come at once, 64 under way at a time; the system is not pinned to cores.",
            verdict(f"at most {PROMISED_KB} KB each", Spread.of(kilobytes[max(sizes)]).middle, PROMISED_KB),
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


def _possible(size: int) -> int:
    """So many connections, or as many as a process may have files for, less some for itself. Root may allow itself more."""
    wanted = size + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard in (-1, resource.RLIM_INFINITY) or hard >= wanted
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard if enough else wanted))
        except (ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            return (hard - OTHER_FILES) // 100 * 100
    return size


ROW: Final = Row("memory", "KB of the gateway for an idle connection", measure)
