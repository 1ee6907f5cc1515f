"""One behaviour over every transport, against the real system."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roundtable.client import (
    Event,
    Overflow,
    PollingClient,
    RealtimeClient,
    RequestTimeout,
    RoundtableError,
    SSEClient,
    WebSocketClient,
)
from roundtable.client.messages import decode, encode
from roundtable.common.schema.activity import Activity
from roundtable.common.schema.basics import Point
from roundtable.common.schema.canvas import DrawAnswer, Drawn, DrawOperation, Snapshot
from roundtable.common.testing.players import WAIT, token
from roundtable.common.testing.system import System

CLIENTS = {"websocket": WebSocketClient, "sse": SSEClient, "poll": PollingClient, "realtime": RealtimeClient}
STROKE = {
    "type": "draw",
    "tool": "pen",
    "color": "#c33",
    "size": 4,
    "points": [{"x": 1, "y": 2}, {"x": 3, "y": 4}],
}

pytestmark = [
    pytest.mark.parametrize("form", CLIENTS),
    pytest.mark.parametrize("protocol", ["json", "msgpack"]),
]


class Table:
    def __init__(self, system: System, room: str, form: str, protocol: str) -> None:
        self.system, self.room, self.form, self.protocol = system, room, form, protocol

    def client(self, user: str, role: str = "player", **options: Any) -> Any:
        options = {
            "room": self.room,
            "token": token(user, self.room, role),
            "protocol": self.protocol,
        } | options
        return CLIENTS[self.form](self.system.gateway.ws, **options)


@pytest.fixture
def seat(table: System, room: str, form: str, protocol: str) -> Table:
    return Table(table, room, form, protocol)


async def test_a_client_is_welcomed_and_knows_who_and_where_it_is(seat: Table) -> None:
    client = seat.client("ann", "gm")
    assert client.state == "idle"
    welcome = await client.connect()
    assert (welcome.user_id, welcome.role, welcome.room) == ("ann", "gm", seat.room)
    assert client.state == "connected"
    assert client.transport == {"realtime": "websocket"}.get(seat.form, seat.form)
    assert client.connection_id == welcome.connection_id
    assert (await client.connect()) == welcome
    await client.disconnect()
    assert (client.state, client.transport, client.connection_id) == ("closed", None, None)


async def test_the_room_is_shown_as_its_own_types(seat: Table) -> None:
    client = seat.client("ann")
    shown = client.events("canvas.snapshot", "activity.snapshot")
    async with client, asyncio.timeout(WAIT):
        snapshot = await anext(shown)
        assert snapshot.data == Snapshot((), more=False)
        assert (await anext(shown)).name == "activity.snapshot"
        assert client.cursor


async def test_a_stroke_is_answered_and_told_to_everyone_once(seat: Table) -> None:
    async with seat.client("ann") as ann, seat.client("bob") as bob:
        told = bob.events("draw"), ann.events("canvas.draw")
        answer = await ann.request("canvas.draw", {"operations": [STROKE]}, timeout=WAIT)
        assert isinstance(answer, DrawAnswer)
        async with asyncio.timeout(WAIT):
            for events in told:
                event = await anext(events)
                assert isinstance(event.data, Drawn)
                assert [each.id for each in event.data.operations] == list(answer.operations)
                assert event.id
        assert ann.cursor == answer.cursor


async def test_parameters_may_be_the_schemas_own_types(seat: Table) -> None:
    operation = DrawOperation("draw", "pen", (Point(0, 0), Point(9, 9)), "#123", 2, id="own")
    async with seat.client("ann") as ann:
        answer = await ann.request("canvas.draw", {"operations": [operation]}, timeout=WAIT)
        assert answer.operations == ("own",)


async def test_handlers_hear_data_and_event_until_they_are_taken_off(seat: Table) -> None:
    heard: list[tuple[str, Any]] = []
    arrived = asyncio.Event()

    def handler(data: Any, event: Event) -> None:
        heard.append((event.name, data))

    async def later(data: Activity, event: Event) -> None:
        arrived.set()

    def broken(data: Any, event: Event) -> None:
        raise ValueError("mine")

    async with seat.client("ann") as ann:
        ann.on("activity.post", broken)
        ann.on("activity.post", handler)
        ann.on("activity.post", later)
        rolled = await ann.request("activity.post", {"type": "dice_roll", "data": {"expression": "2d6"}})
        async with asyncio.timeout(WAIT):
            await arrived.wait()
        assert ("activity.post", rolled) in heard
        ann.off("activity.post", handler)
        count = len(heard)
        arrived.clear()
        await ann.request("activity.post", {"type": "chat_message", "data": {"text": "Hello"}})
        async with asyncio.timeout(WAIT):
            await arrived.wait()
        assert len(heard) == count


async def test_a_refused_request_raises_what_the_table_says(seat: Table) -> None:
    async with seat.client("eve", "spectator") as eve:
        with pytest.raises(RoundtableError) as refused:
            await eve.request("canvas.draw", {"operations": [STROKE]})
        assert (refused.value.code, refused.value.reason) == (1008, "forbidden")
        with pytest.raises(RoundtableError) as refused:
            await eve.request("canvas.dance")
        assert refused.value.reason == "unknown_method"
        with pytest.raises(RoundtableError) as refused:
            await eve.request("heartbeat", {"padding": "x" * 70_000})
        assert (refused.value.code, refused.value.reason) == (1009, "too_big")
        assert eve.state == "connected"


async def test_pointers_go_out_as_events_and_come_to_the_others(seat: Table) -> None:
    async with seat.client("ann") as ann, seat.client("bob") as bob:
        seen = bob.events("presence.cursor")
        assert ann.send({"type": "event", "method": "presence.cursor", "params": {"x": 4, "y": 2}})
        async with asyncio.timeout(WAIT):
            (pointer,) = (await anext(seen)).data.cursors
        assert (pointer.user_id, pointer.x, pointer.y) == ("ann", 4, 2)
    assert not ann.send({"type": "event", "method": "presence.cursor", "params": {"x": 4, "y": 2}})


async def test_the_way_is_measured(seat: Table) -> None:
    client = seat.client("ann", heartbeat_interval=0.05)
    measured = client.events("latency")
    async with client, asyncio.timeout(WAIT):
        await anext(measured)
        latency = (await anext(measured)).data
        assert 0 < latency < WAIT * 1000


@pytest.mark.rule("CL2", "RS2")
async def test_a_client_that_comes_back_with_its_cursor_is_told_what_it_missed(seat: Table) -> None:
    async with seat.client("ann") as ann:
        async with seat.client("bob") as bob:
            drawn = bob.events("canvas.draw")
            await ann.request("canvas.draw", {"operations": [{**STROKE, "id": "seen"}]})
            async with asyncio.timeout(WAIT):
                await anext(drawn)
            cursor = bob.cursor
        await ann.request("canvas.draw", {"operations": [{**STROKE, "id": "missed"}]})
        again = seat.client("bob", cursor=cursor)
        drawn = again.events("canvas.draw")
        welcome = await again.connect()
        assert welcome.recovered
        async with asyncio.timeout(WAIT):
            assert [each.id for each in (await anext(drawn)).data.operations] == ["missed"]
        await again.disconnect()


@pytest.mark.rule("CL2")
async def test_disconnecting_rejects_what_has_no_answer_and_ends_iterators(seat: Table) -> None:
    client = seat.client("ann")
    await client.connect()
    events = client.events()
    asked = [asyncio.ensure_future(client.request("canvas.state")) for _ in range(3)]
    await asyncio.sleep(0)
    await client.disconnect()
    for outcome in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(outcome, RoundtableError)
        assert outcome.reason == "bye"
    async with asyncio.timeout(WAIT):
        assert all(isinstance(event, Event) for event in [event async for event in events])
    with pytest.raises(RoundtableError):
        await client.request("canvas.state")


async def test_a_request_that_nobody_answers_in_its_time_times_out(seat: Table) -> None:
    client = seat.client("ann")
    with pytest.raises(RequestTimeout) as late:
        await client.request("canvas.state", timeout=0.01)  # before there is a connection
    assert isinstance(late.value, TimeoutError)
    assert late.value.reason == "timeout"
    await client.disconnect()


@pytest.mark.rule("CL1")
async def test_a_refused_client_stops_and_says_why(seat: Table) -> None:
    client = seat.client("ann", token="nonsense")
    with pytest.raises(RoundtableError) as refused:
        await client.connect()
    assert (refused.value.code, refused.value.reason) == (1008, "token_invalid")
    assert client.state == "closed"
    await client.disconnect()


@pytest.mark.rule("CL1", "AU3")
async def test_a_token_is_renewed_before_its_end_without_a_reconnect(seat: Table) -> None:
    asked: list[str] = []

    async def get_token() -> str:
        asked.append("")
        return token("ann", seat.room, ttl=2.5 if len(asked) == 1 else 3600)

    client = seat.client("ann", token=None, get_token=get_token)
    warned = client.events("session.token_expiring", "disconnected")
    async with client, asyncio.timeout(2 * WAIT):
        connection = client.connection_id
        assert (await anext(warned)).name == "session.token_expiring"
        while len(asked) < 2:
            await asyncio.sleep(0.01)
        assert (await client.request("presence.list")).presence
        assert client.connection_id == connection


async def test_an_iterator_that_is_not_read_ends_with_a_word(seat: Table) -> None:
    async with seat.client("ann") as ann:
        narrow, wide = ann.events("canvas.draw", limit=2), ann.events("canvas.draw")
        for _ in range(3):
            await ann.request("canvas.draw", {"operations": [STROKE]})
        async with asyncio.timeout(WAIT):
            for _ in range(3):  # over a poll the answers may come before the events
                await anext(wide)
            await anext(narrow)
            await anext(narrow)
            with pytest.raises(Overflow):
                await anext(narrow)


def test_the_answer_of_a_newer_server_is_still_told(form: str, protocol: str) -> None:
    """A field or a type that this schema does not know is no reason to fall silent."""
    fmt: Any = protocol
    news = {"type": "event", "method": "table.flipped", "data": {"by": "ann"}, "timestamp": 1, "id": "c"}
    assert decode(encode(news, fmt), fmt) == Event("table.flipped", {"by": "ann"}, "c", 1)
    odd = {"type": "event", "method": "canvas.draw", "data": {"strokes": 3}, "timestamp": 1}
    assert decode(encode(odd, fmt), fmt) == Event("canvas.draw", {"strokes": 3}, "", 1)
