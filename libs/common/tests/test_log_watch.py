"""What a service tells of its log and of the store, from a real nats-server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import nats
import pytest
from nats.aio.client import Client
from prometheus_client import CollectorRegistry

from roundtable.common import provision, subjects
from roundtable.common.config import Settings
from roundtable.common.eventlog import LogFull
from roundtable.common.eventlog_jetstream import JetStreamEventLog
from roundtable.common.log_watch import LogMetrics, LogWatch
from roundtable.common.testing.nats import NatsServer, nats_server

pytestmark = pytest.mark.rule("OP1")

LIMITED = """
accounts { APP { jetstream: { max_file: 64MB }, users: [ { user: app, password: app } ] } }
no_auth_user: app
"""


class Watched:
    def __init__(self, server: NatsServer, client: Client) -> None:
        self.server, self.client, self.registry = server, client, CollectorRegistry()
        self.watch = LogWatch(client, "canvas", LogMetrics(self.registry), every=0.05)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"roundtable_{name}", labels)


@asynccontextmanager
async def watched(extra: str = "") -> AsyncIterator[Watched]:
    async with nats_server(extra=extra) as server:
        client = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
        try:
            await provision.provision(client, Settings())
            yield Watched(server, client)
        finally:
            await client.close()


async def test_a_healthy_log_has_a_leader_and_all_its_copies() -> None:
    async with watched() as it:
        await it.client.jetstream().publish(subjects.events("canvas", "den"), b"{}")
        await it.watch.look()
        assert it.value("log_leader") == 1
        assert it.value("log_replicas", state="wanted") == 1
        assert it.value("log_replicas", state="current") == 1
        assert it.value("log_messages") == 1
        assert (it.value("log_bytes") or 0) > 0
        assert (it.value("jetstream_storage_bytes") or 0) > 0
        assert it.value("jetstream_storage_limit_bytes") == 0


async def test_the_limit_of_the_account_is_told() -> None:
    async with watched(LIMITED) as it:
        await it.watch.look()
        assert it.value("jetstream_storage_limit_bytes") == 64 * 2**20


async def test_an_account_that_is_full_takes_no_append_and_says_why() -> None:
    async with watched(LIMITED) as it:
        eventlog = JetStreamEventLog(it.client, "canvas")

        async def fill() -> None:
            for seq in range(100):
                await eventlog.append(f"room{seq}", b"x" * 2**20, 0)

        with pytest.raises(LogFull, match="limits exceeded"):
            await fill()
        await it.watch.look()
        used, limit = it.value("jetstream_storage_bytes"), it.value("jetstream_storage_limit_bytes")
        assert used is not None
        assert limit is not None
        assert used > 0.9 * limit


async def test_a_server_that_does_not_answer_leads_no_log_until_it_is_back() -> None:
    async with watched() as it:

        async def until(led: float) -> None:
            with anyio.fail_after(20):
                while it.value("log_leader") != led:
                    await anyio.sleep(0.01)

        it.watch.start()
        await until(1)
        await it.server.kill()
        await until(0)
        await it.server.start()
        await until(1)
        await it.watch.stop()
