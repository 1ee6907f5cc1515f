"""Coming to the table: addresses, formats, the welcome, the snapshots, signs of life, and being sent away (CO1–CO10)."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from roundtable.common.testing.forms import TRANSPORTS, Players, http, signed, until
from roundtable.common.testing.players import WAIT, HttpPlayer, Player, WebSocketPlayer, stroke, token
from roundtable.common.testing.system import Program, System
from roundtable.common.testing.wire import BINARY, CLOSE, PING, PONG, TEXT, Wire, closing, frame

PAGE = 256 * 1024
HTTP = [name for name in TRANSPORTS if not name.startswith("websocket")]
"""Transports on which a request goes by `POST /rpc`."""


def bearer(user: str, room: str = "*", role: str = "player") -> dict[str, str]:
    return {"Authorization": f"Bearer {token(user, room, role)}"}


def is_event(message: dict[str, Any], method: str) -> bool:
    return (message["type"], message.get("method")) == ("event", method)


def has_strokes(who: Player, number: int) -> bool:
    return len(who.strokes()) >= number


def thick(ident: str, points: int = 1_200) -> dict[str, Any]:
    """A stroke of about 40 KB."""
    return stroke(ident, points=[{"x": 1000.125 + n, "y": -2000.375 - n} for n in range(points)])


# Rooms


@pytest.mark.rule("CO1")
async def test_a_connection_is_one_user_in_one_room_and_hears_no_other_room(player: Players) -> None:
    ann = await player("ann")
    assert (ann.welcome["userId"], ann.welcome["room"]) == ("ann", player.room)
    elsewhere = await player("bob", room=f"{player.room}-2")
    await elsewhere.draw("not-for-ann")
    await ann.draw("last")
    await ann.event("canvas.draw")
    assert ann.strokes() == ["last"]
    await elsewhere.event("canvas.draw")
    assert elsewhere.strokes() == ["not-for-ann"]


@pytest.mark.rule("CO1")
@pytest.mark.transports("websocket-json", "sse", "poll-json")
@pytest.mark.parametrize("suffix", ["A-Z_09", "x" * 43, "-", "_"])
async def test_a_room_may_be_named_by_letters_digits_underlines_and_hyphens(
    player: Players, suffix: str
) -> None:
    name = f"{player.room}_-{suffix}"  # 64 characters with the longest
    assert len(name) <= 64
    ann = await player("ann", room=name)
    assert ann.welcome["room"] == name


@pytest.mark.rule("CO1")
@pytest.mark.transports("websocket-json", "sse", "poll-json")
@pytest.mark.parametrize(
    "name", ["with space", "a/b", "ümlaut", "x" * 65, "a.b", "a\nb", "room\n", "*", "a%00"]
)
async def test_any_other_name_of_a_room_is_refused(player: Players, name: str) -> None:
    quoted = str(httpx.QueryParams({"room": name}))
    assert await player.turned_away("ann", room=name, query=quoted, token=token("ann")) == (
        1008,
        "invalid_room",
    )


@pytest.mark.rule("CO1")
async def test_an_impossible_room_is_refused_before_anybody_says_who_they_are(everyone: Players) -> None:
    for transport in TRANSPORTS:
        end = await everyone.turned_away(
            "", room="no such room", query="room=no+such+room", transport=transport
        )
        assert end == (1008, "invalid_room"), transport


@pytest.mark.rule("CO1", "EN7")
@pytest.mark.parametrize(("method", "path"), [("GET", "/sse"), ("GET", "/poll"), ("POST", "/rpc")])
async def test_over_http_an_impossible_room_is_a_bad_request(table: System, method: str, path: str) -> None:
    async with http(table.gateway) as client:
        answer = await client.request(
            method, path, params={"room": "no such/room"}, headers=bearer("ann"), json=[]
        )
    assert answer.status_code == 400
    assert answer.json()["error"]["reason"] == "invalid_room"


@pytest.mark.rule("CO2")
@pytest.mark.transports("websocket")
@pytest.mark.parametrize("path", ["/", "/ws"])
async def test_a_websocket_opens_at_either_address(player: Players, path: str) -> None:
    ann = await player("ann", path=path)
    assert ann.welcome["room"] == player.room
    bob = await player("bob", path="/ws" if path == "/" else "/")
    await bob.draw("from-the-other-door")
    await ann.event("canvas.draw")


@pytest.mark.rule("CO2")
async def test_without_a_room_the_token_decides_and_else_it_is_the_lobby(player: Players) -> None:
    named = await player("ann", room="", token=token("ann", player.room))
    assert named.welcome["room"] == player.room
    anywhere = await player("ann", room="", token=token("ann", "*"))
    assert anywhere.welcome["room"] == "lobby"
    claims = {"sub": "ann", "exp": time.time() + 60, "rooms": {"lobby": "gm", "x": "player"}}
    several = await player("ann", room="", token=signed(claims))
    assert (several.welcome["room"], several.welcome["role"]) == ("lobby", "gm")


@pytest.mark.rule("CO2")
async def test_the_table_page_is_served_where_no_upgrade_is_asked_for(table: System) -> None:
    async with http(table.gateway) as client:
        page = await client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "<html" in page.text.lower()


# SSE, long poll, rpc


@pytest.mark.rule("CO3")
@pytest.mark.parametrize("fmt", ["json", "msgpack"])
async def test_what_goes_up_by_rpc_is_answered_one_for_one_and_in_order(
    table: System, room: str, fmt: str
) -> None:
    codec: Any = msgspec.json if fmt == "json" else msgspec.msgpack
    headers = bearer("ann") | {"Content-Type": f"application/{fmt}"}
    beat = {"type": "request", "method": "heartbeat", "params": {}}
    async with http(table.gateway) as client:

        async def post(body: Any) -> Any:
            answer = await client.post(
                "/rpc", params={"room": room}, content=codec.encode(body), headers=headers
            )
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith(f"application/{fmt}")
            return codec.decode(answer.content)

        one = await post({**beat, "id": "one"})
        assert (one["type"], one["id"], one["method"]) == ("response", "one", "heartbeat")
        many = await post(
            [
                {
                    "type": "request",
                    "id": "a",
                    "method": "canvas.draw",
                    "params": {"operations": [stroke("s")]},
                },
                {"type": "request", "id": "b", "method": "no.such"},
                {"type": "request", "id": "c", "method": "canvas.state"},
            ]
        )
        assert [(each["type"], each["id"]) for each in many] == [
            ("response", "a"),
            ("error", "b"),
            ("response", "c"),
        ]
        assert [each["id"] for each in many[2]["data"]["operations"]] == ["s"]
        failed = await post(
            {"type": "request", "id": "d", "method": "canvas.draw", "params": {"operations": []}}
        )
        assert (failed["type"], failed["id"], failed["error"]["reason"]) == ("error", "d", "invalid_data")
        full = await post([{**beat, "id": str(number)} for number in range(100)])
        assert [each["id"] for each in full] == [str(number) for number in range(100)]


@pytest.mark.rule("CO3", "EN7")
@pytest.mark.parametrize(
    ("status", "reason", "change"),
    [
        (401, "auth_required", {"headers": {"Authorization": ""}}),
        (401, "token_invalid", {"headers": {"Authorization": "Bearer not.a.token"}}),
        (401, "token_expired", {"headers": {"Authorization": f"Bearer {token('ann', ttl=-60)}"}}),
        (403, "forbidden", {"headers": bearer("ann", "another-room")}),
        (403, "origin_refused", {"headers": {"Origin": "https://elsewhere.example"}}),
        (400, "invalid_data", {"content": b"{"}),
        (400, "invalid_data", {"content": b"\xff\xfe"}),
        (400, "invalid_data", {"content": b""}),
        (400, "invalid_data", {"content": json.dumps([{"type": "event"}] * 101).encode()}),
        (413, "too_big", {"content": b" " * 65_537}),
        (415, "unsupported_data", {"headers": {"Content-Type": "text/plain"}}),
        (415, "unsupported_data", {"headers": {"Content-Type": "application/xml"}}),
    ],
)
async def test_a_request_that_fails_as_a_whole_has_a_status_and_an_error_object(
    table: System, room: str, status: int, reason: str, change: dict[str, Any]
) -> None:
    beat = json.dumps({"type": "request", "id": "1", "method": "heartbeat"}).encode()
    headers = bearer("ann") | {"Content-Type": "application/json"} | change.get("headers", {})
    async with http(table.gateway) as client:
        answer = await client.post(
            "/rpc",
            params={"room": room},
            content=change.get("content", beat),
            headers={k: v for k, v in headers.items() if v},
        )
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["reason"] == reason
    assert error["message"]
    assert isinstance(error["code"], int)


@pytest.mark.rule("CO3")
async def test_an_event_stream_says_at_once_what_it_is_and_that_nobody_may_hold_it_back(
    table: System, room: str
) -> None:
    async with (
        http(table.gateway) as client,
        client.stream("GET", "/sse", params={"room": room}, headers=bearer("ann")) as stream,
    ):
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert "no-store" in stream.headers["cache-control"] or "no-cache" in stream.headers["cache-control"]
        async with asyncio.timeout(WAIT):
            first = await anext(line async for line in stream.aiter_lines() if line.startswith("event:"))
        assert first == "event: session.welcome"


@pytest.mark.rule("CO3", "EN6")
async def test_a_poll_waits_as_long_as_it_is_told_and_its_cursor_is_its_receipt(
    table: System, room: str
) -> None:
    async with http(table.gateway) as client:

        async def poll(**query: Any) -> Any:
            answer = await client.get("/poll", params={"room": room, **query}, headers=bearer("ann"))
            assert answer.status_code == 200, answer.text
            return answer.json()

        first = await poll()
        connection = first["events"][0]["data"]["connectionId"]
        assert [event["type"] for event in first["events"]][:4] == [
            "session.welcome",
            "canvas.snapshot",
            "presence.snapshot",
            "activity.snapshot",
        ]
        came = [first]
        while (
            any(event.get("id") for event in came[-1]["events"][4 if len(came) == 1 else 0 :])
            or len(came) == 1
        ):
            came.append(await poll(connection=connection, cursor=came[-1]["cursor"], timeout=0.2))
        quiet = came[-1]["cursor"]
        began = time.monotonic()
        nothing = await poll(connection=connection, cursor=quiet, timeout=0.6)
        assert 0.5 < time.monotonic() - began < WAIT
        assert nothing == {"events": [], "cursor": quiet}

        waiting = asyncio.create_task(poll(connection=connection, cursor=nothing["cursor"], timeout=20))
        draw = {
            "type": "request",
            "id": "1",
            "method": "canvas.draw",
            "params": {"operations": [stroke("s")]},
        }
        await client.post("/rpc", params={"room": room}, json=draw, headers=bearer("ann"))
        told = await asyncio.wait_for(waiting, WAIT)
        assert [event["type"] for event in told["events"] if "id" in event] == ["canvas.draw"]
        assert told["cursor"] == told["events"][-1]["id"]
        # Suppose that this answer was lost on its way.
        again = await poll(connection=connection, cursor=nothing["cursor"], timeout=0)
        assert [event["type"] for event in again["events"] if "id" in event] == ["canvas.draw"]
        after = await poll(connection=connection, cursor=told["cursor"], timeout=0)
        assert after == {"events": [], "cursor": told["cursor"]}


@pytest.mark.rule("CO3")
@pytest.mark.parametrize("timeout", ["soon", "-1", "nan", "inf"])
async def test_a_poll_with_an_impossible_time_is_refused(table: System, room: str, timeout: str) -> None:
    async with http(table.gateway) as client:
        answer = await client.get("/poll", params={"room": room, "timeout": timeout}, headers=bearer("ann"))
    assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "invalid_data")


@pytest.mark.rule("CO4")
@pytest.mark.transports("sse", "poll")
async def test_what_is_read_through_one_gateway_may_be_asked_through_another(player: Players) -> None:
    other = player.system.of("gateway")[1].http
    ann = await player("ann", rpc=other)
    bob = await player("bob", at=1, rpc=player.system.gateway.http)
    assert isinstance(ann, HttpPlayer)
    await ann.draw("by-ann")
    await bob.draw("by-bob")
    for each in (ann, bob):
        await each.event("canvas.draw", lambda data: data["operations"][0]["id"] == "by-bob")
        assert each.strokes() == ["by-ann", "by-bob"]


@pytest.mark.rule("CO4", "PR1")
async def test_the_polls_of_one_connection_may_go_to_any_gateway_in_turn(
    table: System, everyone: Players
) -> None:
    watcher = await everyone("watcher")
    room, place, connection = everyone.room, "", ""
    seen: list[str] = []
    welcomes = 0
    async with http(table.of("gateway")[0]) as one, http(table.of("gateway")[1]) as two:
        for turn in range(8):
            answer = await (one, two)[turn % 2].get(
                "/poll",
                params={"room": room, "timeout": "0"}
                | ({"cursor": place, "connection": connection} if place else {}),
                headers=bearer("ann"),
            )
            told = answer.json()
            place = told["cursor"]
            for event in told["events"]:
                if event["type"] == "session.welcome":
                    welcomes += 1
                    connection = event["data"]["connectionId"]
                if event["type"] == "canvas.draw":
                    seen += [each["id"] for each in event["data"]["operations"]]
            await watcher.draw(f"s{turn}")
        answer = await one.get(
            "/poll",
            params={"room": room, "timeout": "0", "cursor": place, "connection": connection},
            headers=bearer("ann"),
        )
        seen += [
            each["id"]
            for event in answer.json()["events"]
            if event["type"] == "canvas.draw"
            for each in event["data"]["operations"]
        ]
    assert seen == [f"s{turn}" for turn in range(8)]
    assert welcomes == 1
    moves = [
        m["data"]
        for m in watcher.messages
        if m.get("method") == "presence.update" and m["data"]["userId"] == "ann"
    ]
    assert [each["status"] for each in moves] == ["online"]


# Formats


@pytest.mark.rule("CO5")
@pytest.mark.parametrize(
    ("offered", "chosen", "binary"),
    [
        ("", None, False),
        ("roundtable.v1.json", "roundtable.v1.json", False),
        ("roundtable.v1.msgpack", "roundtable.v1.msgpack", True),
        ("something.else, roundtable.v1.msgpack", "roundtable.v1.msgpack", True),
    ],
)
async def test_the_subprotocol_chooses_the_format(
    table: System, room: str, offered: str, chosen: str | None, binary: bool
) -> None:
    async with Wire(table.gateway) as wire:
        headers = {"Sec-WebSocket-Protocol": offered} if offered else {}
        status, answer = await wire.upgrade(room, "ann", **headers)
        assert status == 101
        assert answer.get("sec-websocket-protocol") == chosen
        first = await wire.frame()
        assert first.opcode == (BINARY if binary else TEXT)
        decode: Any = msgspec.msgpack.decode if binary else json.loads
        assert decode(first.payload)["method"] == "session.welcome"


@pytest.mark.rule("CO5")
@pytest.mark.transports("websocket-json")
async def test_an_offer_of_nothing_but_unknown_formats_is_refused_before_the_upgrade(player: Players) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        await player("ann", subprotocols=["roundtable.v2.json", "graphql-ws"])
    response = refusal.value.response
    assert response.status_code == 400
    error = json.loads(response.body or b"")["error"]
    assert (error["code"], error["reason"]) == (1003, "unsupported_data")


@pytest.mark.rule("CO5", "EN7")
@pytest.mark.parametrize(("protocol", "wrong"), [("json", BINARY), ("msgpack", TEXT)])
async def test_a_frame_of_the_other_kind_ends_the_connection_and_nothing_after_it_counts(
    everyone: Players, protocol: str, wrong: int
) -> None:
    watcher = await everyone("watcher")
    beat = {"type": "request", "id": "1", "method": "heartbeat"}
    draw = {"type": "event", "method": "canvas.draw", "params": {"operations": [stroke("never")]}}
    codec: Any = msgspec.json if protocol == "json" else msgspec.msgpack
    async with Wire(everyone.system.gateway) as wire:
        await wire.upgrade(everyone.room, "ann", Sec_WebSocket_Protocol=f"roundtable.v1.{protocol}")
        await watcher.event("presence.update", lambda data: data["userId"] == "ann")
        while b"activity.snapshot" not in (await wire.frame()).payload:
            pass
        await wire.send(frame(wrong, json.dumps(beat).encode()))
        while (came := await wire.frame()).opcode != CLOSE:
            pass
        assert closing(came) == (1003, "unsupported_data")
        await wire.send(frame(TEXT if wrong == BINARY else BINARY, codec.encode(draw)))
        for _ in range(3):  # alone in its packet
            await watcher.request("heartbeat")
        await wire.send(frame(CLOSE, came.payload))
        assert await wire.rest() == b""
    assert (await watcher.request("canvas.state"))["operations"] == []


@pytest.mark.rule("CO5", "CO3")
async def test_all_formats_and_transports_meet_at_one_table(everyone: Players) -> None:
    there: list[Player] = [
        await everyone(name, transport=name, at=number % 2) for number, name in enumerate(TRANSPORTS)
    ]
    for each in there:
        await each.draw(f"by-{each.user}")
    drawn = [f"by-{name}" for name in TRANSPORTS]
    for each in there:
        await each.wait_for(partial(has_strokes, each, len(drawn)))
        assert each.strokes() == drawn
    told = [[m["data"] for m in each.messages if is_event(m, "canvas.draw")] for each in there]
    assert all(each == told[0] for each in told)


@pytest.mark.rule("CO6")
@pytest.mark.parametrize("protocol", ["json", "msgpack"])
async def test_deflate_is_spoken_with_whoever_offers_it_and_nobody_else(
    table: System, room: str, protocol: str
) -> None:
    async with Wire(table.gateway) as wire:
        _, answer = await wire.upgrade(
            room,
            "ann",
            Sec_WebSocket_Protocol=f"roundtable.v1.{protocol}",
            Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits",
        )
        assert answer["sec-websocket-extensions"].startswith("permessage-deflate")
    async with Wire(table.gateway) as wire:
        _, answer = await wire.upgrade(room, "ann", Sec_WebSocket_Extensions="x-webkit-deflate-frame")
        assert "sec-websocket-extensions" not in answer


@pytest.mark.rule("CO6", "LI1")
@pytest.mark.transports("websocket-json-deflate")
async def test_a_message_counts_as_large_as_it_is_inflated(player: Players) -> None:
    ann = await player("ann")
    assert isinstance(ann, WebSocketPlayer)
    assert ann.socket is not None
    message = {"type": "request", "id": "fits", "method": "heartbeat", "params": {}}
    await ann.socket.send(json.dumps(message).ljust(65_536))
    await ann.wait_for(lambda: any(m.get("id") == "fits" for m in ann.messages))
    await ann.socket.send(json.dumps(message | {"id": "does-not"}).ljust(65_537))
    assert await ann.close_code() == (1009, "too_big")
    assert not any(m.get("id") == "does-not" for m in ann.messages)


# The beginning


@pytest.mark.rule("CO7", "EN4")
async def test_the_welcome_comes_first_and_tells_all_that_a_client_needs(player: Players) -> None:
    before = time.time() * 1000
    expires = int(time.time()) + 1_000
    ann = await player("ann", "gm", token=token("ann", player.room, "gm", name="Ann Other", exp=expires))
    after = time.time() * 1000
    first, welcome = ann.messages[0], ann.welcome
    assert first["method"] == "session.welcome"
    assert before - 1_000 <= first["timestamp"] <= after + 1_000
    assert first["id"] == welcome["cursor"]
    named = {key: welcome.pop(key) for key in ("connectionId", "cursor", "server", "limits")}
    assert welcome == {
        "userId": "ann",
        "username": "Ann Other",
        "role": "gm",
        "room": player.room,
        "transport": player.transport.partition("-")[0],
        "recovered": False,
        "tokenExpiresAt": expires * 1000,
        "heartbeatInterval": 30_000,
    }
    assert named["connectionId"]
    assert named["server"].keys() == {"name", "version"}
    assert named["limits"] == {"messageBytes": 65_536, "messagesPerMinute": 0, "cursorHz": 60}


@pytest.mark.rule("CO7")
async def test_each_connection_has_a_name_of_its_own(player: Players) -> None:
    there = [await player("ann") for _ in range(3)]
    assert len({each.welcome["connectionId"] for each in there}) == 3


@pytest.mark.rule("CO8", "AC2")
async def test_a_newcomer_is_shown_the_room_before_anything_live(player: Players) -> None:
    ann = await player("ann")
    await ann.draw("one", "two")
    for number in range(55):
        await ann.request("activity.post", {"type": "chat_message", "data": {"text": f"line {number}"}})
    bob = await player("bob", at=1)
    opening = ["session.welcome", "canvas.snapshot", "presence.snapshot", "activity.snapshot"]
    assert bob.told()[:4] == opening
    pages = [message["data"] for message in bob.messages[1:4]]
    assert [page["more"] for page in pages] == [False, False, False]
    assert [each["id"] for each in pages[0]["operations"]] == ["one", "two"]
    assert {each["userId"] for each in pages[1]["presence"]} == {"ann", "bob"}
    activities = pages[2]["activities"]
    assert len(activities) == 50
    assert [each["id"] for each in activities] == sorted(each["id"] for each in activities)
    said = [each["data"]["text"] for each in activities if each["type"] == "chat_message"]
    assert said == [f"line {number}" for number in range(55)][-len(said) :]
    assert len(said) >= 49  # bob's own coming may be the fiftieth


@pytest.mark.rule("CO8")
async def test_a_large_room_is_shown_in_pages(player: Players) -> None:
    ann = await player("ann", transport="websocket-json")
    idents = [f"s{number}" for number in range(20)]
    for ident in idents:
        await ann.request("canvas.draw", {"operations": [thick(ident)]})
    bob = await player("bob", at=1)
    assert [each["id"] for each in bob.shown["canvas"]] == idents
    pages = [m["data"] for m in bob.messages if m.get("method") == "canvas.snapshot"]
    assert len(pages) > 2
    assert [page["more"] for page in pages] == [True] * (len(pages) - 1) + [False]
    assert all(len(json.dumps(page, separators=(",", ":"))) <= PAGE for page in pages)


@pytest.mark.rule("CO8", "RS2")
async def test_nothing_is_missing_or_doubled_between_the_snapshots_and_what_is_live(player: Players) -> None:
    ann = await player("ann", transport="websocket-json")
    idents = [f"s{number}" for number in range(60)]
    comers: list[Player] = []

    async def draw() -> None:
        for ident in idents:
            await ann.draw(ident)

    async def come() -> None:
        comers.extend([await player(f"comer-{number}", at=number % 2) for number in range(6)])

    async with asyncio.timeout(4 * WAIT):
        await asyncio.gather(draw(), come())
    for each in comers:
        shown = [operation["id"] for operation in each.shown["canvas"]]
        await each.wait_for(partial(has_strokes, each, len(idents) - len(shown)))
        assert shown + each.strokes() == idents


# Signs of life


@pytest.fixture(scope="module")
async def hasty(gateway: Any) -> Program:
    """A gateway that wants signs of life every 0.4 s."""
    program: Program = await gateway(HEARTBEAT_SECONDS="0.4")
    return program


@pytest.mark.rule("CO9")
async def test_a_silent_peer_is_pinged_and_dropped(hasty: Program, room: str) -> None:
    async with Wire(hasty) as wire:
        await wire.upgrade(room, "ann")
        began, pings = time.monotonic(), 0
        while (came := await wire.frame()).opcode != CLOSE:
            pings += came.opcode == PING
    assert time.monotonic() - began >= 0.8
    assert pings >= 1


@pytest.mark.rule("CO9")
async def test_a_peer_that_answers_pings_stays_though_it_says_nothing(hasty: Program, room: str) -> None:
    async with Wire(hasty) as wire:
        await wire.upgrade(room, "ann")
        pings = 0
        while pings < 6:
            came = await wire.frame()
            if came.opcode == PING:
                pings += 1
                await wire.send(frame(PONG, came.payload))
        await wire.say({"type": "request", "id": "1", "method": "heartbeat"})
        await wire.message("response", id="1")


@pytest.mark.rule("CO9")
async def test_readers_without_pings_are_sent_heartbeats(hasty: Program, everyone: Players) -> None:
    for transport in ("sse", "poll-json"):
        ann = await everyone("ann", transport=transport, at=hasty)
        for _ in range(3):
            beat = await ann.event("heartbeat")
            assert "id" not in beat
            assert abs(beat["data"]["serverTime"] - time.time() * 1000) < 5_000


@pytest.mark.rule("CO9", "PR1")
@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such limit")
async def test_a_reader_of_the_stream_who_takes_nothing_any_more_is_dropped(
    hasty: Program, everyone: Players
) -> None:
    """Heartbeats go unanswered over SSE: what tells is that the peer's network takes none of them."""
    ann = await everyone("ann", at=hasty)
    async with Wire(hasty, narrow=True) as wire:
        await wire.ask(f"/sse?room={everyone.room}", Authorization=f"Bearer {token('gone')}")
        await wire.through(b"event: activity.snapshot")
        await until(streams(hasty, 1))  # those of earlier tests have gone
        for number in range(12):  # less than what ends a slow reader's connection
            await ann.request("canvas.draw", {"operations": [thick(f"s{number}")]})
        await until(streams(hasty, 0), 3 * WAIT)
    assert not ann.closed.done()


def streams(program: Program, number: int) -> Callable[[], Awaitable[bool]]:
    """Whether the gateway counts so many connections over SSE."""

    async def holds() -> bool:
        async with http(program) as client:
            lines = (await client.get("/metrics")).text.splitlines()
        found = [line for line in lines if line.startswith("roundtable_gateway_connections{")]
        return sum(float(line.rpartition(" ")[2]) for line in found if '"sse"' in line) == number

    return holds


@pytest.mark.rule("CO9")
async def test_heartbeats_are_answered_with_the_time_of_the_server(player: Players) -> None:
    ann = await player("ann")
    answer = await ann.request("heartbeat")
    assert abs(answer["serverTime"] - time.time() * 1000) < 5_000


# The end


@pytest.mark.rule("CO10", "PR1", "RS2")
async def test_a_gateway_that_ends_sends_its_people_elsewhere_and_nobody_seems_gone(
    table: System, gateway: Any, everyone: Players
) -> None:
    leaver: Program = await gateway(DRAIN_SECONDS="2")
    watcher = await everyone("watcher", "gm")
    there: list[Player] = [await everyone(name, transport=name, at=leaver) for name in TRANSPORTS]
    quitter = await everyone("quitter", at=leaver)
    await watcher.draw("before")
    for each in there:
        await each.event("canvas.draw")
    ends: dict[str, float] = {}

    async def sent_away(each: Player) -> Player:
        assert await each.close_code(2 * WAIT) == (1001, "draining")
        ends[each.user] = time.monotonic()
        return await everyone(each.user, transport=each.user, at=1, cursor=each.cursor)

    leaver.send(signal.SIGTERM)
    coming = [asyncio.create_task(sent_away(each)) for each in there]
    await until(lambda: _is(leaver, 503), 2)
    late = await everyone.turned_away("late", at=leaver)
    assert late == (1001, "draining")
    for request in ({"transport": "sse"}, {"transport": "poll-json"}):
        assert await everyone.turned_away("late", at=leaver, **request) == (1001, "draining")
    back = await asyncio.gather(*coming)
    assert await quitter.close_code(2 * WAIT) == (1001, "draining")
    assert await leaver.end() == 0
    assert max(ends.values()) - min(ends.values()) > 0.2

    await watcher.draw("after")
    for each in back:
        assert each.welcome["recovered"]
        await each.event("canvas.draw", lambda data: data["operations"][0]["id"] == "after")
        assert each.strokes() == ["after"]
    gone = await watcher.event("presence.update", lambda data: data["status"] == "offline", wait=3 * WAIT)
    assert gone["data"]["userId"] == "quitter"
    moves = [
        m["data"] for m in watcher.messages if m.get("method") == "presence.update" and m["type"] == "event"
    ]
    assert [each["userId"] for each in moves if each["status"] == "offline"] == ["quitter"]
    assert len([each for each in moves if each["userId"] in TRANSPORTS]) == len(TRANSPORTS)


async def _is(program: Program, status: int) -> bool:
    return await program.status("/readyz") == status


@pytest.mark.rule("CO10", "CO3")
async def test_who_still_listens_at_a_gateway_that_ends_is_also_heard_there(
    gateway: Any, everyone: Players
) -> None:
    leaver: Program = await gateway(DRAIN_SECONDS="6")
    there = [await everyone(f"{name}-{n}", transport=name, at=leaver) for n in range(3) for name in HTTP]
    leaver.send(signal.SIGTERM)
    await asyncio.wait([each.closed for each in there], timeout=WAIT, return_when=asyncio.FIRST_COMPLETED)
    left = [each for each in there if not each.closed.done()]
    assert left
    for each in left:
        assert await each.draw(f"by-{each.user}")
    assert await leaver.end() == 0


@pytest.mark.rule("CO10", "CO4")
async def test_a_gateway_that_ends_keeps_no_http_connection_to_be_asked_again_over(
    gateway: Any, everyone: Players
) -> None:
    leaver: Program = await gateway(DRAIN_SECONDS="6")
    for number in range(6):  # whose leaving takes the whole drain
        await everyone(f"reader-{number}", at=leaver)
    leaver.send(signal.SIGTERM)
    await until(lambda: _is(leaver, 503), 2)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{leaver.port}") as client:
        for path in ("/sse?room=late", "/poll?room=late"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["error"]["reason"]) == (503, "draining")
            assert answer.headers["Connection"] == "close"
    assert await leaver.end() == 0


@pytest.mark.rule("CO10")
async def test_an_end_among_nobody_is_quick_and_clean(gateway: Any) -> None:
    leaver: Program = await gateway(DRAIN_SECONDS="30")
    began = time.monotonic()
    assert await leaver.end() == 0
    assert time.monotonic() - began < 8


@pytest.mark.rule("CO10", "RS2")
async def test_old_connections_are_sent_elsewhere_each_in_its_own_time_and_miss_nothing(
    gateway: Any, everyone: Players
) -> None:
    aging: Program = await gateway(MAX_CONNECTION_SECONDS="2")
    watcher = await everyone("watcher", "gm")
    transports = [name for name in TRANSPORTS if not name.startswith("poll")]
    there: list[Player] = []
    began: dict[str, float] = {}
    for name in transports * 2:
        user = f"{name}-{len(there)}"
        began[user] = time.monotonic()
        there.append(await everyone(user, transport=name, at=aging))
    await watcher.draw("before")
    ages: list[float] = []

    async def sent_away(each: Player) -> Player:
        assert await each.close_code(2 * WAIT) == (1001, "draining")
        ages.append(time.monotonic() - began[each.user])
        transport = each.user.rpartition("-")[0]
        return await everyone(each.user, transport=transport, at=1, cursor=each.cursor)

    back = await asyncio.gather(*map(sent_away, there))
    assert min(ages) >= 1.5
    assert max(ages) - min(ages) > 0.02
    assert await aging.status("/readyz") == 200
    await watcher.draw("after")
    for before, after in zip(there, back, strict=True):
        await after.event("canvas.draw", lambda data: data["operations"][0]["id"] == "after")
        assert after.welcome["recovered"]
        assert before.strokes() + after.strokes() == ["before", "after"]
