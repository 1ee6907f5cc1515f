"""Shell: what every row is given, and the form of a row."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .contestants import Peers
from .figures import Section
from .generator import Generator, Load, Report, Step
from .isolation import Cores
from .servers import Server, write_tokens


@dataclass
class Bench:
    folder: Path
    """For systems' data, gone at the end."""
    cores: Cores
    generator: Generator
    peers: Peers
    repeats: int
    skipped: list[str] = field(default_factory=list)

    def tokens(self, users: int) -> Path:
        path = self.folder / f"tokens-{users}"
        if not path.exists():
            write_tokens(path, users)
        return path

    def tokens_from(self, first: int, users: int) -> Path:
        """Of others than those who use the first ones."""
        path = self.folder / f"tokens-{first}-{users}"
        if not path.exists():
            write_tokens(path, users, first)
        return path

    def skip(self, what: str) -> None:
        """Loudly."""
        self.skipped.append(what)
        print(f"SKIPPED: {what}", file=sys.stderr)

    async def load(self, server: Server, *, connections: int, rooms: int, **more: object) -> Report:
        """Runs the generator against rooms in which nobody has been. `more`: other fields of `Load`."""
        url = server.new_rooms()
        load = Load(
            url=url,
            template=server.template,
            connections=connections,
            rooms=rooms,
            pids=server.pids,
            tokens=server.tokens,
            **more,  # type: ignore[arg-type]
        )
        return await self.generator.run(load)

    async def step(
        self, server: Server, connections: int, rooms: int, hz: float, seconds: float = 2.0, **more: object
    ) -> Step | None:
        """One run at one rate; None, said loudly, where the server does not get through it."""
        try:
            how = {"warm": 0.6, "settle": 0.3, "drain": 0.3, **more}
            report = await self.load(
                server, connections=connections, rooms=rooms, rates=(hz,), seconds=seconds, **how
            )
        except RuntimeError as error:
            self.skip(f"{server.name}, {connections} connections: {error}")
            return None
        step = report.steps[0]
        step.due_us = step.srv_cpu * seconds * 1e6 / max(step.expected, 1)
        return step


class Row(NamedTuple):
    name: str
    about: str
    measure: Callable[[Bench], Awaitable[Section]]
    """Repeats what it measures `repeats` times, the servers in turn; may raise `Skipped`."""


def said(what: str) -> None:
    """Progress, for whoever waits."""
    print(f"  {what}", file=sys.stderr, flush=True)
