"""Shell: the peers: how each is installed, started and spoken to. All is kept in `bench/.cache/`; none is part of the product.

What cannot be had here is skipped, loudly. Versions are pinned: npm and pip by locks with hashes, Go by its checksum database.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from roundtable.common.testing.nats import NatsServer, free_port

from .generator import CACHE, HERE, Skipped, compiled
from .isolation import Cores
from .servers import WS, Peer

PEERS: Final = HERE / "peers"
CENTRIFUGO: Final = "v6.9.1"
VENV: Final = CACHE / "venv"
LOCK: Final = HERE.parent / "requirements" / "bench.txt"

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

CENTRIFUGO_SPEAKS: Final = """\
first={"id":1,"connect":{}}
await="connect":
first={"id":2,"subscribe":{"channel":"%s{room}"}}
await="subscribe":
send={"id":3,"publish":{"channel":"%s{room}","data":{"userId":"p{i}","x":0.{ts},"y":{y}}}}
marker="x":0.
echo=1
"""
"""Its JSON protocol. Who publishes hears it too."""

NATS_SPEAKS: Final = """\
await=INFO {
first=CONNECT {"verbose":false,"pedantic":false,"echo":false}\\r\\nSUB %s{room} 1\\r\\nPING\\r\\n
await=PONG
send=PUB %s{room} {len}\\r\\n{body}\\r\\n
body={"userId":"p{i}","x":0.{ts},"y":{y}}
marker="x":0.
binary=1
echo=0
"""


class Contestant(NamedTuple):
    name: str
    folder: Callable[[], Path]
    """Installs what it needs, and returns where it runs. Raises `Skipped`."""
    command: Callable[[Path, int, Path], Sequence[str]]
    """From its folder, its port and a folder for its files."""
    template: str
    path: str
    version: str = ""


@dataclass
class RoomPeer(Peer):
    """One whose rooms are named in what is said, not in the address."""

    said: str = ""

    def new_rooms(self) -> str:
        url = super().new_rooms()
        self.template = self.said.replace("%s", url.rpartition("room=")[2].removesuffix("{room}"))
        return url.partition("?")[0]


def _ran(command: Sequence[str], what: str, within: float = 300, **more: object) -> None:
    """Raises `Skipped`."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=within, **more)  # type: ignore[call-overload]
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Skipped(f"{what}: {error}") from error
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split()).replace(f"{HERE}/", "")
        raise Skipped(f"{what}: {said[:300]}")


def node_folder() -> Path:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Skipped("there is no `node` with `npm` here")
    folder = CACHE / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    wanted, found = (PEERS / "package-lock.json").read_bytes(), folder / "package-lock.json"
    if not (folder / ".installed").exists() or not found.exists() or found.read_bytes() != wanted:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copyfile(PEERS / name, folder / name)
        _ran([npm, "ci", "--silent", "--ignore-scripts"], "npm could not install it", cwd=folder)
        (folder / ".installed").touch()
    for script in PEERS.glob("*.mjs"):
        shutil.copyfile(script, folder / script.name)
    return folder


def uwebsockets_folder() -> Path:
    folder = node_folder()
    _ran(
        ["node", "--input-type=module", "-e", "import '@btc-vision/uwebsockets.js'"],
        "its binary does not run here",
        cwd=folder,
    )
    return folder


def python_folder() -> Path:
    """An environment of its own, with the lock's packages: also what draws the curves."""
    done = VENV / ".installed"
    wanted = LOCK.read_text()
    if not done.exists() or done.read_text() != wanted:
        venv.create(VENV, with_pip=True, clear=True)
        pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _ran([*pip, "--require-hashes", "-r", str(LOCK)], "pip could not install it")
        done.write_text(wanted)
    return VENV


def go_folder() -> Path:
    folder = CACHE / f"centrifugo-{CENTRIFUGO}"
    if not (folder / "centrifugo").exists():
        go = shutil.which("go")
        if go is None:
            raise Skipped("there is no `go` here")
        folder.mkdir(parents=True, exist_ok=True)
        module = f"github.com/centrifugal/centrifugo/v6@{CENTRIFUGO}"
        env = os.environ | {"GOBIN": str(folder), "GOFLAGS": "-buildvcs=false"}
        _ran([go, "install", module], "go could not build it", within=900, env=env)
    return folder


def limit_folder() -> Path:
    return compiled(HERE / "limit" / "limit.c").parent


def _node(script: str) -> Callable[[Path, int, Path], Sequence[str]]:
    return lambda folder, port, files: ("node", f"{folder}/{script}.mjs", str(port))


def _limit(ms: int) -> Callable[[Path, int, Path], Sequence[str]]:
    return lambda folder, port, files: (f"{folder}/limit", str(port), str(ms))


def _centrifugo(broker: str) -> Callable[[Path, int, Path], Sequence[str]]:
    def command(folder: Path, port: int, files: Path) -> Sequence[str]:
        settings: dict[str, object] = {
            "http_server": {"address": "127.0.0.1", "port": str(port)},
            "client": {"insecure": True, "allowed_origins": ["*"]},
            "log": {"level": "error"},
        }
        if broker:
            settings["broker"] = {"enabled": True, "type": "nats", "nats": {"url": broker}}
        config = files / f"centrifugo-{port}.json"
        config.write_text(json.dumps(settings))
        return (f"{folder}/centrifugo", "-c", str(config))

    return command


def _nats(folder: Path, port: int, files: Path) -> Sequence[str]:
    config = files / f"nats-{port}.conf"
    config.write_text(
        f"listen: 127.0.0.1:{free_port()}\nwebsocket {{ host: 127.0.0.1, port: {port}, no_tls: true }}\n"
    )
    return (str(folder / "nats-server"), "-c", str(config))


def _python(folder: Path, port: int, files: Path) -> Sequence[str]:
    return (f"{folder}/bin/python", str(PEERS / "pysocketio.py"), str(port))


_EIO: Final = "/socket.io/?EIO=4&transport=websocket&"
JOINED: Final = "C, joined writes"
SINGLE: Final = "C, single sends"

ALL: Final = (
    Contestant(JOINED, limit_folder, _limit(8), WS, "/?"),
    Contestant(SINGLE, limit_folder, _limit(0), WS, "/?"),
    Contestant("Socket.IO", node_folder, _node("socketio"), SOCKETIO, _EIO, "socket.io"),
    Contestant("Node ws", node_folder, _node("ws"), WS, "/?", "ws"),
    Contestant("uWebSockets", uwebsockets_folder, _node("uws"), WS, "/?", "@btc-vision/uwebsockets.js"),
    Contestant(
        "Centrifugo", go_folder, _centrifugo(""), CENTRIFUGO_SPEAKS, "/connection/websocket?", CENTRIFUGO
    ),
    Contestant(
        "Centrifugo on NATS",
        go_folder,
        _centrifugo("nats"),
        CENTRIFUGO_SPEAKS,
        "/connection/websocket?",
        CENTRIFUGO,
    ),
    Contestant("nats-server", lambda: Path(sys.executable).parent, _nats, NATS_SPEAKS, "/?"),
    Contestant("python-socketio", python_folder, _python, SOCKETIO, _EIO, "python-socketio"),
)


class Peers:
    def __init__(self) -> None:
        self.versions = ""
        self._files = CACHE / "run"
        """What they write: configurations and logs of the last run."""
        self._folders: dict[str, Path] = {}

    def install(self, names: Iterable[str] | None = None) -> list[str]:
        """What cannot be had, with the reason."""
        shutil.rmtree(self._files, ignore_errors=True)
        self._files.mkdir(parents=True)
        missing = []
        for one in ALL:
            if names is None or one.name in names:
                try:
                    self._folders[one.name] = one.folder()
                except Skipped as why:
                    missing.append(f"{one.name}: {why}")
        self.versions = ", ".join(
            f"{one.name} {_version(one)}".strip() for one in ALL if one.name in self._folders
        )
        return missing

    @contextlib.asynccontextmanager
    async def running(self, cores: Cores, *names: str) -> AsyncIterator[list[Peer]]:
        """Those of them that are installed (no names: all), on the servers' core."""
        async with contextlib.AsyncExitStack() as stack:
            wanted = [one for one in ALL if one.name in self._folders and (not names or one.name in names)]
            yield [await stack.enter_async_context(self._one(one, cores)) for one in wanted]

    @contextlib.asynccontextmanager
    async def _one(self, one: Contestant, cores: Cores) -> AsyncIterator[Peer]:
        folder, port = self._folders[one.name], free_port()
        async with contextlib.AsyncExitStack() as stack:
            pids = []
            command = one.command
            if one.name.endswith("on NATS"):
                home = self._files / f"nats{port}"
                home.mkdir()
                with cores.servers():
                    broker = NatsServer(home)
                    await broker.start()
                stack.push_async_callback(broker.kill)
                assert broker._process is not None
                pids.append(broker._process.pid)
                command = _centrifugo(broker.url)
            said = open(self._files / f"peer{port}.log", "wb")  # noqa: ASYNC230, SIM115
            stack.callback(said.close)
            with cores.servers():
                process = await asyncio.create_subprocess_exec(
                    *command(folder, port, self._files),
                    cwd=folder,
                    env=os.environ | {"NODE_ENV": "production"},
                    stdout=said,
                    stderr=said,
                )
            stack.push_async_callback(_end, process)
            await listening(process, port)
            pids.append(process.pid)
            if "%s" in one.template:
                yield RoomPeer(one.name, one.template, port, one.path, pids, said=one.template)
            else:
                yield Peer(one.name, one.template, port, one.path, pids)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def listening(process: asyncio.subprocess.Process, port: int, within: float = 20) -> None:
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


def _version(one: Contestant) -> str:
    if one.folder in (node_folder, uwebsockets_folder):
        packages = json.loads((PEERS / "package-lock.json").read_bytes())["packages"]
        return str(packages[f"node_modules/{one.version}"]["version"])
    if one.folder is python_folder:
        line = next(line for line in LOCK.read_text().splitlines() if line.startswith(f"{one.version}=="))
        return line.split("==")[1].split()[0]
    return one.version
