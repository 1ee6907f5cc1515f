"""Gateway's side and service's side together, on a real nats-server: every command is answered soon, and takes effect once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from random import Random
from typing import Any

import anyio
import msgspec
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from roundtable.common import command_client, command_handler, membership, subjects
from roundtable.common.command_client import PATIENCE, CommandClient
from roundtable.common.command_handler import CommandHandler
from roundtable.common.command_service import PART_BYTES, CommandService, parts_of
from roundtable.common.eventlog_jetstream import JetStreamEventLog
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage, ReplyMessage
from roundtable.common.sharding import PARTITIONS, partition_of
from roundtable.common.snapshots import JetStreamSnapshots
from roundtable.common.telemetry import ServiceMetrics
from roundtable.common.testing.jetstream import connected, metrics, provisioned_server
from roundtable.common.testing.nats import NatsServer
from roundtable.common.testing.toy import ToyDomain, command, did, put, words

_numbers = count()
STALL = 2.5
"""Seconds for what takes less than one; the rest is for a machine that does other work too."""


class Replica:
    """A service in this process, with a connection of its own."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.metrics: ServiceMetrics = metrics()
        log, snapshots = JetStreamEventLog(client, "canvas"), JetStreamSnapshots(client, "canvas")
        self.handler: CommandHandler[Any, Any, Any] = CommandHandler(
            ToyDomain(), log, snapshots, self.metrics
        )
        self.service = CommandService(client, "canvas", "replica", self.handler, self.metrics)
        self.running = False

    async def start(self) -> None:
        self.handler.start()
        await self.service.start()
        self.running = True

    async def stop(self) -> None:
        if self.running:
            self.running = False
            await self.service.stop()

    def freeze(self) -> None:
        """It goes on reading, and does nothing: as a process that stands still, or a network that swallows."""

        async def swallow(_: Msg) -> None:
            pass

        for subscription in (*self.service._fixed, *self.service._partitions.values()):
            subscription._cb = swallow
        for task in (
            self.service.membership._beating,
            self.service._answering,
            *self.handler._writers.values(),
        ):
            if task is not None:
                task.cancel()
        self.running = False

    @property
    def owned(self) -> set[int]:
        return set(self.service._partitions)

    def handled(self, outcome: str = "ok") -> float:
        return sum(
            sample.value
            for family in self.metrics.commands.collect()
            for sample in family.samples
            if sample.name.endswith("_total") and sample.labels["outcome"] == outcome
        )


class Deployment:
    def __init__(self, server: NatsServer, stack: contextlib.AsyncExitStack) -> None:
        self.server = server
        self._stack = stack
        self.replicas: list[Replica] = []

    async def connection(self) -> Client:
        return await self._stack.enter_async_context(connected(self.server))

    async def gateway(self) -> CommandClient:
        commands = CommandClient(await self.connection())
        await commands.start()
        return commands

    async def replica(self) -> Replica:
        replica = Replica(await self.connection())
        self.replicas.append(replica)
        self._stack.push_async_callback(replica.stop)  # however the test ends
        await replica.start()
        return replica

    async def settled(self) -> None:
        """All partitions are owned, each by one of those that run."""
        running = [replica for replica in self.replicas if replica.running]
        with anyio.fail_after(5):
            while Counter(p for replica in running for p in replica.owned) != Counter(range(PARTITIONS)):
                await asyncio.sleep(0.01)
            for replica in running:
                await replica.client.flush()


@asynccontextmanager
async def deployment(server: NatsServer, replicas: int) -> AsyncIterator[Deployment]:
    with anyio.fail_after(30):
        async with contextlib.AsyncExitStack() as stack:
            world = Deployment(server, stack)
            await asyncio.gather(*(world.replica() for _ in range(replicas)))
            if replicas:
                await world.settled()
            yield world


@pytest.fixture(autouse=True)
def quiet(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    capsys.readouterr()


@pytest.fixture
def room() -> str:
    return f"nats-{next(_numbers)}"


def room_of(replica: Replica, prefix: str) -> str:
    return next(name for n in count() if partition_of(name := f"{prefix}-{n}") in replica.owned)


# Who answers


async def test_a_replica_alone_owns_every_partition_and_answers(server: NatsServer, room: str) -> None:
    async with deployment(server, 1) as world:
        gateway = await world.gateway()
        assert world.replicas[0].owned == set(range(PARTITIONS))
        assert len(did(await gateway.request("canvas", room, put("a", id="1")))) == 1
        assert words(await gateway.request("canvas", room, command("state"))) == ["a"]
        assert await gateway.alive("canvas")
        assert not await gateway.alive("presence", 0.2)


@pytest.mark.parametrize("number", [2, 3])
async def test_replicas_divide_the_partitions_and_each_command_goes_to_one_of_them(
    server: NatsServer, room: str, number: int
) -> None:
    async with deployment(server, number) as world:
        gateway = await world.gateway()
        rooms = [f"{room}-{each}" for each in range(64)]
        await asyncio.gather(*(gateway.request("canvas", name, put("a", id="1")) for name in rooms))
        expected = [sum(partition_of(name) in replica.owned for name in rooms) for replica in world.replicas]
        assert [replica.handled() for replica in world.replicas] == expected
        assert all(0 < len(replica.owned) < PARTITIONS for replica in world.replicas)


async def test_a_replica_that_comes_takes_its_share_and_one_that_stops_hands_it_over(
    server: NatsServer, room: str
) -> None:
    async with deployment(server, 1) as world:
        gateway, slowest, stopping = await world.gateway(), 0.0, asyncio.Event()
        done: list[list[str]] = []

        async def ask(number: int) -> None:
            nonlocal slowest
            name: str = f"{room}-{number}"
            sent: list[str] = []
            while not stopping.is_set():
                began = time.monotonic()
                ident = str(len(sent))
                assert len(did(await gateway.request("canvas", name, put(ident, id=ident)))) == 1
                sent.append(ident)
                slowest = max(slowest, time.monotonic() - began)
            done.append([name, *sent])

        asking = asyncio.gather(*(ask(number) for number in range(16)))
        second = await world.replica()
        await world.settled()
        assert second.owned
        await world.replicas[0].stop()
        await world.settled()
        assert second.owned == set(range(PARTITIONS))
        stopping.set()
        await asking
        assert slowest < STALL
        for name, *sent in done:
            assert words(await gateway.request("canvas", name, command("state"))) == sent


async def test_a_frozen_replica_costs_a_command_less_than_a_second(
    server: NatsServer, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with deployment(server, 2) as world:
        gateway, frozen = await world.gateway(), world.replicas[0]
        rooms = [room_of(frozen, f"{room}-{number}") for number in range(10)]
        frozen.freeze()
        began = time.monotonic()
        await asyncio.gather(*(gateway.request("canvas", name, put("a", id="1")) for name in rooms))
        assert 0.2 < time.monotonic() - began < STALL
        await world.settled()  # a second later the other has taken its partitions
        monkeypatch.setattr(command_client, "FIRST_TRY", 60.0)  # so it is the first try that succeeds
        await asyncio.gather(*(gateway.request("canvas", name, put("b", id="2")) for name in rooms))
        for name in rooms:
            assert words(await gateway.request("canvas", name, command("state"))) == ["a", "b"]


async def test_a_replica_whose_connection_is_gone_is_passed_over_at_once(
    server: NatsServer, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_client, "FIRST_TRY", 60.0)  # nothing is waited out
    async with deployment(server, 2) as world:
        gateway, dead = await world.gateway(), world.replicas[0]
        name = room_of(dead, room)
        dead.running = False
        await dead.client.close()
        assert len(did(await gateway.request("canvas", name, put("a", id="1")))) == 1


async def test_without_a_replica_the_answer_is_unavailable_in_time_and_one_that_comes_is_found(
    server: NatsServer, room: str
) -> None:
    async with deployment(server, 0) as world:
        gateway = await world.gateway()
        began = time.monotonic()
        with pytest.raises(Refusal) as caught:
            await gateway.request("canvas", room, put("a", id="1"), patience=0.4)
        assert caught.value.reason == "unavailable"
        assert 0.3 < time.monotonic() - began < STALL
        asking = asyncio.create_task(gateway.request("canvas", room, put("a", id="1")))
        await asyncio.sleep(0)
        await world.replica()
        assert len(did(await asking)) == 1


async def test_a_service_that_only_listens_is_unavailable_in_time(server: NatsServer, room: str) -> None:
    async with deployment(server, 1) as world:
        gateway = await world.gateway()
        world.replicas[0].freeze()
        began = time.monotonic()
        with pytest.raises(Refusal, match="unavailable"):
            await gateway.request("canvas", room, put("a", id="1"), patience=0.6)
        assert 0.5 < time.monotonic() - began < STALL


async def test_refusals_come_back_as_they_were_made(server: NatsServer, room: str) -> None:
    async with deployment(server, 1) as world:
        gateway = await world.gateway()
        spectator = msgspec.structs.replace(command("clear", "1"), role="spectator")
        for message, reason in (
            (spectator, "forbidden"),
            (command("redo", "2", at="decide"), "internal"),
            (command("dance", "3"), "unknown_method"),
            (CommandMessage("presence.list", msgspec.Raw(b"{}"), "ada", "Ada", "gm"), "unknown_method"),
        ):
            with pytest.raises(Refusal) as caught:
                did(await gateway.request("canvas", room, message))
            assert caught.value.reason == reason
        with pytest.raises(Refusal) as caught:
            did(await gateway.request("canvas", "x" * 65, put("a")))
        assert caught.value.reason == "invalid_room"


# Long answers


LONG = ["x" * 50_000 + str(number) for number in range(100)]


async def fill(gateway: CommandClient, room: str) -> None:
    for at in range(0, len(LONG), 10):
        await gateway.request("canvas", room, put(*LONG[at : at + 10], id=str(at)), patience=20)


async def test_an_answer_of_megabytes_comes_in_parts(server: NatsServer, room: str) -> None:
    async with deployment(server, 1) as world:
        gateway = await world.gateway()
        await fill(gateway, room)
        answers = await asyncio.gather(*(gateway.request("canvas", room, command("state")) for _ in range(5)))
        assert all(words(answer) == LONG for answer in answers)
        assert not gateway._parts
        assert not gateway._waiting


async def test_parts_of_answers_of_several_replicas_do_not_mix(server: NatsServer, room: str) -> None:
    async with deployment(server, 3) as world:
        gateway = await world.gateway()
        await fill(gateway, room)
        state = msgspec.json.encode(command("state"))
        for _ in range(3):
            answer = await gateway._ask(subjects.command_to_all("canvas", room), state, 5)
            assert words(msgspec.json.decode(answer, type=ReplyMessage)) == LONG


class Imposter:
    """Answers a command subject with what it is told to, one list of messages a request; then with the truth."""

    def __init__(self, client: Client, *answers: list[bytes]) -> None:
        self.client = client
        self.answers = list(answers)
        self.asked = 0

    async def start(self, room: str) -> None:
        for subject in (
            subjects.command_to_owner("canvas", partition_of(room), room),
            subjects.command_to_all("canvas", room),
        ):
            await self.client.subscribe(subject, cb=self._reply)
        await self.client.flush()

    async def _reply(self, message: Msg) -> None:
        self.asked += 1
        truth = parts_of(msgspec.json.encode(ReplyMessage("7", msgspec.Raw(b'{"did":["done"]}'))))
        for part in self.answers.pop(0) if self.answers else truth:
            await self.client.publish(message.reply, part)


BIG = parts_of(
    msgspec.json.encode(ReplyMessage("7", msgspec.Raw(b'{"did":["' + b"x" * 4 * PART_BYTES + b'"]}')))
)


@pytest.mark.parametrize(
    ("answer", "patience"),
    [
        ([], 1),
        ([b""], 1),
        ([b"?"], 1),
        ([b"."], 1),
        ([b".not JSON"], 1),
        ([b".\xff\xfe"], 1),
        ([b'.{"position":7}'], 1),
        ([b"." + b"[" * 9_000], 1),
        ([b"+", b"="], 1),
        ([BIG[0], *BIG[2:]], 1),
        ([*BIG[1:]], 1),
        ([*BIG[:-1]], 1),
        ([BIG[0], BIG[2], BIG[1], *BIG[3:]], 1),
    ],
)
async def test_an_answer_that_is_broken_is_asked_for_again(
    server: NatsServer, room: str, answer: list[bytes], patience: float
) -> None:
    async with deployment(server, 0) as world:
        gateway, imposter = await world.gateway(), Imposter(await world.connection(), answer)
        await imposter.start(room)
        reply = await gateway.request("canvas", room, put("a", id="1"), patience)
        assert did(reply)[0] == "done" or len(did(reply)[0]) == 4 * PART_BYTES
        assert imposter.asked >= 1


# Hostile input


HOSTILE = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"{}",
    b"[" * 100_000,
    b'{"method":"canvas.draw"}',
    b'{"method":"canvas.draw","params":'
    + b"[" * 100_000
    + b"]" * 100_000
    + b',"user":"a","username":"a","role":"gm"}',
    b'{"method":"canvas.draw","params":{"words":7},"user":"a","username":"a","role":"gm"}',
    b'{"method":"canvas.draw","params":{"words":["\xff"]},"user":"a","username":"a","role":"gm"}',
    b'{"method":"canvas.draw","params":{"words":["\\ud800"]},"user":"a","username":"a","role":"gm"}',
    b'{"method":7,"params":{},"user":"a","username":"a","role":"gm"}',
    b'{"method":"' + b"x" * 900_000 + b'","params":{},"user":"a","username":"a","role":"gm"}',
    b'{"method":"canvas.draw","params":{},"user":"a","username":"a","role":"god"}',
]


async def test_whatever_comes_on_the_command_subjects_is_answered_or_dropped_and_stops_nothing(
    server: NatsServer, room: str
) -> None:
    async with deployment(server, 1) as world:
        gateway, client = await world.gateway(), await world.connection()
        for payload in HOSTILE:
            for to in (
                subjects.command_to_owner("canvas", partition_of(room), room),
                subjects.command_to_any("canvas", room),
                subjects.command_to_all("canvas", room),
                subjects.command_to_owner("canvas", 0, "a$b"),
                subjects.command_to_any("canvas", "ä" * 300),
            ):
                await client.publish(to, payload)
                answer = (await client.request(to, payload, timeout=2)).data
                error = json.loads(answer[1:])["error"]
                assert error["reason"] in ("invalid_data", "unknown_method", "invalid_room", "internal")
        assert len(did(await gateway.request("canvas", room, put("a", id="1")))) == 1
        await client.publish(subjects.replicas("canvas"), b"")
        await client.publish(subjects.replicas("canvas"), b"\xff" * 100)
        await client.publish(subjects.ping("canvas"), b"\xff")
        assert words(await gateway.request("canvas", room, command("state"))) == ["a"]
        assert world.replicas[0].service.membership.replicas == 1


# Membership


async def test_a_replica_that_stood_still_does_not_take_the_others_for_dead(server: NatsServer) -> None:
    async with deployment(server, 2) as world:
        first, second = world.replicas
        owned, changes = set(first.owned), []
        changed = first.service.membership._changed
        first.service.membership._changed = lambda owned: (changes.append(owned), changed(owned))[1]  # type: ignore[func-returns-value]
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0)
        time.sleep(membership.DEAD_AFTER + 0.5)  # noqa: ASYNC251 - the whole loop, as a paused machine
        await asyncio.sleep(2 * membership.BEAT)
        assert first.owned == owned
        assert not changes
        assert second.owned | first.owned == set(range(PARTITIONS))


async def test_replicas_that_start_at_once_agree(server: NatsServer) -> None:
    async with deployment(server, 4) as world:
        assert sum(len(replica.owned) for replica in world.replicas) == PARTITIONS
        assert len({replica.service.membership.replica for replica in world.replicas}) == 4
        assert {replica.service.membership.replicas for replica in world.replicas} == {4}


async def test_a_stopped_replica_does_not_answer_a_new_ones_hello(server: NatsServer) -> None:
    async with deployment(server, 1) as world:
        await world.replicas[0].stop()
        new = await world.replica()
        await world.settled()
        assert new.service.membership.replicas == 1


# NATS itself


async def wait_for(condition: Callable[[], bool], within: float = 10) -> None:
    with anyio.fail_after(within):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.rule("RS6", "RS7")
@pytest.mark.parametrize("crash", [True, False])
async def test_when_nats_restarts_no_command_is_lost_or_doubled(room: str, crash: bool) -> None:
    async with provisioned_server() as server, deployment(server, 2) as world:
        gateway, stopping = await world.gateway(), asyncio.Event()
        names = [f"{room}-{number}" for number in range(8)]
        sent: dict[str, list[str]] = {}

        async def ask(name: str) -> None:
            for number in count():
                while True:  # as a client: again, with the id
                    with contextlib.suppress(Refusal):
                        done = did(await gateway.request("canvas", name, put(f"{number}", id=f"{number}")))
                        assert f"number={number + 1}" in done[0]
                        break
                sent.setdefault(name, []).append(f"{number}")
                if stopping.is_set():
                    return

        asking = asyncio.gather(*(ask(name) for name in names))
        await wait_for(lambda: len(sent) == len(names))
        await server.restart(crash=crash)
        before = {name: len(each) for name, each in sent.items()}
        await wait_for(lambda: all(len(sent[name]) > before[name] + 3 for name in names))
        stopping.set()
        await asking
        for name in names:
            assert words(await gateway.request("canvas", name, command("state"))) == sent[name]
        await world.settled()


async def test_stopping_without_nats_ends_in_seconds(room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_handler, "PATIENCE", 0.5)
    async with provisioned_server() as server, deployment(server, 1) as world:
        gateway = await world.gateway()
        await gateway.request("canvas", room, put("a", id="1"))
        await server.kill()
        late = world.replicas[0].handler.submit(room, put("b", id="2"))
        began = time.monotonic()
        await world.replicas[0].stop()
        assert time.monotonic() - began < 5
        assert late.done()


@pytest.mark.rule("RS6", "RS7")
@pytest.mark.parametrize("seed", [1, 2])
async def test_replicas_come_and_go_and_no_command_is_lost_or_doubled(
    server: NatsServer, room: str, seed: int
) -> None:
    random = Random(seed)
    async with deployment(server, 2) as world:
        gateways = [await world.gateway() for _ in range(2)]
        names, stopping, slowest = [f"{room}-{n}" for n in range(4)], asyncio.Event(), 0.0
        sent: list[tuple[str, str, str]] = []

        async def ask(who: str) -> None:
            nonlocal slowest
            for number in count():
                name, ident, began = random.choice(names), str(number), time.monotonic()
                message = put(f"{who}.{ident}", id=ident, user=who)
                copies = random.choice([1, 1, 2])
                asked = [random.choice(gateways).request("canvas", name, message) for _ in range(copies)]
                answers = await asyncio.gather(*asked)
                slowest = max(slowest, time.monotonic() - began)
                assert len({did(answer) for answer in answers}) == 1
                sent.append((name, who, ident))
                if stopping.is_set():
                    return

        asking = asyncio.gather(*(ask(f"p{number}") for number in range(10)))
        for _ in range(4):
            await asyncio.sleep(random.uniform(0.1, 0.3))
            victim = random.choice([replica for replica in world.replicas if replica.running])
            await world.replica()
            if random.random() < 0.5:
                victim.freeze()
            else:
                await victim.stop()
        stopping.set()
        await asking
        assert slowest < PATIENCE
        for name in names:
            told = words(await gateways[0].request("canvas", name, command("state")))
            assert sorted(told) == sorted(f"{who}.{ident}" for where, who, ident in sent if where == name)
            for who in {who for _, who, _ in sent}:
                own = [ident for where, each, ident in sent if (where, each) == (name, who)]
                assert [word for word in told if word.startswith(f"{who}.")] == [
                    f"{who}.{ident}" for ident in own
                ]
