"""Test layer: what people do while things break, and what each phase of a story cost them. Knows nothing of what breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from .crew import Asked, Member


class Phase(NamedTuple):
    """What a phase cost, in seconds: its worst command, the longest silence of all writers, the longest absence of anybody."""

    name: str
    seconds: float
    commands: int
    repeats: int
    worst: float
    silence: float
    away: float

    def __str__(self) -> str:
        return (
            f"{self.name:<34}{self.seconds:6.1f} s {self.commands:6} commands {self.repeats:4} repeats"
            f"   worst {self.worst:5.2f} s   silence {self.silence:5.2f} s   away {self.away:5.2f} s"
        )


def silence(asked: Sequence[Asked], began: float, ended: float) -> float:
    """The longest time in which no command of a kind was answered at all."""
    times = sorted(one.ended for one in asked if began <= one.ended <= ended)
    return max((b - a for a, b in zip([began, *times], [*times, ended], strict=True)), default=ended - began)


class Figures:
    """What the phases of a story cost these people."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self.phases: list[Phase] = []

    async def phase(self, name: str, service: str, work: Awaitable[object], settle: float = 1.0) -> Phase:
        """Does the work, and says what it cost that service's commands, or all."""
        began = time.monotonic()
        await work
        await asyncio.sleep(settle)
        ended = time.monotonic()
        asked = [
            one
            for member in self._members
            for one in member.asked
            if one.ended >= began and one.method.startswith(service)
        ]
        absences = [
            seconds for member in self._members for until, seconds in member.absences if until >= began
        ]
        phase = Phase(
            name,
            ended - began,
            len(asked),
            sum(one.sent - 1 for one in asked),
            max((one.seconds for one in asked), default=0.0),
            silence(asked, began, ended),
            max(absences, default=0.0),
        )
        self.phases.append(phase)
        return phase


async def work(members: Sequence[Member], done: asyncio.Event) -> None:
    """Everybody draws, posts, or changes their status, each as their name says, until it is enough."""

    async def one(member: Member, act: Callable[[Member, str, int], Awaitable[object]]) -> None:
        number = 0
        while not done.is_set():
            number += 1
            await act(member, f"{member.user}-{number}", number)
            await asyncio.sleep(0.02)

    def status(member: Member, ident: str, number: int) -> Awaitable[object]:
        return member.ask("presence.update", {"status": "away" if number % 2 else "online"}, ident)

    acts: dict[str, Callable[[Member, str, int], Awaitable[object]]] = {
        "draws": lambda member, ident, _: member.draw(ident),
        "talks": lambda member, ident, _: member.say(ident),
        "roams": status,
    }
    await asyncio.gather(*(one(member, acts[member.user.partition("-")[0]]) for member in members))
