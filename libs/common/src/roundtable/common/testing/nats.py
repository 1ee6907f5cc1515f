"""Test layer: a real nats-server of one's own: started, killed, frozen, started again on the same port and store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_CONFIG = """
server_name: "{name}"
listen: "127.0.0.1:{port}"
http: "127.0.0.1:-1"
ports_file_dir: "{home}"
log_file: "{home}/server.log"
max_payload: 4MB
jetstream {{
  store_dir: "{home}/store"
  max_mem: 256MB
  max_file: 4GB
  {jetstream}
}}
{extra}
"""


def free_port() -> int:
    """A port for a server that may be started again: not one that the system gives to outgoing connections meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def binary() -> str:
    """The nats-server of the environment, else of the machine."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside if beside.exists() else shutil.which("nats-server") or beside)


class NatsServer:
    """One server with JetStream on 127.0.0.1. It is always the same port, and the same store.

    `extra` is added to the server's configuration (accounts, permissions), `jetstream` to its `jetstream` block: by
    default the store is synced to disk as the server likes, which a killed process survives and a power cut does not.
    """

    def __init__(self, home: Path, *, extra: str = "", jetstream: str = "") -> None:
        self.home = home
        self.port = free_port()
        self._extra = extra
        self._jetstream = jetstream
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        path = self.home / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def start(self, *, within: float = 10.0) -> None:
        """Returns when clients can connect. Raises RuntimeError, with the end of the server's log, if that is not soon."""
        if self.running:
            raise RuntimeError("the server runs already")
        config = self.home / "server.conf"
        config.write_text(
            _CONFIG.format(
                name=self.home.name,
                port=self.port,
                home=self.home,
                extra=self._extra,
                jetstream=self._jetstream,
            )
        )
        self._process = subprocess.Popen(
            [binary(), "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            await asyncio.wait_for(self._ready(), within)
        except (TimeoutError, ChildProcessError):
            await self.kill()
            raise RuntimeError(f"nats-server did not start:\n{self.log()[-2_000:]}") from None

    async def _ready(self) -> None:
        assert self._process is not None
        ports = self.home / f"nats-server_{self._process.pid}.ports"
        while self._process.poll() is None:
            try:
                self.port = int(json.loads(ports.read_text())["nats"][0].rpartition(":")[2])
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                hello = await reader.readline()
                writer.close()
                if b'"jetstream":true' in hello:
                    return
            except (OSError, ValueError, KeyError, IndexError):
                pass
            await asyncio.sleep(0.005)
        raise ChildProcessError

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends the server and waits for it; nothing happens if none runs."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
            try:
                await asyncio.to_thread(process.wait, 10)
            except subprocess.TimeoutExpired:
                process.kill()
        await asyncio.to_thread(process.wait)
        (self.home / f"nats-server_{process.pid}.ports").unlink(missing_ok=True)

    async def kill(self) -> None:
        """As a crash does: SIGKILL."""
        await self.stop(signal.SIGKILL)

    async def restart(self, *, crash: bool = True) -> None:
        await (self.kill() if crash else self.stop())
        await self.start()

    def freeze(self) -> None:
        """The server stands still but its connections stay open, as behind a dead network. `thaw` ends it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def nats_server(*, extra: str = "", jetstream: str = "") -> AsyncIterator[NatsServer]:
    """A running server with an empty store, gone with all its files at the end."""
    with tempfile.TemporaryDirectory(prefix="roundtable-nats-", ignore_cleanup_errors=True) as folder:
        server = NatsServer(Path(folder), extra=extra, jetstream=jetstream)
        await server.start()
        try:
            yield server
        finally:
            await server.kill()
