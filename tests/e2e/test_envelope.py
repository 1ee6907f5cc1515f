"""The form of messages, both ways, and of errors (EN1–EN7)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from roundtable.common.testing.forms import Players, http, refused
from roundtable.common.testing.players import WAIT, Player, stroke, token
from roundtable.common.testing.system import System
from roundtable.common.testing.wire import TEXT, Wire, frame

BOTH_WAYS = pytest.mark.transports("websocket-json", "websocket-msgpack", "sse", "poll-msgpack")
"""Up by frames and by requests, in either format."""
ALL = {"type", "id", "method", "params", "data", "error", "timestamp"}


def answers_to(who: Player, *idents: str) -> list[dict[str, Any]]:
    return [m for m in who.messages if m["type"] in ("response", "error") and m.get("id") in idents]


def answered(who: Player, *idents: str) -> Callable[[], bool]:
    return lambda: len(answers_to(who, *idents)) >= len(idents)


async def told_in_order(who: Player) -> None:
    """Returns when all that was sent before has been dealt with: an answer to a later request is there."""
    await who.request("heartbeat")


def draw(ident: str, *strokes: str) -> dict[str, Any]:
    operations = [stroke(each) for each in strokes]
    return {"type": "request", "id": ident, "method": "canvas.draw", "params": {"operations": operations}}


# Requests and events


@pytest.mark.rule("EN1")
async def test_all_that_the_server_says_is_a_message_with_a_type_and_a_time(player: Players) -> None:
    ann = await player("ann", "gm")
    bob = await player("bob")
    await bob.tell("presence.cursor", {"x": 1, "y": 2})
    await bob.draw("s")
    await refused(bob.request("canvas.clear", {"scope": "all"}))
    await ann.request("activity.post", {"type": "dice_roll", "data": {"expression": "2d6"}})
    await ann.event("activity.post", lambda data: data["type"] == "dice_roll")
    now = time.time() * 1000
    for message in ann.messages + bob.messages:
        assert message["type"] in ("response", "event", "error")
        assert message.keys() <= ALL
        assert isinstance(message["timestamp"], int | float)
        assert now - 60_000 < message["timestamp"] < now + 5_000


@pytest.mark.rule("EN1")
async def test_a_client_may_leave_the_time_out(player: Players) -> None:
    ann = await player("ann")
    await ann.transmit({"type": "request", "id": "timeless", "method": "canvas.state"})
    await ann.wait_for(answered(ann, "timeless"))
    assert answers_to(ann, "timeless")[0]["type"] == "response"


@pytest.mark.rule("EN1", "EN2")
async def test_the_messages_of_a_batch_are_answered_one_by_one(player: Players) -> None:
    ann = await player("ann")
    await ann.transmit([draw("1", "a"), {**draw("2", "b"), "extra": 1}, draw("3", "c", "d"), draw("4", "a")])
    await ann.wait_for(answered(ann, "1", "2", "3", "4"))
    kinds = {m["id"]: m["type"] for m in answers_to(ann, "1", "2", "3", "4")}
    assert kinds == {"1": "response", "2": "error", "3": "response", "4": "error"}
    assert len(answers_to(ann, "1", "2", "3", "4")) == 4
    await ann.event("canvas.draw", lambda data: data["operations"][-1]["id"] == "d")
    assert ann.strokes() == ["a", "c", "d"]


@pytest.mark.rule("EN1")
async def test_a_batch_holds_a_hundred_messages(player: Players) -> None:
    ann = await player("ann")
    idents = [str(number) for number in range(100)]
    await ann.transmit([{"type": "request", "id": each, "method": "heartbeat"} for each in idents])
    await ann.wait_for(answered(ann, *idents))


@pytest.mark.rule("EN1")
@pytest.mark.transports("websocket")
async def test_a_batch_of_more_than_a_hundred_is_refused_and_nothing_of_it_is_done(player: Players) -> None:
    ann = await player("ann")
    await ann.transmit([draw(str(number), f"s{number}") for number in range(101)])
    await ann.wait_for(lambda: bool(ann.errors()))
    assert [(e["code"], e["reason"]) for e in ann.errors()] == [(1007, "invalid_data")]
    assert (await ann.request("canvas.state"))["operations"] == []


@pytest.mark.rule("EN2")
async def test_a_request_is_answered_once_with_its_id_and_method(player: Players) -> None:
    ann = await player("ann")
    longest = "x" * 64
    for ident, message in {
        "good": draw("good", "s"),
        "bad": draw("bad", "s"),
        longest: {**draw(longest, "t")},
    }.items():
        await ann.transmit(message)
        await ann.wait_for(answered(ann, ident))
    await told_in_order(ann)
    found = answers_to(ann, "good", "bad", longest)
    assert [(m["id"], m["method"], m["type"]) for m in found] == [
        ("good", "canvas.draw", "response"),
        ("bad", "canvas.draw", "error"),
        (longest, "canvas.draw", "response"),
    ]


@pytest.mark.rule("EN2")
async def test_an_event_is_answered_only_when_it_is_refused(player: Players) -> None:
    ann = await player("ann")
    await ann.tell("presence.cursor", {"x": 1, "y": 2})
    await ann.tell("presence.cursor", {"x": "far", "y": 2})
    await told_in_order(ann)
    assert [(e["code"], e["reason"]) for e in ann.errors()] == [(1007, "invalid_data")]
    replies = [m for m in ann.messages if m["type"] != "event"]
    assert [m["type"] for m in replies] == ["error", "response"]


MALFORMED: dict[str, tuple[Any, str]] = {
    "a request without an id": ({"type": "request", "method": "heartbeat"}, "id"),
    "an empty id": ({"type": "request", "id": "", "method": "heartbeat"}, "id"),
    "too long an id": ({"type": "request", "id": "x" * 65, "method": "heartbeat"}, "id"),
    "an id that is a number": ({"type": "request", "id": 7, "method": "heartbeat"}, "id"),
    "no method": ({"type": "request", "id": "1"}, "method"),
    "a method that is a number": ({"type": "request", "id": "1", "method": 1}, "method"),
    "no type": ({"id": "1", "method": "heartbeat"}, "type"),
    "an unknown type": ({"type": "question", "id": "1", "method": "heartbeat"}, "type"),
    "a response": ({"type": "response", "id": "1", "method": "heartbeat", "data": {}}, "type"),
    "an error": ({"type": "error", "id": "1", "error": {"code": 1000, "message": ""}}, "type"),
    "an unknown field": ({"type": "request", "id": "1", "method": "heartbeat", "colour": 1}, "colour"),
    "data in place of params": ({"type": "request", "id": "1", "method": "heartbeat", "data": {}}, "data"),
    "a time that is a text": (
        {"type": "request", "id": "1", "method": "heartbeat", "timestamp": "now"},
        "timestamp",
    ),
    "params that are a list": (
        {"type": "request", "id": "1", "method": "canvas.state", "params": []},
        "params",
    ),
    "params that are null": (
        {"type": "request", "id": "1", "method": "canvas.draw", "params": None},
        "params",
    ),
}


@pytest.mark.rule("EN2", "EN3", "EN7")
@BOTH_WAYS
@pytest.mark.parametrize("kind", MALFORMED)
async def test_a_malformed_message_is_refused_and_the_connection_stays(player: Players, kind: str) -> None:
    message, named = MALFORMED[kind]
    ann = await player("ann")
    await ann.transmit(message)
    await ann.wait_for(lambda: bool(ann.errors()))
    (error,) = ann.errors()
    assert (error["code"], error["reason"]) == (1007, "invalid_data")
    assert named in error["message"]
    await told_in_order(ann)


@pytest.mark.rule("EN2", "EN7")
@pytest.mark.parametrize(
    "method", ["canvas.paint", "Canvas.Draw", "presence.open", "session.welcome", "x" * 300]
)
async def test_an_unknown_method_is_told_as_such(player: Players, method: str) -> None:
    ann = await player("ann")
    error = await refused(ann.request(method))
    assert error.word == (1003, "unknown_method")
    assert method[:60] in error.message
    await told_in_order(ann)


UNKNOWN: dict[str, tuple[str, Any]] = {
    "params.colour": ("canvas.draw", {"operations": [stroke("s")], "colour": 1}),
    "params.operations[1].opacity": ("canvas.draw", {"operations": [stroke("s"), stroke("t", opacity=1)]}),
    "params.operations[0].points[1].z": (
        "canvas.draw",
        {"operations": [stroke("s", points=[{"x": 1, "y": 1}, {"x": 1, "y": 1, "z": 1}])]},
    ),
    "params.everything": ("canvas.clear", {"everything": True}),
    "params.mood": ("presence.update", {"mood": "good"}),
    "params.activity.mood": ("presence.update", {"activity": {"type": "typing", "mood": "good"}}),
    "params.data.bold": ("activity.post", {"type": "chat_message", "data": {"text": "x", "bold": True}}),
    "params.offset": ("activity.list", {"offset": 1}),
    "params.now": ("heartbeat", {"now": 1}),
}


@pytest.mark.rule("EN3")
@BOTH_WAYS
@pytest.mark.parametrize("path", UNKNOWN)
async def test_a_field_that_is_not_known_is_refused_by_its_path(player: Players, path: str) -> None:
    method, params = UNKNOWN[path]
    ann = await player("ann", "gm")
    error = await refused(ann.request(method, params))
    assert error.word == (1007, "invalid_data")
    assert path in error.message or path.replace("[1]", "[...]").replace("[0]", "[...]") in error.message
    assert (await ann.request("canvas.state"))["operations"] == []


WRONG: dict[str, tuple[str, Any]] = {
    "params.operations": ("canvas.draw", {}),
    "params.operations[0].size": ("canvas.draw", {"operations": [stroke("s", size="thick")]}),
    "params.operations[0].points[0].x": (
        "canvas.draw",
        {"operations": [stroke("s", points=[{"x": None, "y": 1}])]},
    ),
    "params.scope": ("canvas.clear", {"scope": "yours"}),
    "params.status": ("presence.update", {"status": "offline"}),
    "params.activity.type": ("presence.update", {"activity": {"type": "sleeping"}}),
    "params.limit": ("activity.list", {"limit": 201}),
}


@pytest.mark.rule("EN3", "EN7")
@BOTH_WAYS
@pytest.mark.parametrize("path", WRONG)
async def test_a_wrong_value_is_refused_by_its_path(player: Players, path: str) -> None:
    method, params = WRONG[path]
    ann = await player("ann", "gm")
    error = await refused(ann.request(method, params))
    assert error.word == (1007, "invalid_data")
    last = path.removeprefix("params.").rpartition(".")[2].partition("[")[0]
    assert last in error.message
    assert (await ann.request("canvas.state"))["operations"] == []


# What the server tells


@pytest.mark.rule("EN4")
async def test_an_event_that_is_kept_has_the_cursor_after_it_and_others_have_none(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob")
    await bob.draw("s")
    await bob.tell("presence.cursor", {"x": 1, "y": 2})
    await bob.tell(
        "canvas.preview", {"id": "p", "tool": "pen", "color": "#fff", "size": 1, "points": [{"x": 1, "y": 1}]}
    )
    await bob.request("activity.post", {"type": "chat_message", "data": {"text": "hi"}})
    await ann.event("activity.post", lambda data: data["type"] == "chat_message")
    seen = {m["method"] for m in ann.messages if m["type"] == "event"}
    if "presence.cursor" not in seen:
        await ann.event("presence.cursor")
    if "canvas.preview" not in {m["method"] for m in ann.messages if m["type"] == "event"}:
        await ann.event("canvas.preview")
    cursors = []
    for message in ann.messages:
        if message["type"] != "event":
            continue
        kept = message["method"] in (
            "canvas.draw",
            "activity.post",
            "presence.update",
            "session.welcome",
            "session.cursor",
        )
        assert ("id" in message) == kept, message
        if kept:
            cursors.append(message["id"])
    assert len(set(cursors)) == len(cursors)


@pytest.mark.rule("EN5")
async def test_what_is_asked_for_is_told_to_all_by_its_name_the_sender_included(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob", at=1)
    asked: list[tuple[str, Any]] = [
        ("canvas.draw", {"operations": [stroke("s")]}),
        ("canvas.undo", {}),
        ("canvas.redo", {}),
        ("canvas.clear", {}),
        ("presence.update", {"status": "away"}),
        ("activity.post", {"type": "note_edited", "data": {"noteId": "n"}}),
    ]
    for method, params in asked:
        await ann.request(method, params)
        for each in (ann, bob):
            await each.event(method)


@pytest.mark.rule("EN5", "CV3")
async def test_all_see_the_same_order_whoever_draws_wherever(player: Players) -> None:
    there = [await player(f"p{number}", at=number % 2) for number in range(4)]

    async def draws(who: Player) -> None:
        for number in range(10):
            await who.draw(f"{who.user}-{number}")

    async with asyncio.timeout(4 * WAIT):
        await asyncio.gather(*map(draws, there))
        for each in there:
            await each.wait_for(lambda each=each: len(each.strokes()) >= 40)  # type: ignore[misc]
    assert sorted(there[0].strokes()) == sorted(
        f"p{who}-{number}" for who in range(4) for number in range(10)
    )
    assert all(each.strokes() == there[0].strokes() for each in there)
    state = await there[0].request("canvas.state")
    assert [each["id"] for each in state["operations"]] == there[0].strokes()


@pytest.mark.rule("EN6")
async def test_an_event_stream_has_the_method_the_cursor_and_one_line_of_json(
    table: System, room: str, everyone: Players
) -> None:
    ann = await everyone("ann")
    headers = {"Authorization": f"Bearer {token('bob')}"}
    async with (
        http(table.gateway) as client,
        client.stream("GET", "/sse", params={"room": room}, headers=headers) as stream,
        asyncio.timeout(WAIT),
    ):
        lines = stream.aiter_lines()
        block: list[str] = []
        blocks: list[dict[str, str]] = []
        drawn = False
        async for line in lines:
            if line:
                block.append(line)
                continue
            fields = [each.partition(": ") for each in block if not each.startswith(":")]
            block = []
            if not fields:
                continue
            assert len({name for name, _, _ in fields}) == len(fields), "a field stands there twice"
            blocks.append({name: value for name, _, value in fields})
            if blocks[-1]["event"] == "activity.snapshot" and not drawn:
                drawn = True
                await ann.request("activity.post", {"type": "chat_message", "data": {"text": "two\nlines"}})
            if "two" in blocks[-1]["data"]:
                break
    for each in blocks:
        data = json.loads(each["data"])
        assert data["type"] == each["event"]
        assert data.get("id") == each.get("id")
        assert data.keys() - {"id"} == {"type", "data", "timestamp"}
    assert blocks[0]["id"] == json.loads(blocks[0]["data"])["data"]["cursor"]


@pytest.mark.rule("EN6")
@pytest.mark.parametrize("media", ["application/json", "application/msgpack"])
async def test_a_poll_answers_with_the_same_events_and_a_cursor(table: System, room: str, media: str) -> None:
    headers = {"Authorization": f"Bearer {token('ann')}", "Accept": media}
    async with http(table.gateway) as client:
        answer = await client.get("/poll", params={"room": room}, headers=headers)
    if answer.headers["content-type"].startswith("application/json"):
        told = answer.json()
        assert told.keys() == {"events", "cursor"}
        for event in told["events"]:
            assert event.keys() - {"id"} == {"type", "data", "timestamp"}
        assert told["events"][0]["type"] == "session.welcome"
    assert answer.headers["cache-control"] == "no-store"


# Errors


@pytest.mark.rule("EN7")
async def test_an_error_names_its_request_a_code_a_word_and_what_was_wrong(player: Players) -> None:
    ann = await player("ann")
    await refused(ann.request("canvas.draw", {"operations": [stroke("s", color="reddish")]}, ident="mine"))
    (message,) = [m for m in ann.messages if m["type"] == "error"]
    assert (message["id"], message["method"]) == ("mine", "canvas.draw")
    error = message["error"]
    assert error.keys() == {"code", "reason", "message"}
    assert (error["code"], error["reason"]) == (1007, "invalid_data")
    assert "color" in error["message"]


@pytest.mark.rule("EN7")
async def test_a_refused_websocket_is_accepted_first_and_closed_with_its_code(
    table: System, room: str
) -> None:
    async with Wire(table.gateway) as wire:
        status, _ = await wire.upgrade(room, Authorization="Bearer nonsense")
        assert status == 101
        assert await wire.closed() == (1008, "token_invalid")


@pytest.mark.rule("EN7")
async def test_a_normal_end_is_answered_with_the_same_code(table: System, room: str) -> None:
    async with Wire(table.gateway) as wire:
        await wire.upgrade(room, "ann")
        await wire.message("event", method="activity.snapshot")
        await wire.send(frame(0x8, (1000).to_bytes(2, "big")))
        assert await wire.closed() == (1000, "bye")


@pytest.mark.rule("EN7", "CO3")
@pytest.mark.parametrize("path", ["/no/such/page", "/rpc/more"])
async def test_over_http_an_unknown_address_is_an_error_object_too(table: System, path: str) -> None:
    async with http(table.gateway) as client:
        answer = await client.get(path)
        wrong = await client.delete("/rpc")
    assert answer.status_code == 404
    assert wrong.status_code == 405
    for each in (answer, wrong):
        error = each.json()["error"]
        assert error.keys() >= {"code", "reason", "message"}


@pytest.mark.rule("EN7")
async def test_an_unreadable_message_is_an_error_without_an_id(table: System, room: str) -> None:
    async with Wire(table.gateway) as wire:
        await wire.upgrade(room, "ann")
        await wire.send(frame(TEXT, b'{"type": "request"'))
        error = await wire.message("error")
        assert "id" not in error
        assert (error["error"]["code"], error["error"]["reason"]) == (1007, "invalid_data")
