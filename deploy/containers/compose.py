"""Shell layer: docker-compose.yml started by podman-compose, and used: `python -m deploy.containers.compose`. As root.

NATS and the four programs, two canvas replicas; Prometheus, Alertmanager and Grafana come from registries alone and are left
out. Needs the images of `images`; what it starts is gone afterwards, volumes too.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from roundtable.common.testing.nats import free_port
from roundtable.common.testing.players import PollPlayer, SSEPlayer, WebSocketPlayer, token

from .. import envfile
from .podman import Podman, PodmanFailed
from .pods import get

ROOT: Final = Path(__file__).resolve().parents[2]
STARTED: Final = ("nats", "provision", "canvas", "presence", "activity", "gateway")
HEALTHY: Final = ("nats_1", "canvas_1", "canvas_2", "presence_1", "activity_1", "gateway_1")
READY_WITHIN: Final = 90.0


class Compose:
    """A project of its own, with secrets of its own. Use as an asynchronous context manager."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port: Final = free_port()
        self.project: Final = f"roundtable-{secrets.token_hex(3)}"
        self.podman: Final = Podman()
        file = folder / "env"
        envfile.complete(file)
        self.secret: Final = next(
            line.partition("=")[2]
            for line in file.read_text(encoding="utf-8").splitlines()
            if line.startswith("ROUNDTABLE_JWT_SECRET=")
        )
        with file.open("a", encoding="utf-8") as more:
            more.write(f"ROUNDTABLE_HTTP_PORT={self.port}\n")
        self._command = [program, "--project-name", self.project, "--env-file", str(file)]

    async def __aenter__(self) -> Compose:
        try:
            await self.run("up", "--detach", "--scale", "canvas=2", *STARTED)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.run("down", "--volumes", "--remove-orphans")

    async def run(self, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._command, *arguments,
            cwd=ROOT, env=self.podman.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{arguments[0]} ended with {process.returncode}: {out.decode()[-2000:]}")

    async def ready(self) -> None:
        async with asyncio.timeout(READY_WITHIN):
            while await get("127.0.0.1", self.port, "/readyz", 5) != 200:
                await asyncio.sleep(0.2)

    def token(self, user: str) -> str:
        return token(user, key=self.secret)


async def healthy(compose: Compose, container: str) -> None:
    """By its own check, which a machine without systemd does not make by itself; as often as the file lets it fail."""
    for left in (2, 1, 0):
        try:
            await compose.podman("healthcheck", "run", container)
            return
        except PodmanFailed:
            if not left:
                raise


async def used(compose: Compose) -> None:
    """Drawn over one transport, seen over the others, the same after a restart of everything."""
    http, ws = f"http://127.0.0.1:{compose.port}", f"ws://127.0.0.1:{compose.port}"
    ann = WebSocketPlayer(ws, "ann", token=compose.token("ann"))
    await ann.connect()
    await ann.request("canvas.draw", {"operations": [STROKE]}, wait=20)
    bob = SSEPlayer(http, "bob", token=compose.token("bob"))
    await bob.connect()
    assert len((await bob.snapshots())["canvas"]) == 1
    await bob.request("activity.post", {"type": "dice_roll", "data": {"expression": "2d6"}}, wait=20)
    await ann.event("activity.post", lambda data: data["type"] == "dice_roll", wait=20)
    await ann.close()
    await bob.close()
    await compose.run("restart", "nats", "canvas", "presence", "activity", "gateway")
    await compose.ready()
    cyd = PollPlayer(http, "cyd", token=compose.token("cyd"))
    await cyd.connect()
    assert len((await cyd.snapshots())["canvas"]) == 1
    await cyd.close()


STROKE: Final = {"type": "draw", "tool": "pen", "color": "#c33", "size": 3, "points": [{"x": 1, "y": 2}]}


async def main(program: str) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="roundtable-compose-") as folder:
        async with Compose(program, Path(folder)) as compose:
            await compose.ready()
            for name in HEALTHY:
                await healthy(compose, f"{compose.project}_{name}")
            await used(compose)
    print(
        f"compose: {', '.join(STARTED)} ran, were healthy, and kept what was drawn ({time.monotonic() - began:.0f} s)"
    )
    return 0


if __name__ == "__main__":
    if os.geteuid() or len(sys.argv) != 2:
        sys.exit("usage, as root: python -m deploy.containers.compose PODMAN-COMPOSE")
    sys.exit(asyncio.run(main(sys.argv[1])))
