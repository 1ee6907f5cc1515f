"""Shell: what is measured: our system, and the form of a peer. Each says where it listens and what a client sends it."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from roundtable.common.testing.players import token
from roundtable.common.testing.system import System

from .isolation import Cores

CURSOR: Final = """\
header=Authorization: Bearer {token}
await=activity.snapshot
send={"type":"event","method":"presence.cursor","params":{"x":0.{ts},"y":{y}}}
marker="x":0.
echo=0
"""
"""Latest wins: one that comes before the last one was told replaces it, and counts as lost here."""

PREVIEW: Final = """\
header=Authorization: Bearer {token}
await=activity.snapshot
send={"type":"event","method":"canvas.preview","params":{"id":"s","tool":"pen","color":"#1e90ff","size":3,"points":[{"x":0.{ts},"y":{y}}]}}
marker="x":0.
echo=0
"""
"""Ephemeral too, but of what is merged no point is left out: so at any rate each must arrive."""

STROKE: Final = """\
header=Authorization: Bearer {token}
await=activity.snapshot
send={"type":"request","id":"{i}-{seq}","method":"canvas.draw","params":{"operations":[{"type":"draw","tool":"pen","points":[{"x":0.{ts},"y":{y}},{"x":3.5,"y":-4}],"color":"#1e90ff","size":3}]}}
marker="x":0.
"""

WS: Final = """\
send={"userId":"p{i}","x":0.{ts},"y":{y}}
marker="x":0.
echo=0
"""

_runs = itertools.count(1)


class Server(Protocol):
    name: str
    template: str
    tokens: Path | None
    """A file of them, one for each connection."""

    @property
    def pids(self) -> list[int]:
        """All processes whose CPU counts."""
        ...

    def new_rooms(self) -> str:
        """The address of rooms in which nobody has been, with `{room}` for the number."""
        ...


class Ours:
    """Through everything: a token for each user, validation, presence, NATS with its logs synced as in production."""

    def __init__(
        self, system: System, tokens: Path, template: str = CURSOR, name: str = "Roundtable"
    ) -> None:
        self.name = name
        self.template = template
        self.tokens: Path | None = tokens
        self.system = system

    def new_rooms(self) -> str:
        return f"{self.system.gateway.ws}/ws?room=run{next(_runs)}-{{room}}"

    @property
    def pids(self) -> list[int]:
        return [*(program.pid for program in self.system.programs), self.nats_pid]

    @property
    def nats_pid(self) -> int:
        process = self.system.nats._process
        assert process is not None
        return process.pid


@dataclass
class Peer:
    name: str
    template: str
    port: int
    path: str
    pids: list[int]
    tokens: Path | None = None

    def new_rooms(self) -> str:
        return f"ws://127.0.0.1:{self.port}{self.path}room=run{next(_runs)}-{{room}}"


def write_tokens(path: Path, users: int, first: int = 0) -> None:
    path.write_text("".join(token(f"p{number}") + "\n" for number in range(first, first + users)))


@contextlib.asynccontextmanager
async def ours(
    folder: Path,
    cores: Cores | None = None,
    *,
    gateways: int = 1,
    replicas: int = 1,
    sync: bool = True,
    settings: dict[str, str] | None = None,
) -> AsyncIterator[System]:
    """A running system with its data in a new folder there; on the servers' core, if cores are given."""
    home = folder / f"system{next(_runs)}"
    home.mkdir()
    quiet = {"LOG_LEVEL": "WARNING", **(settings or {})}
    system = System(home, gateways=gateways, replicas=replicas, sync=sync, settings=quiet)
    with cores.servers() if cores is not None else contextlib.nullcontext():
        await system.__aenter__()
    try:
        yield system
    except BaseException:
        for program in system.programs:
            print(f"--- {program.name}\n{program.log()[-2_000:]}")
        raise
    finally:
        await system.__aexit__(None, None, None)
        shutil.rmtree(home, ignore_errors=True)
