"""Connections that poll: their count and their presence, whatever the order in which requests come."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from prometheus_client import CollectorRegistry

from roundtable.common.cursor import Position
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage
from roundtable.common.schema.presence import ConnectionOpened
from roundtable.common.schema.session import Claims
from roundtable.gateway.metrics import GatewayMetrics
from roundtable.gateway.polling import Polling
from roundtable.gateway.presence_link import PresenceLink
from roundtable.gateway.transports.entrance import Admitted

pytestmark = pytest.mark.rule("PR1")

ANN = Claims("ann", "Ann", {"*": "player"}, None, "s1")
BOB = Claims("bob", "Bob", {"*": "player"}, None, "s2")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Presence:
    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    async def open(self, room: str, user: str, name: str, connection: str, transport: str) -> Position:
        await asyncio.sleep(0.01)
        self.said.append(("open", connection))
        return Position(1)

    def close(self, room: str, user: str, name: str, connection: str) -> None:
        self.said.append(("close", connection))


class Hub:
    def __init__(self) -> None:
        self.counted = 0

    def admit(self, user: str, address: str) -> None:
        self.counted += 1

    def dismiss(self, user: str, address: str) -> None:
        self.counted -= 1


class Room:
    name = "den"
    seen: ClassVar[dict[str, float]] = {}

    def __init__(self) -> None:
        self.pollers: dict[Any, None] = {}

    async def reach(self, service: str, position: Position) -> None: ...


class Table:
    """A `Gateway` as far as polling needs one."""

    def __init__(self) -> None:
        self.settings = SimpleNamespace(max_polls=10)
        self.hub, self.presence = Hub(), Presence()
        self.metrics = GatewayMetrics(CollectorRegistry())
        self.lease = SimpleNamespace(id="here")
        self.revoked = False
        self.identity = SimpleNamespace(sessions=self)
        self.polling = Polling(self)  # type: ignore[arg-type]
        self.room: Any = Room()

    def check(self, claims: Claims) -> Claims:
        if self.revoked:
            raise Refusal("revoked")
        return claims

    def new_connection_id(self) -> str:
        return "new"

    async def begin(self, named: str, claims: Claims = ANN) -> Any:
        return await self.polling.begin(self.room, named, Admitted(claims, "den", "player", "::1"))


async def test_two_first_polls_at_once_are_one_connection() -> None:
    table = Table()
    first, second = await asyncio.gather(table.begin("c1"), table.begin("c1"))
    assert first is second
    assert table.hub.counted == 1
    table.polling.end(first)
    table.polling.end(second)
    table.polling.check(first.expires)
    assert table.hub.counted == 0
    assert not table.room.pollers
    assert table.presence.said[-1] == ("close", "c1")


async def test_of_two_users_with_one_connection_at_once_one_is_refused_and_the_other_unharmed() -> None:
    table = Table()
    first: object
    second: object
    first, second = await asyncio.gather(table.begin("c1"), table.begin("c1", BOB), return_exceptions=True)
    assert isinstance(second, Refusal)
    assert second.reason == "forbidden"
    assert table.hub.counted == 1
    assert table.polling.of("c1") is first


async def test_a_connection_that_was_ended_leaves_nothing_when_it_comes_back() -> None:
    table = Table()
    first = await table.begin("c1")
    table.polling.end(first)
    first.end()
    second = await table.begin("c1")
    assert second is not first
    assert table.hub.counted == 1
    assert list(table.room.pollers) == [second]


@pytest.mark.rule("CO4")
async def test_a_connection_that_polls_elsewhere_now_is_opened_anew_when_it_comes_back() -> None:
    table = Table()
    first = await table.begin("c1")
    table.polling.end(first)
    opened = ConnectionOpened("c1", "ann", "Ann", "elsewhere", "poll", 1)
    for other in (("c2", "ann", "elsewhere"), ("c1", "bob", "elsewhere"), ("c1", "ann", "here")):
        first.opened_at(ConnectionOpened(other[0], other[1], "", other[2], "poll", 1))
        assert not first.ended
    first.opened_at(opened)
    assert first.ended
    await table.begin("c1")
    assert table.presence.said == [("open", "c1"), ("close", "c1"), ("open", "c1")]


@pytest.mark.rule("AU4")
async def test_whoever_is_revoked_while_coming_in_does_not() -> None:
    table = Table()
    table.revoked = True
    with pytest.raises(Refusal) as refused:
        await table.begin("c1")
    assert refused.value.reason == "revoked"
    assert table.hub.counted == 0


@pytest.mark.rule("AU4")
async def test_the_polls_of_a_revoked_session_are_told_so() -> None:
    table = Table()
    poller = await table.begin("c1")
    table.polling.end_session("s1")
    assert poller.refusal.reason == "revoked"


@pytest.mark.rule("CO10")
async def test_a_poll_that_comes_in_while_all_are_sent_away_does_not_wait() -> None:
    table = Table()
    coming = asyncio.create_task(table.begin("c1"))
    await asyncio.sleep(0)
    table.polling.drain()
    assert (await coming).ended


class Commands:
    """A presence service that takes its time over ends."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.faults = 1

    async def call(self, service: str, room: str, command: CommandMessage) -> tuple[None, Position]:
        if command.method == "presence.close":
            await asyncio.sleep(0.02)
            if self.faults:
                self.faults -= 1
                raise ValueError("an answer that cannot be read")
        self.heard.append(command.method)
        return None, Position(1)


async def test_an_end_is_heard_before_the_next_beginning_of_the_same_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands: Any = Commands()
    lease: Any = SimpleNamespace(id="here")
    hub: Any = SimpleNamespace()
    link = PresenceLink(commands, hub, lease)
    link.close("den", "ann", "Ann", "c1")
    await link.open("den", "ann", "Ann", "c2", "poll")
    assert commands.heard == ["presence.open"]
    await link.open("den", "ann", "Ann", "c1", "poll")
    assert commands.heard == ["presence.open", "presence.close", "presence.open"]
