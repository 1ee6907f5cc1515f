"""Writes `docs/capacity.md` from the figures in `bench/results.md`: `python -m bench.growth [--check]`. Measures nothing.

Every figure of the page is either a measured one, named with its row, or an assumption that is called one, or follows from
these by arithmetic that is shown.
"""

from __future__ import annotations

import re
import sys
from math import ceil
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "bench" / "results.md"
PAGE: Final = ROOT / "docs" / "capacity.md"

TABLE: Final = 6
"""People at a table."""
MOVING: Final = 2
"""Of them, whose pointers move at any moment."""
POINTER_HZ: Final = 20
COMMANDS: Final = 0.2
"""Stored commands of a person a second: a stroke, a line of chat or a roll every five seconds."""
TICK_HZ: Final = 125
"""Joined writes a second that a room gets at the most."""
BENCH_MESSAGES: Final = 10 * 60
"""A second and room in the fan-out's row."""
FULL: Final = 0.6
"""How far a core is filled: what is over it is for peaks and for a neighbour's failure."""
ACTIVE: Final = 0.25
"""Of all connections, those at a table where somebody plays at this moment."""
MOST: Final = 20_000
"""Connections of one gateway, however quiet: what a lost one sends elsewhere."""
BYTES: Final = 300
"""Of a stored command, with what the log adds."""
COPIES: Final = 3


class Missing(Exception):
    """The results have no such figure."""


class Figures(NamedTuple):
    delivery_us: float
    """CPU of all processes for one delivery of a pointer."""
    command_us: float
    """CPU of services and NATS for one stored command."""
    commands_s: float
    """Stored commands a second, 200 rooms, synced, by one NATS server."""
    connection_kb: float
    joins_s: float
    stroke_ms: float
    quiet_us: float | None
    """As `delivery_us`, in rooms so quiet that each pointer is a write of its own; where it was measured."""


def middle(text: str, section: str, row: tuple[str, ...], column: str) -> float:
    """The median in the table of the section whose title begins so, in the row whose cells begin so."""
    found = re.search(rf"^## {re.escape(section)}.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise Missing(f"no section `{section}`")
    lines = [line.strip("| ").split(" | ") for line in found[0].splitlines() if line.startswith("|")]
    head = next((number for number, name in enumerate(lines[0]) if name.startswith(column)), None)
    cells = next((cells for cells in lines[2:] if all(map(str.startswith, cells, row))), None)
    if head is None or cells is None:
        raise Missing(f"`{section}` has no `{' '.join(row)}`, or no column `{column}`")
    numbers = [float(each.replace(",", "").replace(" k", "e3")) for each in cells[head].split(" – ")]
    return numbers[len(numbers) // 2]


def figures(text: str) -> Figures:
    """Raises `Missing`."""
    commands = ("200 rooms", "`always`")
    return Figures(
        middle(text, "Fan-out", ("Roundtable",), "CPU µs a delivery"),
        middle(text, "Stored commands", commands, "CPU µs a command"),
        middle(text, "Stored commands", commands, "a second"),
        middle(text, "Idle WebSockets", ("5,000",), "KB each"),
        middle(text, "Idle WebSockets", ("5,000",), "joins a second"),
        middle(text, "A stroke, stored", ("",), "p50 ms"),
        middle(text, "Quiet rooms", ("Roundtable",), "CPU µs a delivery")
        if "## Quiet rooms" in text
        else None,
    )


def shown(value: float) -> str:
    """Three digits that mean something."""
    if value >= 100:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


class Growth(NamedTuple):
    """What follows from the figures; times are microseconds of CPU."""

    per_write: float
    writes: float
    person_us: float
    persons: float
    quiet: float

    @classmethod
    def of(cls, found: Figures) -> Growth:
        per_write = found.quiet_us or found.delivery_us * BENCH_MESSAGES / TICK_HZ
        writes = min(MOVING * POINTER_HZ, TICK_HZ) + COMMANDS * TABLE
        person_us = writes * per_write + COMMANDS * found.command_us
        return cls(per_write, writes, person_us, FULL * 1e6 / person_us, 1e6 / found.connection_kb)

    def gateways(self, connections: float) -> int:
        return max(ceil(ACTIVE * connections / self.persons), ceil(connections / MOST))


def cells(found: Figures, commands: float) -> int:
    """NATS clusters for so many commands a second."""
    return max(1, ceil(commands / (FULL * found.commands_s)))


def growth_table(found: Figures) -> str:
    growth = Growth.of(found)
    rows = [
        "| connections | playing | gateways | commands a second | service cores | NATS clusters | log a day |"
    ]
    rows.append("| --- | --- | --- | --- | --- | --- | --- |")
    for connections in (1_000, 10_000, 100_000, 1_000_000):
        commands = ACTIVE * connections * COMMANDS
        row = (
            f"{connections:,}",
            f"{ACTIVE * connections:,.0f}",
            f"{growth.gateways(connections):,}",
            shown(commands),
            str(max(1, ceil(commands * found.command_us / 1e6 / FULL))),
            str(cells(found, commands)),
            f"{shown(commands * 86_400 * BYTES / 1e9)} GB",
        )
        rows.append("| " + " | ".join(row) + " |")
    return "\n".join(rows)


def write_cost(found: Figures, per_write: float) -> str:
    """What is known of one joined write."""
    with_it = "with the receiving, checking and encoding of what is in it."
    if found.quiet_us is not None:
        return (
            "A joined write is the unit of work. In the row `quiet` forty pointers a second move in a room, as at our\n"
            f"table, and nearly each is a write of its own: **{shown(per_write)} µs**, {with_it}\n"
            f"(In the row `fanout` writes hold several pointers, so a delivery costs {found.delivery_us:g} µs.)\n"
        )
    held = f"{BENCH_MESSAGES / TICK_HZ:g}"
    return (
        f"A joined write is the unit of work: in the row `fanout` a room has {BENCH_MESSAGES} messages a second and at\n"
        f"most {TICK_HZ} joined writes to each connection, so a write holds {held} messages and costs at most\n\n"
        f"    {found.delivery_us:g} µs × {held} = {shown(per_write)} µs\n\n{with_it}\n"
    )


def page(text: str) -> str:
    found = figures(text)
    growth = Growth.of(found)
    machine = "\n".join(
        f"> {line.strip('*')}"
        for line in re.findall(r"^- (.*)$", text.partition("\n## ")[0], re.MULTILINE)
        if re.match(r"date|machine|system|\*\*the machine", line)
    )
    million = 1_000_000
    commands = ACTIVE * million * COMMANDS
    per_command = found.command_us
    person_ms = shown(growth.person_us / 1000)
    return f"""<!-- Written by `python -m bench.growth` from bench/results.md: change bench/growth.py, not this page. -->

# Capacity

What one core carries, from our own figures, and how it grows from there. The figures are medians of
[bench/results.md](../bench/results.md), which tells how to repeat each; they were taken on

{machine}

Yours will differ: run `make bench` on a machine like those you will use, then `python -m bench.growth`, and this page says
what follows for you.

## What was measured

| figure | median | row of the results |
| --- | --- | --- |
| CPU for one delivery of a pointer, all processes | {found.delivery_us:g} µs | `fanout`, Roundtable |
| CPU for one stored command, services and NATS | {per_command:g} µs | `commands`, 200 rooms, `always` |
| stored commands a second of one NATS server, two replicas | {shown(found.commands_s)} | the same |
| memory of an idle connection | {found.connection_kb:g} KB | `memory`, 5,000 |
| joins a second of one gateway | {shown(found.joins_s)} | the same |
| from drawing until all have it, idle system | {found.stroke_ms:g} ms | `stroke`, p50 |

## What is assumed

A table has {TABLE} people. While they play, the pointers of {MOVING} move at {POINTER_HZ} Hz, and each person does
one thing that is stored every
{1 / COMMANDS:g} s (a stroke, a line, a roll). {ACTIVE:.0%} of all connections are at tables where somebody plays at
this moment; the others are there and
quiet. Cores are filled to {FULL:.0%}, for peaks and for the neighbour that fails. All people of a table are at one
gateway (see
[below](#by-replica)).

## One core of a gateway

{write_cost(found, growth.per_write)}
Somebody at a table that plays gets

    {MOVING} × {POINTER_HZ} Hz + {TABLE} × {COMMANDS:g} commands = {growth.writes:g} writes a second

and so takes, with the services' and NATS's part of their own commands,

    {growth.writes:g} × {shown(growth.per_write)} µs + {COMMANDS:g} × {per_command:g} µs = {person_ms} ms of CPU a second

so a core filled to {FULL:.0%} carries {FULL * 1000:.0f} ms ÷ {person_ms} ms =
**{shown(growth.persons)} people who play**. Tables that are busier share writes, so ten times the
pointers do not cost ten times as much: a room never gets more than {TICK_HZ} writes a second.

People who only listen cost memory: {found.connection_kb:g} KB each, so 1 GB holds {shown(growth.quiet)}. Give a
gateway no more than {MOST:,}: when it is lost, they all join
elsewhere, and at {shown(found.joins_s)} joins a second and gateway that takes, with ten gateways left,
{MOST:,} ÷ (10 × {shown(found.joins_s)}) = {shown(MOST / 10 / found.joins_s)} s.

## One core of a service, one NATS

A stored command costs {per_command:g} µs in the service and NATS together, so a core does 1 s ÷ {per_command:g} µs =
{shown(1e6 / per_command)} commands a second, or the commands of
{shown(1e6 / per_command / COMMANDS * FULL)} people who play, at {FULL:.0%}. But before that the disk is the limit:
each append is synced before it is acknowledged. One NATS
server stored {shown(found.commands_s)} a second in the row `commands`; at {FULL:.0%} that is
{shown(FULL * found.commands_s)}, or {shown(FULL * found.commands_s / COMMANDS)} people who play. The busier a room, the more
commands share one append (up to 256), so a hot room costs less for each, not more.

A cluster of three stores everything {COPIES} times and waits for two of them; that adds a round trip, not much work.

## How it grows

{growth_table(found)}

Gateways: the larger of *playing ÷ {shown(growth.persons)}* and *connections ÷ {MOST:,}*. Service cores: all three
services together. NATS clusters:
*commands ÷ {shown(FULL * found.commands_s)}*. Log: {BYTES} bytes a command, before it is kept {COPIES} times;
`ROUNDTABLE_RETENTION_DAYS` bounds it.

### By service

The four programs grow apart. Gateways follow pointers and connections; canvas follows strokes; presence follows comings and
goings, so storms of reconnects; activity follows chat and rolls, and derives a little from the others. Each has its own
log, so its own stream leader: in a cluster of three the three leaders are best on three servers
(`nats stream cluster step-down`).

### By replica

**Services**: rooms are in 32 partitions, so up to 32 replicas share the work, each with its own rooms; two rooms never wait
for each other. One room is one writer and cannot be shared; it is where batches help.

**Gateways**: any number, and any of them can serve anybody. But a table whose people are at six gateways is told six times:
each pointer tick goes through NATS to five others. Let the load balancer hash by `room` (a query parameter), so that a
table's people meet at one gateway: nothing depends on it but the cost. Without it NATS carries for each table that plays

    {MOVING} × {POINTER_HZ} Hz × {TABLE - 1} gateways = {MOVING * POINTER_HZ * (TABLE - 1)} messages a second

instead of none.

### By NATS partition

A NATS cluster with its services and gateways is a **cell**: a deployment like any other, with its own names. Rooms are
independent of each other, so cells share nothing, and a room lives in one cell for ever. Who leads people there is the
load balancer (hash of `room`), or whoever issues tokens and links (a host for each cell). That is the operator's to set up:
no program of ours knows other cells, and a room does not move between them but by its logs
([backup](runbook.md#back-up-and-restore-the-logs)). Cells also bound what a fault can reach.

### A million connections, on paper

With the assumptions above, {ACTIVE:.0%} × 1,000,000 = {ACTIVE * million:,.0f} people play and do
{ACTIVE * million:,.0f} × {COMMANDS:g} = {commands:,.0f} commands a second:

* gateways: the larger of {ACTIVE * million:,.0f} ÷ {shown(growth.persons)} =
  {ceil(ACTIVE * million / growth.persons):,} and 1,000,000 ÷ {MOST:,} = {million // MOST}:
  **{growth.gateways(million):,}**, each one core and
  1,000,000 ÷ {growth.gateways(million):,} × {found.connection_kb:g} KB =
  {shown(million / growth.gateways(million) * found.connection_kb / 1000)} MB for connections;
* services: {commands:,.0f} × {per_command:g} µs ÷ {FULL:.0%} = **{ceil(commands * per_command / 1e6 / FULL)}
  cores**, NATS's part in them;
* NATS: {commands:,.0f} ÷ {shown(FULL * found.commands_s)} = **{cells(found, commands)} cells** of three servers;
* network: {growth.writes:g} writes a second to each who plays, of some 200 bytes: {ACTIVE * million:,.0f} ×
  {growth.writes:g} × 200 B × 8 = {shown(ACTIVE * million * growth.writes * 200 * 8 / 1e9)} Gbit/s in all;
* logs: {shown(commands * 86_400 * BYTES / 1e12)} TB a day before copies, so
  {shown(commands * 86_400 * BYTES / 1e12 * COPIES / cells(found, commands) * 1000)} GB a day in each cell.

Nothing of this has been run at that size. What has been run is what the results name: one machine. What we expect to meet
first on the way: storms of joins after a cell's loss (spread them: clients wait with full jitter), and tables spread over
gateways where nobody hashes by room.
"""


def main(arguments: list[str]) -> int:
    try:
        text = page(RESULTS.read_text())
    except Missing as what:
        print(f"bench/results.md: {what}", file=sys.stderr)
        return 1
    if arguments == ["--check"]:
        same = PAGE.exists() and PAGE.read_text() == text
        print(
            "" if same else "docs/capacity.md is not what bench/results.md says: python -m bench.growth",
            end="",
        )
        return 0 if same else 1
    PAGE.write_text(text)
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
