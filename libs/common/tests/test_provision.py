"""Streams and buckets: made once, by whoever comes first, and changed only where the settings have."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import anyio
import nats.errors
import nats.js.errors
import pytest
from msgspec.structs import replace
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

from roundtable.common.config import Settings
from roundtable.common.eventlog_jetstream import JetStreamEventLog
from roundtable.common.provision import EPOCH, epochs, provision
from roundtable.common.snapshots import JetStreamSnapshots, Snapshot
from roundtable.common.testing.jetstream import connected, settings_for
from roundtable.common.testing.nats import NatsServer, nats_server

LOGS = {"CANVAS", "PRESENCE", "ACTIVITY"}


class World(NamedTuple):
    server: NatsServer
    client: Client
    settings: Settings


@asynccontextmanager
async def bare() -> AsyncIterator[World]:
    with anyio.fail_after(20):
        async with nats_server() as server, connected(server) as client:
            yield World(server, client, settings_for(server))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with bare() as world:
        yield world


@pytest.fixture(autouse=True)
def quiet(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    capsys.readouterr()


class Updates:
    """Which streams were asked to be changed."""

    def __init__(self) -> None:
        self.streams: list[str] = []

    async def listen(self, client: Client) -> None:
        async def note(message: Msg) -> None:
            self.streams.append(message.subject.rpartition(".")[2])

        await client.subscribe("$JS.API.STREAM.UPDATE.*", cb=note)
        await client.flush()


async def configs(client: Client) -> dict[str, StreamConfig]:
    return {info.config.name or "": info.config for info in await client.jetstream().streams_info()}


async def test_a_bare_server_gets_all_that_is_needed(world: World) -> None:
    await provision(world.client, world.settings)
    found = await configs(world.client)
    assert set(found) >= LOGS
    buckets = {f"KV_rt_{name.lower()}_snapshots" for name in LOGS} | {
        f"OBJ_rt_{name.lower()}_large" for name in LOGS
    }
    assert set(found) - LOGS == buckets | {"KV_rt_gateways", "KV_rt_sessions"}
    for name in LOGS:
        assert found[name].subjects == [f"rt.evt.{name.lower()}.*"]
        assert found[name].deny_delete
        assert not found[name].max_age
    log, snapshots = JetStreamEventLog(world.client, "canvas"), JetStreamSnapshots(world.client, "canvas")
    assert await log.append("room", b"x", 0) == 1
    await snapshots.save("room", Snapshot(1, []))


@pytest.mark.rule("RS4")
async def test_what_is_stored_is_told_to_the_gateways_with_its_sequence_and_the_one_before(
    world: World,
) -> None:
    await provision(world.client, world.settings)
    told: asyncio.Queue[Msg] = asyncio.Queue()
    await world.client.subscribe("rt.out.*.room", cb=told.put)
    log = JetStreamEventLog(world.client, "activity")
    first = await log.append("room", b"a", 0)
    await log.append("other", b"b", 0)
    second = await log.append("room", b"c", first)
    for seq, before, payload in ((first, 0, b"a"), (second, first, b"c")):
        message = await told.get()
        assert message.subject == "rt.out.activity.room"
        assert message.data == payload
        assert message.headers is not None
        assert message.headers["Nats-Sequence"] == str(seq)
        assert message.headers["Nats-Last-Sequence"] == str(before)


async def test_doing_it_again_changes_nothing(world: World) -> None:
    await provision(world.client, world.settings)
    before, known, updates = await configs(world.client), await epochs(world.client), Updates()
    await updates.listen(world.client)
    await JetStreamEventLog(world.client, "canvas").append("room", b"x", 0)
    for _ in range(2):
        await provision(world.client, world.settings)
    assert await configs(world.client) == before
    assert await epochs(world.client) == known
    assert updates.streams == []
    assert await JetStreamEventLog(world.client, "canvas").last("room") == 1


async def test_many_at_once_make_one_thing_and_know_the_same_epochs(world: World) -> None:
    async def start() -> tuple[str, ...]:
        async with connected(world.server) as client:
            await provision(client, world.settings)
            return await epochs(client)

    known = await asyncio.gather(*(start() for _ in range(6)))
    assert len(set(known)) == 1
    assert len(set(known[0])) == 3
    assert all(known[0])


async def test_every_making_of_a_log_has_an_epoch_of_its_own(world: World) -> None:
    await provision(world.client, world.settings)
    before = await epochs(world.client)
    await world.client.jetstream().delete_stream("PRESENCE")
    with pytest.raises(nats.errors.Error):
        await epochs(world.client)
    await provision(world.client, world.settings)
    after = await epochs(world.client)
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


async def test_a_new_retention_is_taken_over_and_what_an_operator_has_set_stays(world: World) -> None:
    await provision(world.client, world.settings)
    jetstream, known, updates = world.client.jetstream(), await epochs(world.client), Updates()
    config = (await jetstream.stream_info("CANVAS")).config
    config.max_bytes, config.description = 10**9, "by hand"
    config.metadata = {**(config.metadata or {}), "owner": "ops"}
    await jetstream.update_stream(config)
    await updates.listen(world.client)
    for days, changed in ((0, []), (7, sorted(LOGS)), (7, []), (0, sorted(LOGS))):
        updates.streams.clear()
        await provision(world.client, replace(world.settings, retention_days=days))
        assert sorted(updates.streams) == changed
        found = await configs(world.client)
        assert {found[name].max_age or 0 for name in LOGS} == {days * 86_400}
        assert (found["CANVAS"].max_bytes, found["CANVAS"].description) == (10**9, "by hand")
        assert (found["CANVAS"].metadata or {})["owner"] == "ops"
        assert await epochs(world.client) == known


async def test_a_stream_that_others_have_made_keeps_its_events_and_gets_what_it_lacks(world: World) -> None:
    jetstream = world.client.jetstream()
    await jetstream.add_stream(StreamConfig("CANVAS", subjects=["rt.evt.canvas.*"]))
    log = JetStreamEventLog(world.client, "canvas")
    await log.append("room", b"x", 0)
    await asyncio.gather(*(provision(world.client, world.settings) for _ in range(3)))
    assert [message.payload for message in await log.read("room", 0)] == [b"x"]
    found = (await configs(world.client))["CANVAS"]
    assert found.allow_direct
    assert found.republish is not None
    assert (found.metadata or {})[EPOCH] == (await epochs(world.client))[0]


async def test_more_copies_than_there_are_servers_are_refused_in_words(world: World) -> None:
    with pytest.raises(nats.errors.Error, match="replicas"):
        await provision(world.client, replace(world.settings, replicas=3))


async def test_nothing_is_made_under_a_name_whose_subjects_are_taken(world: World) -> None:
    await world.client.jetstream().add_stream(StreamConfig("OTHER", subjects=["rt.evt.>"]))
    with pytest.raises(nats.js.errors.BadRequestError, match="overlap"):
        await provision(world.client, world.settings)


async def test_without_an_answer_it_fails_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roundtable.common.provision.ANSWER_TIMEOUT", 0.3)
    async with bare() as world:
        await world.server.kill()
        with anyio.fail_after(2), pytest.raises((nats.errors.Error, OSError)):
            await provision(world.client, world.settings)


# Permissions


USERS = json.dumps(
    {
        "users": [
            {"user": "admin", "password": "admin"},
            {
                "user": "canvas",
                "password": "canvas",
                "permissions": {"publish": {"deny": ["$JS.API.STREAM.CREATE.>", "$JS.API.STREAM.UPDATE.>"]}},
            },
        ]
    }
)


async def test_a_service_that_may_create_nothing_waits_for_whoever_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from roundtable.common import runtime

    monkeypatch.setattr("roundtable.common.provision.ANSWER_TIMEOUT", 0.2)
    with anyio.fail_after(20):
        async with nats_server(extra=f"authorization {USERS}") as server:
            settings = replace(settings_for(server), nats_user="canvas", nats_password="canvas")
            client = await runtime.connect(settings, "canvas")
            admin = await runtime.connect(
                replace(settings, nats_user="admin", nats_password="admin"), "provision"
            )
            waiting = asyncio.create_task(runtime._provisioned(runtime.Process("canvas", settings, client)))
            done, _ = await asyncio.wait((waiting,), timeout=1)
            assert not done
            await provision(admin, settings)
            await waiting
            # And one that is started later, when all is there, does not wait.
            await runtime._provisioned(runtime.Process("canvas", settings, client))
            await client.close()
            await admin.close()
