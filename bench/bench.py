"""Shell: what every row is given, and the form of a row."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .figures import Section
from .generator import Generator, Load, Report
from .isolation import Cores
from .servers import NodePeers, Server, write_tokens


@dataclass
class Bench:
    folder: Path
    """For systems' data, gone at the end."""
    cores: Cores
    generator: Generator
    peers: NodePeers
    repeats: int
    skipped: list[str] = field(default_factory=list)

    def tokens(self, users: int) -> Path:
        path = self.folder / f"tokens-{users}"
        if not path.exists():
            write_tokens(path, users)
        return path

    def skip(self, what: str) -> None:
        """Loudly."""
        self.skipped.append(what)
        print(f"SKIPPED: {what}", file=sys.stderr)

    async def load(self, server: Server, *, connections: int, rooms: int, **more: object) -> Report:
        """Runs the generator against rooms in which nobody has been. `more`: other fields of `Load`."""
        load = Load(
            url=server.new_rooms(),
            template=server.template,
            connections=connections,
            rooms=rooms,
            pids=server.pids,
            tokens=server.tokens,
            **more,  # type: ignore[arg-type]
        )
        return await self.generator.run(load)


class Row(NamedTuple):
    name: str
    about: str
    measure: Callable[[Bench], Awaitable[Section]]
    """Repeats what it measures `repeats` times, the servers in turn; may raise `Skipped`."""


def said(what: str) -> None:
    """Progress, for whoever waits."""
    print(f"  {what}", file=sys.stderr, flush=True)
