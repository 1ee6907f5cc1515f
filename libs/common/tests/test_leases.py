"""Leases on a real nats-server: what ends one, what does not, and who gets to know."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import nats
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.js.api import KeyValueConfig

from roundtable.common import leases
from roundtable.common.leases import GatewayLease, GatewayLeases, LeasesUnavailable, provision_leases
from roundtable.common.subjects import GATEWAYS_BUCKET
from roundtable.common.testing.nats import NatsServer, nats_server

pytestmark = pytest.mark.rule("PR2")


async def _ignore(*_: Any) -> None:
    pass


@asynccontextmanager
async def connected(server: NatsServer) -> AsyncIterator[Client]:
    client = await nats.connect(
        server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=_ignore, connect_timeout=1
    )
    try:
        yield client
    finally:
        with contextlib.suppress(ConnectionError):
            await client.close()


@asynccontextmanager
async def bucket() -> AsyncIterator[tuple[NatsServer, Client]]:
    with anyio.fail_after(20):
        async with nats_server() as server, connected(server) as client:
            await provision_leases(client.jetstream(), 1)
            yield server, client


class Losses:
    """What a gateway is told of losses."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def __call__(self, new_id: str) -> None:
        self.ids.append(new_id)


def lease_of(
    client: Client, on_lost: Losses | None = None, *, ttl: int = 1, renew_every: float = 0.2
) -> GatewayLease:
    return GatewayLease(client, "gw-0.local", on_lost or Losses(), ttl=ttl, renew_every=renew_every)


async def until(holds: Callable[[], bool], within: float = 5.0) -> None:
    with anyio.fail_after(within):
        while not holds():
            await asyncio.sleep(0.01)


async def until_live(client: Client, wanted: set[str], within: float = 5.0) -> None:
    with anyio.fail_after(within):
        while True:
            try:
                if await GatewayLeases(client).live_gateways() == wanted:
                    return
            except LeasesUnavailable:
                pass
            await asyncio.sleep(0.02)


async def test_an_acquired_lease_is_live_at_once_and_a_released_one_is_not() -> None:
    async with bucket() as (_, client):
        ended: list[str] = []
        watch = GatewayLeases(client)
        await watch.watch_expiry(ended.append)
        lease, other = lease_of(client), lease_of(client)
        name, second = await lease.acquire(), await other.acquire()
        assert name != second
        assert await watch.live_gateways() == {name, second}
        assert [lease.alive, other.alive] == [True, True]
        await lease.release()
        assert await watch.live_gateways() == {second}
        assert [lease.alive, other.alive] == [False, True]
        await until(lambda: ended == [name])
        await other.release()


async def test_a_lease_outlives_its_time_to_live_by_renewal() -> None:
    async with bucket() as (_, client):
        losses = Losses()
        lease = lease_of(client, losses)
        name = await lease.acquire()
        await asyncio.sleep(1.5)
        assert await GatewayLeases(client).live_gateways() == {name}
        assert (lease.alive, losses.ids) == (True, [])
        await lease.release()


async def test_a_gateway_that_dies_without_a_word_is_reported_and_no_longer_live() -> None:
    async with bucket() as (server, client):
        ended: list[str] = []
        await GatewayLeases(client).watch_expiry(ended.append)
        async with connected(server) as doomed:
            lease = lease_of(doomed)
            name = await lease.acquire()
            assert lease._keeping is not None
            lease._keeping.cancel()
        died = time.monotonic()
        await until(lambda: ended == [name], within=3)
        assert time.monotonic() - died < 2
        # The marker that it left is a message in the stream too.
        assert (await client.jetstream().stream_info(leases.STREAM)).state.messages == 1
        assert await GatewayLeases(client).live_gateways() == frozenset()


async def test_a_short_restart_of_nats_ends_no_lease() -> None:
    async with bucket() as (server, client):
        losses = Losses()
        lease = lease_of(client, losses, ttl=5)
        name = await lease.acquire()
        await server.restart()
        renewed = lease._sure_until
        await until(lambda: lease._sure_until > renewed)
        await until_live(client, {name})
        assert (lease.id, losses.ids) == (name, [])
        await lease.release()


async def test_after_a_long_absence_of_nats_the_gateway_has_one_live_lease_and_knows_which() -> None:
    async with bucket() as (server, client):
        losses = Losses()
        lease = lease_of(client, losses)
        name = await lease.acquire()
        await server.kill()
        await asyncio.sleep(1.3)
        assert not lease.alive
        await server.start()
        back = time.monotonic()
        await until(lambda: lease.alive)
        assert time.monotonic() - back < 1.5
        # Whoever is faster after the start, the renewal or the server's clean-up: what was told is what holds.
        await asyncio.sleep(0.5)
        assert losses.ids == ([] if lease.id == name else [lease.id])
        await until_live(client, {lease.id})
        await lease.release()


async def test_a_process_that_stood_still_too_long_takes_a_new_lease() -> None:
    async with bucket() as (_, client):
        losses = Losses()
        lease = lease_of(client, losses)
        name = await lease.acquire()
        time.sleep(1.4)  # noqa: ASYNC251 - nothing of this process runs, as under SIGSTOP
        await until(lambda: losses.ids != [])
        assert losses.ids == [lease.id]
        assert await GatewayLeases(client).live_gateways() == {lease.id}
        assert lease.id != name
        await lease.release()


async def test_a_bucket_made_anew_means_a_new_lease() -> None:
    async with bucket() as (_, client):
        losses = Losses()
        lease = lease_of(client, losses, ttl=5)
        name = await lease.acquire()
        await client.jetstream().delete_stream(leases.STREAM)
        await provision_leases(client.jetstream(), 1)
        await until(lambda: losses.ids != [])
        assert lease.id != name
        await until_live(client, {lease.id})
        await lease.release()


async def test_a_write_of_its_own_whose_answer_was_lost_ends_no_lease() -> None:
    async with bucket() as (_, client):
        losses = Losses()
        lease = lease_of(client, losses, ttl=5)
        name = await lease.acquire()
        renewed = await leases._publish(client, name, b"", {"Nats-TTL": "5s"})
        await until(lambda: lease._seq > renewed)
        assert (lease.id, losses.ids) == (name, [])
        await lease.release()


async def test_a_write_that_comes_too_late_does_not_bring_a_dead_lease_back() -> None:
    async with bucket() as (_, client):
        lease = lease_of(client)
        name = await lease.acquire()
        assert lease._keeping is not None
        lease._keeping.cancel()
        await until_live(client, set())
        late = {"Nats-TTL": "10s", "Nats-Expected-Last-Subject-Sequence": str(lease._seq)}
        with pytest.raises(leases._Superseded):
            await leases._publish(client, name, b"", late)
        assert await GatewayLeases(client).live_gateways() == frozenset()


async def test_a_gateway_that_fails_to_open_its_presence_again_keeps_its_lease() -> None:
    async with bucket() as (_, client):
        told: list[str] = []

        async def on_lost(new_id: str) -> None:
            told.append(new_id)
            raise RuntimeError("no")

        lease = GatewayLease(client, "gw", on_lost, ttl=5, renew_every=0.1)
        await lease.acquire()
        for losses in (1, 2):
            await client.jetstream().delete_stream(leases.STREAM)
            await provision_leases(client.jetstream(), 1)
            await until(lambda: len(told) == losses)  # noqa: B023
        assert told[-1] == lease.id
        await lease.release()


async def test_a_lease_waits_for_a_bucket_that_is_not_there_yet_but_not_for_ever() -> None:
    with anyio.fail_after(20):
        async with nats_server() as server, connected(server) as client:
            with pytest.raises(TimeoutError, match="no lease"):
                await lease_of(client).acquire(within=0.1)
            lease = lease_of(client)
            waiting = asyncio.create_task(lease.acquire(within=5))
            await provision_leases(client.jetstream(), 1)
            assert await waiting == lease.id
            await lease.release()


async def test_who_lives_is_not_said_when_nobody_can_know() -> None:
    async with bucket() as (server, client):
        await client.jetstream().delete_stream(leases.STREAM)
        with pytest.raises(LeasesUnavailable):
            await GatewayLeases(client).live_gateways()
        await server.kill()
        with pytest.raises(LeasesUnavailable):
            await GatewayLeases(client).live_gateways()


async def test_provisioning_is_idempotent_and_mends_a_bucket_of_another_shape() -> None:
    with anyio.fail_after(20):
        async with nats_server() as server, connected(server) as client:
            jetstream = client.jetstream()
            await jetstream.create_key_value(KeyValueConfig(GATEWAYS_BUCKET))
            for _ in range(2):
                await provision_leases(jetstream, 1)
                there = (await jetstream.stream_info(leases.STREAM)).config
                wanted = leases.bucket_config(1)
                assert there.republish == wanted.republish
                assert (there.allow_msg_ttl, there.subject_delete_marker_ttl) == (True, leases.MARKER_TTL)
                assert there.allow_direct is False
            lease = lease_of(client)
            name = await lease.acquire()
            assert await GatewayLeases(client).live_gateways() == {name}
            await lease.release()


@given(st.text(max_size=80))
def test_any_instance_name_makes_a_valid_key(instance: str) -> None:
    lease = GatewayLease(Client(), instance, Losses())
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,48}\.[0-9a-f]{8}", lease.id)
