"""How a nats-server leaves, as deploy/k8s/base/nats makes it: a lame duck first, and no SIGTERM hurries it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import nats

from roundtable.common.testing.nats import binary, nats_server

CONF = Path(__file__).parents[2] / "deploy/k8s/base/nats/nats.conf"


async def test_a_lame_duck_tells_its_clients_and_outlives_the_signal_that_follows() -> None:
    """Kubernetes runs preStop, and when that returns sends SIGTERM: by itself that would cut every client off."""
    leaving = "\n".join(re.findall(r"^lame_duck.*", CONF.read_text(), re.MULTILINE))
    assert "lame_duck_duration" in leaving
    async with nats_server(extra=leaving) as server:
        told = asyncio.Event()

        async def on_lame_duck() -> None:
            told.set()

        client = await nats.connect(server.url, lame_duck_mode_cb=on_lame_duck)
        pid = next(server.home.glob("nats-server_*.ports")).stem.partition("_")[2]
        order = await asyncio.create_subprocess_exec(binary(), "--signal", f"ldm={pid}")
        assert await order.wait() == 0
        async with asyncio.timeout(5):
            await told.wait()
        os.kill(int(pid), signal.SIGTERM)
        async with asyncio.timeout(5):
            while '"terminated"' not in server.log():
                await asyncio.sleep(0.01)
        await client.flush(timeout=5)
        assert server.running
        await client.close()
