"""Testing layer: a nats-server with our streams and buckets, and connections to it as our processes make them."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import nats.errors
from nats.aio.client import Client
from prometheus_client import CollectorRegistry

from roundtable.common.config import Settings
from roundtable.common.provision import provision
from roundtable.common.runtime import connect
from roundtable.common.telemetry import ServiceMetrics

from .nats import NatsServer, nats_server


def settings_for(server: NatsServer) -> Settings:
    return Settings(nats_url=server.url, instance="test", start_timeout=10.0)


@asynccontextmanager
async def connected(server: NatsServer, name: str = "test") -> AsyncIterator[Client]:
    """A connection, closed at the end whatever has become of the server."""
    client = await connect(settings_for(server), name)
    try:
        yield client
    finally:
        with contextlib.suppress(OSError):
            await client.close()


async def provisioned(server: NatsServer) -> None:
    async with connected(server) as client:
        await provision(client, settings_for(server))


@asynccontextmanager
async def provisioned_server() -> AsyncIterator[NatsServer]:
    """One of one's own, to be stopped and started."""
    async with nats_server() as server:
        await provisioned(server)
        yield server


@contextmanager
def shared_server() -> Iterator[NatsServer]:
    """For many tests, each in its own event loop and with rooms of its own; nobody stops it."""
    with tempfile.TemporaryDirectory(prefix="roundtable-nats-", ignore_cleanup_errors=True) as folder:
        server = NatsServer(Path(folder))
        asyncio.run(server.start())
        try:
            asyncio.run(provisioned(server))
            yield server
        finally:
            asyncio.run(server.kill())


async def freeze(server: NatsServer, client: Client) -> None:
    """When it returns, the server stands still, and the client's connection is open. `thaw` ends it."""
    server.freeze()
    with contextlib.suppress(nats.errors.TimeoutError):
        while True:
            await client.flush(timeout=0.1)  # type: ignore[arg-type]


def metrics() -> ServiceMetrics:
    return ServiceMetrics(CollectorRegistry())
