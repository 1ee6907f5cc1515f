"""`make run` as a person meets it: the real programs, started, used, shot at, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

STROKE = {
    "type": "draw",
    "tool": "pen",
    "color": "#c33",
    "size": 4,
    "points": [{"x": 1, "y": 2}, {"x": 3, "y": 4}],
}
READY_WITHIN = 60.0


class Run:
    """One `make run` on free ports, with all that it printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while data := await self.process.stdout.read(1 << 16):
            self.output += data.decode()

    async def until(self, holds: Callable[[], object], within: float = 10.0) -> None:
        try:
            async with asyncio.timeout(within):
                while not holds():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"waited {within} s in vain; the output ends with\n{self.output[-4_000:]}")

    async def ready(self) -> None:
        await self.until(lambda: "Ctrl-C" in self.output or self.process.returncode is not None, READY_WITHIN)
        assert self.process.returncode is None, self.output

    @property
    def port(self) -> int:
        match = re.search(r"http://localhost:(\d+)/", self.output)
        assert match is not None
        return int(match[1])

    def children(self) -> dict[str, int]:
        """Process ids of the programs, by their last argument: `roundtable.canvas`."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                words = (path / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if parent == self.process.pid and words[0]:
                found["nats" if "nats-server" in words[0] else words[-2]] = int(path.name)
        return found

    def has_another(self, program: str, pid: int) -> bool:
        return self.children().get(program, pid) != pid

    async def serves(self) -> None:
        """Returns when the gateway is ready and gives the page."""
        async with httpx.AsyncClient(base_url=f"http://localhost:{self.port}") as http, asyncio.timeout(30):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get("/readyz")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
            page = await http.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")

    async def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        async with asyncio.timeout(15):
            status = await self.process.wait()
            await self._reading
        return status

    async def ask(self, method: str, params: dict[str, Any], request: str = "1") -> dict[str, Any]:
        """The reply's `data`. Tries again, with the same id, while a service is on its way back."""
        async with asyncio.timeout(20):
            while True:
                async with connect(f"ws://127.0.0.1:{self.port}/?room=lobby") as ws:
                    message = {"type": "request", "id": request, "method": method, "params": params}
                    await ws.send(json.dumps(message))
                    async for text in ws:
                        reply = json.loads(text)
                        if reply.get("id") == request and reply["type"] == "response":
                            data: dict[str, Any] = reply["data"]
                            return data
                        if reply.get("id") == request:
                            assert reply["error"]["reason"] == "unavailable", reply
                            break


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def environment(data: Path, **settings: str) -> dict[str, str]:
    given = {key: value for key, value in os.environ.items() if not key.startswith("ROUNDTABLE_")}
    ports = {"ROUNDTABLE_HTTP_PORT": "0", "ROUNDTABLE_NATS_PORT": "0"}
    return {**given, **ports, "ROUNDTABLE_DATA_DIR": str(data), **settings}


@asynccontextmanager
async def started(data: Path, **settings: str) -> AsyncIterator[Run]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roundtable.common.localrun"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment(data, **settings),
        start_new_session=True,
    )
    run = Run(process)
    try:
        yield run
    finally:
        if process.returncode is None:
            await run.end(signal.SIGKILL)


async def test_a_table_is_served_survives_kills_and_keeps_its_data(tmp_path: Path) -> None:
    async with started(tmp_path) as run:
        await run.ready()
        await run.serves()
        first = run.children()
        services = {f"roundtable.{name}" for name in ("gateway", "canvas", "presence", "activity")}
        assert first.keys() == {"nats", *services}
        await run.ask("canvas.draw", {"operations": [{**STROKE, "id": "one"}]})

        for victim in ("roundtable.canvas", "nats", "roundtable.gateway"):
            os.kill(first[victim], signal.SIGKILL)
            await run.until(partial(run.has_another, victim, first[victim]))
        await run.serves()
        await run.ask("canvas.draw", {"operations": [{**STROKE, "id": "two"}]}, request="2")

        last = run.children()
        secret = (tmp_path / "jwt-secret").read_text().strip()
        assert await run.end(signal.SIGINT) == 0
        assert all(gone(pid) for pid in {*first.values(), *last.values()})
        assert secret not in run.output
        assert "\x1b" not in run.output  # not a terminal: no colours

    async with started(tmp_path) as run:
        await run.ready()
        state = await run.ask("canvas.state", {}, request="3")
        assert [operation["id"] for operation in state["operations"]] == ["one", "two"]
        assert await run.end(signal.SIGTERM) == 0


async def test_nothing_is_left_when_the_runner_is_killed(tmp_path: Path) -> None:
    async with started(tmp_path) as run:
        await run.until(lambda: len(run.children()) == 5, READY_WITHIN)
        children = run.children()
        await run.end(signal.SIGKILL)
        await run.until(lambda: all(gone(pid) for pid in children.values()))


@pytest.mark.parametrize("variable", ["ROUNDTABLE_HTTP_PORT", "ROUNDTABLE_NATS_PORT"])
async def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with started(tmp_path, **{variable: str(port)}) as run, asyncio.timeout(10):
            assert await run.process.wait() == 2
            await run.until(lambda: f"port {port} is in use" in run.output and variable in run.output)


async def test_a_wrong_setting_is_told_by_its_name(tmp_path: Path) -> None:
    async with started(tmp_path, ROUNDTABLE_TICK_MS="soon") as run:
        async with asyncio.timeout(READY_WITHIN):
            assert await run.process.wait() == 2
        await run.until(lambda: "ROUNDTABLE_TICK_MS" in run.output)
