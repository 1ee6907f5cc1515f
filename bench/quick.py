"""The guard: `python -m bench.quick [--land]`: has a delivery become dearer? In under two minutes; it fails no build.

Ratios of the CPU for a delivery that was due, ours to the C server's with joined writes and to Node's `ws`, all measured in
this run, are compared with the last landed ones in `quick.json`. A rise of more than a quarter is a warning, with the table: on
a busy machine it may be wrong, so it is for people to judge. `--land` writes the new ones down.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

import msgspec

from . import machine
from .bench import Bench, said
from .contestants import JOINED, Peers
from .figures import Spread, Table, ratios, short
from .generator import HERE, Generator, Skipped, build
from .isolation import Cores, own_network
from .servers import Ours, Server, ours

LANDED: Final = HERE / "quick.json"
OURS: Final = "Roundtable"
REPEATS: Final = 3
SCENES: Final = ((10, 10, 60.0), (4, 50, 20.0))
"""Rooms, people in each, Hz."""
WORSE: Final = 1.25
TRUST: Final = 0.02
"""Of the deliveries that are due, those that a run may miss and still say something."""

Ratios = dict[str, float]


async def measure(bench: Bench) -> dict[str, dict[str, list[float]]]:
    """Scene to server to microseconds a delivery, of the runs in which all did their work."""
    costs: dict[str, dict[str, list[float]]] = {}
    most = max(rooms * people for rooms, people, _ in SCENES)
    async with ours(bench.folder, bench.cores) as system, bench.peers.running(bench.cores) as peers:
        servers: list[Server] = [Ours(system, bench.tokens(most), name=OURS), *peers]
        for rooms, people, hz in SCENES:
            found = costs[f"{rooms} × {people} × {hz:g} Hz"] = defaultdict(list)
            for _ in range(REPEATS):
                turn = {
                    server.name: await bench.step(
                        server, rooms * people, rooms, hz, 2.0, settle=0.2, drain=0.2
                    )
                    for server in servers
                }
                said(
                    ", ".join(
                        f"{name} {step.due_us:.2f} µs, loss {step.loss:.1%}"
                        for name, step in turn.items()
                        if step
                    )
                )
                for name, step in turn.items():
                    if step is not None:
                        found[name].append(step.due_us)
    return costs


def compare(costs: dict[str, dict[str, list[float]]], landed: Ratios) -> tuple[Table, Ratios, list[str]]:
    """The table, the new ratios, and what has become worse."""
    rows, fresh, worse = [], {}, []
    for scene, by_name in costs.items():
        for peer in (JOINED, "Node ws"):
            mine, theirs = by_name.get(OURS, []), by_name.get(peer, [])
            if not mine or len(mine) != len(theirs):
                continue
            name, spread = f"{scene} ÷ {peer}", ratios(mine, theirs)
            fresh[name] = round(spread.middle, 3)
            before = landed.get(name)
            change = f"{spread.middle / before - 1:+.0%}" if before else "–"
            rows.append((name, str(Spread.of(mine)), str(spread), short(before) if before else "–", change))
            if before and spread.middle > WORSE * before:
                worse.append(f"{name}: {short(before)} has become {short(spread.middle)}")
    return Table(("CPU a delivery", "ours, µs", "ratio now", "landed", "change"), rows), fresh, worse


def main(arguments: list[str]) -> int:
    began = time.monotonic()
    try:
        binary = build()
    except Skipped as why:
        print(f"SKIPPED: {why}")
        return 0
    peers = Peers()
    for reason in peers.install((JOINED, "Node ws")):
        print(f"SKIPPED: {reason}")
    network = own_network()
    load = machine.load()
    with tempfile.TemporaryDirectory(prefix="roundtable-bench-", ignore_cleanup_errors=True) as folder:
        cores = Cores()
        bench = Bench(Path(folder), cores, Generator(binary, cores, Path(folder)), peers, REPEATS)
        costs = asyncio.run(measure(bench))
    landed = msgspec.json.decode(LANDED.read_bytes(), type=Ratios) if LANDED.exists() else {}
    table, fresh, worse = compare(costs, landed)
    print(table.markdown())
    print(f"{network}; load before: {load}; {time.monotonic() - began:.0f} s")
    for each in worse:
        print(f"WARNING: a delivery has become dearer by more than a quarter: {each}")
    if "--land" in arguments:
        LANDED.write_bytes(msgspec.json.format(msgspec.json.encode(fresh, order="sorted"), indent=2) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
