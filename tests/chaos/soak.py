"""Test layer: the soak: people draw, read and move while all that can break does: `python -m tests.chaos.soak --seconds 300`.

The seed fixes who moves how and what breaks when, as far as a real machine can be fixed. It is printed, and pinned with
`--seed` or ROUNDTABLE_SOAK_SEED.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec

from roundtable.common.testing.players import Problem
from roundtable.common.testing.system import System, system

from .blows import BLOWS, strike, troubles, victims
from .crew import KINDS, Asked, Member
from .judge import History, all_told, judge, read_logs

ROOMS: Final = ("attic", "barn", "cellar")
WRITERS: Final = 6
GONE_WITHIN: Final = 25.0
"""Seconds after which nobody is shown who has left: the grace, a lease's end, and what is still being caught up with."""


class Report(msgspec.Struct):
    seed: int
    seconds: float
    blows: list[str] = []
    faults: list[str] = []
    asked: list[Asked] = []
    heard: int = 0
    comings: int = 0
    stored: int = 0
    worst: float = 0.0
    away: float = 0.0
    slow: list[str] = []
    """The slowest commands and connections, and when."""
    level_after: float = 0.0
    """Seconds until everybody was level with the logs when all was calm again."""
    empty_after: float = 0.0

    def __str__(self) -> str:
        repeats = sum(one.sent - 1 for one in self.asked)
        by_name = Counter(blow.partition(" ")[0] for blow in self.blows)
        return (
            f"soak: seed {self.seed}, {self.seconds:.0f} s, {len(self.blows)} blows {dict(by_name)}: "
            f"{len(self.asked)} commands ({repeats} repeats, worst {self.worst:.2f} s), {self.stored} events, "
            f"{self.heard} heard in {self.comings} connections (longest away {self.away:.2f} s), "
            f"level after {self.level_after:.1f} s, empty after {self.empty_after:.1f} s: {len(self.faults)} faults"
        )


async def _write(member: Member, chance: random.Random, done: asyncio.Event) -> None:
    """Strokes mostly; also what changes the canvas otherwise, what is not for everybody's eyes, and a status."""
    number = 0
    while not done.is_set():
        number += 1
        ident = f"{member.user}-{number}"
        lot = chance.random()
        try:
            if lot < 0.65:
                await member.draw(ident, strokes=1 if lot < 0.55 else 3)
            elif lot < 0.75:
                method = chance.choice(("canvas.undo", "canvas.redo", "canvas.clear"))
                await member.ask(method, {}, ident)
            elif lot < 0.9:
                await member.say(ident, **({"to": ["somebody"]} if lot < 0.8 else {}))
            elif lot < 0.95:
                roll = {"type": "dice_roll", "data": {"expression": "2d20kh1+4"}, "visibility": "blind"}
                await member.ask("activity.post", roll, ident)
            else:
                status = "away" if number % 2 else "online"
                await member.ask("presence.update", {"status": status}, ident)
        except Problem as problem:
            member.faults.append(f"{member.user}: {ident} was refused: {problem}")
        except TimeoutError:
            member.faults.append(f"{member.user}: {ident} was not answered at all")
        await asyncio.sleep(chance.uniform(0.0, 0.06))


async def _break(running: System, chance: random.Random, until: float, report: Report) -> None:
    """Something every few seconds; seldom two things at once."""
    names = victims(running)
    busy: set[asyncio.Task[None]] = set()
    struck: set[str] = set()
    began = time.monotonic()

    async def one(name: str, pause: float) -> None:
        try:
            await strike(running, name, blow, pause)
        except RuntimeError as error:
            report.faults.append(str(error))
        finally:
            struck.discard(name)

    while time.monotonic() < until:
        await asyncio.sleep(chance.uniform(0.5, 2.0))
        blow, name = chance.choice(BLOWS), chance.choice(names)
        pause, patient = chance.choice((0.0, 0.0, 1.0)), chance.random() < 0.8
        if name in struck:
            continue
        struck.add(name)
        report.blows.append(f"{blow} {name} at {time.monotonic() - began:.1f}")
        task = asyncio.create_task(one(name, pause))
        busy.add(task)
        task.add_done_callback(busy.discard)
        if patient:
            await asyncio.wait((task,))
    if busy:
        await asyncio.wait(tuple(busy))


async def soak(seconds: float, seed: int, *, until_empty: bool = True) -> Report:
    """Never raises for what the system does wrong: that stands in the report's `faults`."""
    report = Report(seed, seconds)
    chance = random.Random(seed)
    async with system(
        gateways=2, replicas=2, sync=True, settings={"AUDIT_SECONDS": "5", "RING_EVENTS": "128"}
    ) as running:
        people = _people(running, chance)
        readers, writers = people[WRITERS:], people[:WRITERS]
        async with AsyncExitStack() as stack:
            for member in people:
                await stack.enter_async_context(member)
            done = asyncio.Event()
            began = time.monotonic()
            writing = [
                asyncio.create_task(_write(member, random.Random(chance.random()), done))
                for member in writers
            ]
            await _break(running, chance, time.monotonic() + seconds, report)
            done.set()
            _, late = await asyncio.wait(writing, timeout=70)
            report.faults += [f"still waiting: {task!r}" for task in late]
            for task in late:
                task.cancel()
            calm = time.monotonic()
            try:
                await all_told(running.nats.url, people)
            except AssertionError as error:
                report.faults.append(str(error))
            report.level_after = time.monotonic() - calm
        logs = await read_logs(running.nats.url, ROOMS)
        report.faults += judge(logs, people)
        if until_empty:
            await _empty(running, report)
        _account(report, people, readers, logs, began)
        for program in running.programs:
            report.faults += [
                f"{program.name} logged: {line[:1500]}" for line in troubles(program, "Traceback")[:3]
            ]
        if report.faults and (folder := os.environ.get("ROUNDTABLE_SOAK_KEEP")):
            _keep(running, report, folder)
    print(report, flush=True)
    return report


def _people(running: System, chance: random.Random) -> list[Member]:
    gateways = running.of("gateway")
    people = []
    for number in range(WRITERS):
        kinds = KINDS if number % 2 else ("json", "msgpack", "deflate")
        stay = (2.0, 8.0) if number % 2 else None
        people.append(
            Member(
                gateways,
                f"writer{number}",
                ROOMS[number % len(ROOMS)],
                kinds=kinds,
                stay=stay,
                chance=random.Random(chance.random()),
            )
        )
    for room in ROOMS:
        for kind in KINDS:
            # One begins with each transport and stays as long as it lets them; the others move about.
            restless = kind in ("json", "sse", "poll")
            people.append(
                Member(
                    gateways,
                    f"{kind}-{room}",
                    room,
                    role="gm" if kind == "deflate" else "player",
                    kinds=KINDS if restless else (kind,),
                    stay=(0.5, 6.0) if restless else None,
                    chance=random.Random(chance.random()),
                )
            )
    return people


async def _empty(running: System, report: Report) -> None:
    """No ghosts: when all have left, nobody is shown but who looks (PR1, PR2)."""
    began = time.monotonic()
    shown: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        lookers = [
            await stack.enter_async_context(Member(running.of("gateway"), "looker", room)) for room in ROOMS
        ]
        while time.monotonic() - began < GONE_WITHIN:
            for looker in lookers:
                listed = await looker.ask("presence.list", {}, f"look-{time.monotonic_ns()}")
                shown[looker.room] = sorted(each["userId"] for each in listed["presence"])
            if all(names == ["looker"] for names in shown.values()):
                break
            await asyncio.sleep(0.2)
    report.empty_after = time.monotonic() - began
    report.faults += [f"ghosts in {room}: {names}" for room, names in shown.items() if names != ["looker"]]


def _account(
    report: Report, people: list[Member], readers: list[Member], logs: dict[str, History], began: float
) -> None:
    report.asked = [one for member in people for one in member.asked]
    report.heard = sum(len(member.heard) for member in people)
    report.comings = sum(member.comings for member in people)
    report.stored = sum(len(stored) for history in logs.values() for stored in history.values())
    report.worst = max((one.seconds for one in report.asked), default=0.0)
    report.away = max(member.away for member in people)
    slowest = sorted(report.asked, key=lambda one: -one.seconds)[:6]
    report.slow = [
        f"{one.ident} {one.method} at {one.began - began:.1f}: {one.seconds:.2f} s" for one in slowest
    ]
    waits = sorted((each for member in people for each in member.failures), key=lambda each: -each[1])[:6]
    report.slow += [
        f"no connection at {at - began:.1f} after {seconds:.2f} s: {why}" for at, seconds, why in waits
    ]
    if len(report.asked) < report.seconds:
        report.faults.append(f"only {len(report.asked)} commands were answered")
    report.faults += [f"{member.user} was told nothing" for member in readers if not member.heard]


def _keep(running: System, report: Report, folder: str) -> None:
    """The logs of a soak that went wrong."""
    place = os.path.join(folder, f"soak-{report.seed}-{int(time.time())}")
    os.makedirs(place)
    for program in running.programs:
        with open(os.path.join(place, f"{program.name}.log"), "w") as file:
            file.write(program.log())
    with open(os.path.join(place, "nats.log"), "w") as file:
        file.write(running.nats.log())
    with open(os.path.join(place, "report.txt"), "w") as file:
        file.write("\n".join([str(report), *report.blows, "", *report.slow, "", *report.faults]))


def seed_of(text: str | None) -> int:
    return int(text) if text else random.SystemRandom().randrange(1_000_000)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else seed_of(os.environ.get("ROUNDTABLE_SOAK_SEED"))
    print(f"soak: seed {seed}, {asked.seconds:g} s", flush=True)
    report = asyncio.run(soak(asked.seconds, seed))
    for line in (*report.blows, *report.slow, *report.faults):
        print(" ", line)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
