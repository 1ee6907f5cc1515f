"""Shell: what is measured: our system, and its peers in Node. Each says where it listens and what a client sends it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from roundtable.common.testing.nats import free_port
from roundtable.common.testing.players import token
from roundtable.common.testing.system import System

from .generator import CACHE, HERE, Skipped
from .isolation import Cores

PEERS: Final = HERE / "peers"

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

SOCKETIO: Final = """\
await=0{
first=40
await=40{
send=42["cursor",{"userId":"p{i}","x":0.{ts},"y":{y}}]
marker="x":0.
echo=0
ping=2
pong=3
"""
"""Engine.IO 4 over WebSocket: `0` opens, `40` joins the namespace, `42` is an event, `2` and `3` are its heartbeat."""

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
    pid: int
    tokens: Path | None = None

    def new_rooms(self) -> str:
        return f"ws://127.0.0.1:{self.port}{self.path}room=run{next(_runs)}-{{room}}"

    @property
    def pids(self) -> list[int]:
        return [self.pid]


def write_tokens(path: Path, users: int) -> None:
    path.write_text("".join(token(f"p{number}") + "\n" for number in range(users)))


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


class NodePeers:
    """Socket.IO and `ws`, installed from the lock into a folder that is not committed."""

    def __init__(self) -> None:
        self.versions = ""
        self._folder = CACHE / "peers"

    def install(self) -> None:
        """Raises `Skipped`."""
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            raise Skipped("Socket.IO and `ws`: there is no `node` with `npm` here")
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = self._folder / "package-lock.json"
        wanted = (PEERS / "package-lock.json").read_bytes()
        if not (self._folder / ".installed").exists() or not lock.exists() or lock.read_bytes() != wanted:
            for name in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copyfile(PEERS / name, self._folder / name)
            command = [npm, "ci", "--silent"]
            done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stdout + done.stderr).strip()[-300:]
                raise Skipped(f"Socket.IO and `ws`: npm could not install them: {said}")
            (self._folder / ".installed").touch()
        packages = json.loads(wanted)["packages"]
        found = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        self.versions = f"Node {found}, " + ", ".join(
            f"{name} {packages[f'node_modules/{name}']['version']}" for name in ("socket.io", "ws")
        )

    @contextlib.asynccontextmanager
    async def running(self, cores: Cores) -> AsyncIterator[list[Peer]]:
        """Both, on the servers' core; none where they are not installed."""
        if not self.versions:
            yield []
            return
        async with (
            self._one(
                "Socket.IO", "socketio", SOCKETIO, "/socket.io/?EIO=4&transport=websocket&", cores
            ) as first,
            self._one("Node ws", "ws", WS, "/?", cores) as second,
        ):
            yield [first, second]

    @contextlib.asynccontextmanager
    async def _one(
        self, name: str, script: str, template: str, path: str, cores: Cores
    ) -> AsyncIterator[Peer]:
        shutil.copyfile(PEERS / f"{script}.mjs", self._folder / f"{script}.mjs")
        port = free_port()
        with cores.servers():
            process = await asyncio.create_subprocess_exec(
                "node",
                f"{script}.mjs",
                str(port),
                cwd=self._folder,
                env=os.environ | {"NODE_ENV": "production"},
            )
        try:
            await _listening(process, port)
            yield Peer(name, template, port, path, process.pid)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _listening(process: asyncio.subprocess.Process, port: int, within: float = 10) -> None:
    async with asyncio.timeout(within):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
    raise RuntimeError(f"the peer ended with {process.returncode}")
