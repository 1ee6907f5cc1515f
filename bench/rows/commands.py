"""Row: stored commands a second through two replicas of the canvas service: many rooms, and one hot room."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Final, NamedTuple

import httpx
import msgspec

from roundtable.common.testing.system import System

from ..bench import Bench, Row, said
from ..drive_commands import Driven, Job
from ..figures import Section, Spread, Table, quantile, verdict
from ..isolation import cpu_seconds
from ..servers import Ours, ours

SECONDS: Final = 2.5
PROCESSES: Final = 2
PROMISED: Final = 5_000
CASES: Final = (("200 rooms", 200, 1_000), ("one hot room", 1, 64))
"""Name, rooms, commands under way at any time in all."""
SYNCS: Final = (("always", True), ("default", False))


class Run(NamedTuple):
    per_second: float
    p50: float
    p99: float
    cpu_us: float
    """Of replicas and nats-server, for each command."""
    events_a_message: float
    conflicts: float
    failed: int


async def measure(bench: Bench) -> Section:
    runs: dict[tuple[str, str], list[Run]] = {}
    async with (
        ours(bench.folder, gateways=0, replicas=2, sync=True) as always,
        ours(bench.folder, gateways=0, replicas=2, sync=False) as default,
    ):
        for turn in range(bench.repeats):
            for sync, synced in SYNCS:
                for number, (case, rooms, writers) in enumerate(CASES):
                    system = always if synced else default
                    run = await _run(bench, system, f"c{number}t{turn}", rooms, writers)
                    runs.setdefault((case, sync), []).append(run)
                    said(
                        f"{turn + 1} {case}, sync {sync}: {run.per_second:,.0f}/s, p50 {run.p50:.1f} ms,"
                        f" p99 {run.p99:.1f} ms, {run.cpu_us:.0f} µs, {run.events_a_message:.1f} an append"
                    )
    head = (
        "commands into", "sync_interval", "a second", "p50 ms", "p99 ms", "CPU µs a command", "commands an append",
        "conflicts", "failed",
    )  # fmt: skip
    table = Table(
        head,
        [
            (
                case,
                f"`{sync}`",
                str(Spread.of(run.per_second for run in found)),
                str(Spread.of(run.p50 for run in found)),
                str(Spread.of(run.p99 for run in found)),
                str(Spread.of(run.cpu_us for run in found)),
                str(Spread.of(run.events_a_message for run in found)),
                str(Spread.of(run.conflicts for run in found)),
                str(sum(run.failed for run in found)),
            )
            for (case, sync), found in runs.items()
        ],
    )
    reached = Spread.of(run.per_second for run in runs["200 rooms", "always"]).middle
    under_way = ", ".join(f"{number} in {case}" for case, _, number in CASES)
    return Section(
        "Stored commands: two replicas of canvas",
        "`canvas.draw` of one stroke with two points, asked for as gateways do. Each writer asks for the next when the last"
        f" was answered, that is stored; writers: {under_way}.",
        table,
        [
            (
                f"{PROCESSES} processes ask, on the same cores as all the rest: on a small machine they take a good part of it."
                " CPU a command is that of the two replicas and nats-server, and says more."
            ),
            "Conflicts are appends that the log refused; the first commands of a room may meet some while replicas agree.",
            verdict(
                f"at least {PROMISED:,} a second over 200 rooms with `always`",
                reached,
                PROMISED,
                at_most=False,
            ),
        ],
    )


async def _run(bench: Bench, system: System, name: str, rooms: int, writers: int) -> Run:
    processes = min(PROCESSES, writers)
    pids = [*(program.pid for program in system.of("canvas")), Ours(system, bench.tokens(1)).nats_pid]
    before = await _counters(system)
    jobs = [
        Job(system.nats.url, name, rooms, number, writers // processes, SECONDS)
        for number in range(processes)
    ]
    cpu = cpu_seconds(pids)
    done = await asyncio.gather(*map(_drive, jobs))
    cpu = cpu_seconds(pids) - cpu
    after = await _counters(system)
    took = sorted(ms for each in done for ms in each.milliseconds)
    stored = after["commands"] - before["commands"]
    return Run(
        per_second=sum(len(each.milliseconds) / each.seconds for each in done),
        p50=quantile(took, 0.5),
        p99=quantile(took, 0.99),
        cpu_us=cpu * 1e6 / max(stored, 1),
        events_a_message=(after["events"] - before["events"])
        / max(after["messages"] - before["messages"], 1),
        conflicts=after["conflicts"] - before["conflicts"],
        failed=sum(each.failed for each in done),
    )


async def _drive(job: Job) -> Driven:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.drive_commands",
        msgspec.json.encode(job).decode(),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return msgspec.json.decode(out, type=Driven)


_METRICS: Final = {
    "commands": r"roundtable_commands_total\{.*\}",
    "conflicts": "roundtable_log_conflicts_total",
    "events": "roundtable_batch_events_sum",
    "messages": "roundtable_batch_events_count",
}


async def _counters(system: System) -> dict[str, float]:
    """Of both replicas together, as their `/metrics` say."""
    sums = dict.fromkeys(_METRICS, 0.0)
    async with httpx.AsyncClient(trust_env=False) as http:
        for program in system.of("canvas"):
            text = (await http.get(f"{program.http}/metrics")).text
            for name, pattern in _METRICS.items():
                sums[name] += sum(
                    float(value) for value in re.findall(rf"^{pattern} (\S+)$", text, re.MULTILINE)
                )
    return sums


ROW: Final = Row(
    "commands", "stored commands a second, 200 rooms and one hot room, logs synced or not", measure
)
