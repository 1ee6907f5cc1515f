"""How much, how often, how many (LI1–LI4)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from roundtable.common.testing.forms import TRANSPORTS, Players, Refused, http, refused, until
from roundtable.common.testing.players import (
    WAIT,
    Player,
    Problem,
    WebSocketPlayer,
    stroke,
    token,
)
from roundtable.common.testing.system import Program
from roundtable.common.testing.wire import BINARY, CONTINUATION, TEXT, Wire, frame

LIMIT = 65_536
ONE_EACH = pytest.mark.transports("websocket-json", "websocket-msgpack", "sse", "poll-json")


@pytest.fixture(scope="module")
async def strict(gateway: Any) -> Program:
    """A gateway with the limits that it has when nobody sets any."""
    program: Program = await gateway(
        MESSAGES_PER_MINUTE="", MAX_CONNECTIONS_PER_USER="", MAX_CONNECTIONS_PER_ADDRESS=""
    )
    return program


def filled(ident: str, size: int) -> bytes:
    """A request of exactly that many bytes."""
    return json.dumps({"type": "request", "id": ident, "method": "heartbeat"}).encode().ljust(size)


# Size


@pytest.mark.rule("LI1")
async def test_a_message_may_have_64_kb_and_not_one_byte_more(player: Players) -> None:
    async with Wire(player.system.gateway) as wire:
        await wire.upgrade(player.room, "ann")
        await wire.send(frame(TEXT, filled("largest", LIMIT)))
        await wire.message("response", id="largest")
        await wire.send(frame(TEXT, filled("too-large", LIMIT + 1)))
        assert await wire.closed() == (1009, "too_big")


@pytest.mark.rule("LI1")
async def test_a_message_in_pieces_counts_as_a_whole(player: Players) -> None:
    async with Wire(player.system.gateway) as wire:
        await wire.upgrade(player.room, "ann")
        message = filled("largest", LIMIT)
        await wire.send(frame(TEXT, message[:40_000], fin=False) + frame(CONTINUATION, message[40_000:]))
        await wire.message("response", id="largest")
        message = filled("too-large", LIMIT + 1)
        await wire.send(frame(TEXT, message[:40_000], fin=False) + frame(CONTINUATION, message[40_000:]))
        assert await wire.closed() == (1009, "too_big")


@pytest.mark.rule("LI1")
async def test_the_limit_holds_in_messagepack(player: Players) -> None:
    async with Wire(player.system.gateway) as wire:
        await wire.upgrade(player.room, "ann", Sec_WebSocket_Protocol="roundtable.v1.msgpack")
        text = {"type": "request", "id": "1", "method": "heartbeat", "params": {"x": "x" * LIMIT}}
        await wire.send(frame(BINARY, msgspec.msgpack.encode(text)))
        assert await wire.closed() == (1009, "too_big")


@pytest.mark.rule("LI1", "CO3")
async def test_the_limit_holds_for_the_body_of_a_request(player: Players) -> None:
    headers = {"Authorization": f"Bearer {token('ann')}", "Content-Type": "application/json"}
    async with http(player.system.gateway) as client:
        good = await client.post(
            "/rpc", params={"room": player.room}, content=filled("1", LIMIT), headers=headers
        )
        assert good.json()["type"] == "response"
        bad = await client.post(
            "/rpc", params={"room": player.room}, content=filled("1", LIMIT + 1), headers=headers
        )
        assert (bad.status_code, bad.json()["error"]["code"], bad.json()["error"]["reason"]) == (
            413,
            1009,
            "too_big",
        )

        async def pieces() -> Any:
            for _ in range(20):
                yield b" " * 4_096

        bad = await client.post("/rpc", params={"room": player.room}, content=pieces(), headers=headers)
        assert bad.status_code == 413


@pytest.mark.rule("LI1", "EN1")
@pytest.mark.transports("websocket")
async def test_nothing_of_too_large_a_batch_is_done(player: Players) -> None:
    watcher = await player("watcher", at=1)
    ann = await player("ann")
    points = [{"x": n + 0.123456789, "y": n + 0.987654321} for n in range(1_500)]
    await ann.transmit(
        [
            {"type": "request", "id": str(number), "method": "canvas.draw",
             "params": {"operations": [stroke(f"s{number}", points=points)]}}
            for number in range(3)
        ]
    )  # fmt: skip
    assert await ann.close_code() == (1009, "too_big")
    assert (await watcher.request("canvas.state"))["operations"] == []


# Rate


async def spend(who: Player, number: int) -> list[Refused | None]:
    """That many requests at once: for each, None or its refusal."""
    found: list[Refused | None] = []

    async def one() -> None:
        try:
            await who.request("presence.list")
            found.append(None)
        except Problem as problem:
            found.append(Refused(problem.code, problem.reason, problem.message, problem.retry_after))

    async with asyncio.timeout(4 * WAIT):
        await asyncio.gather(*(one() for _ in range(number)))
    return found


@pytest.mark.rule("LI2")
@ONE_EACH
async def test_a_user_may_send_a_hundred_messages_a_minute(player: Players, strict: Program) -> None:
    user = f"ann-{player.room}"
    ann = await player(user, at=strict)
    assert ann.welcome["limits"]["messagesPerMinute"] == 100
    began = time.monotonic()
    answers = await spend(ann, 110)
    took = time.monotonic() - began
    limited = [each for each in answers if each is not None]
    assert 110 - 100 - took * 100 / 60 - 1 <= len(limited) <= 10
    assert {each.word for each in limited} <= {(1008, "rate_limited")}
    assert all(each.retry_after is not None and 0 < each.retry_after <= 1 for each in limited)
    # Nothing happens, but what is never counted goes on.
    error = await _until_refused(ann)
    assert error.word == (1008, "rate_limited")
    await ann.request("heartbeat")
    assert (await ann.request("auth.refresh", {"token": token(user, "*")}))["userId"] == user
    for _ in range(20):
        await ann.tell("presence.cursor", {"x": 1, "y": 1})
        await ann.tell(
            "canvas.preview", {"id": "p", **{k: v for k, v in stroke("p").items() if k not in ("type", "id")}}
        )
    await ann.request("heartbeat")
    assert {each["reason"] for each in ann.errors()} == {"rate_limited"}
    other = await player(f"bob-{player.room}", at=strict)
    assert await visible(other) == []
    # After the time that was told, there is room for one again.
    async with asyncio.timeout(WAIT):
        while True:
            try:
                await ann.draw("patient")
                break
            except Problem as problem:
                assert problem.retry_after is not None  # noqa: PT017
                await asyncio.sleep(problem.retry_after)
    assert await visible(other) == ["patient"]


async def visible(who: Player) -> list[str]:
    return [each["id"] for each in (await who.request("canvas.state"))["operations"]]


async def _until_refused(who: Player) -> Refused:
    for number in range(300):
        try:
            await who.request("activity.post", {"type": "note_edited", "data": {"noteId": str(number)}})
        except Problem as problem:
            return Refused(problem.code, problem.reason, problem.message, problem.retry_after)
    raise AssertionError("was never refused")


@pytest.mark.rule("LI2", "EN1")
async def test_each_message_of_a_batch_counts(strict: Program, everyone: Players) -> None:
    ann = await everyone(f"ann-{everyone.room}", at=strict)
    for start in (0, 70):
        await ann.transmit(
            [{"type": "request", "id": str(start + n), "method": "canvas.state"} for n in range(70)]
        )
    await ann.wait_for(lambda: len([m for m in ann.messages if m["type"] in ("response", "error")]) == 140)
    assert 35 <= len(ann.errors()) <= 40
    assert {each["reason"] for each in ann.errors()} == {"rate_limited"}


@pytest.mark.rule("LI2")
async def test_all_connections_of_a_user_share_one_measure_and_each_user_has_their_own(
    strict: Program, everyone: Players
) -> None:
    user = f"ann-{everyone.room}"
    there = [
        await everyone(user, at=strict, transport=name) for name in ("websocket-json", "sse", "poll-json")
    ]
    answers = [answer for each in there for answer in await spend(each, 40)]
    assert 12 <= len([each for each in answers if each is not None]) <= 20
    other = await everyone(f"bob-{everyone.room}", at=strict)
    assert await spend(other, 20) == [None] * 20


@pytest.mark.rule("LI2", "EN2")
async def test_what_is_malformed_counts_and_whoever_goes_on_is_sent_away(
    player: Players, strict: Program
) -> None:
    ann = await player(f"ann-{player.room}", at=strict)
    await ann.transmit([{"type": "event", "method": "no.such.method"}] * 100)
    while not any(each["reason"] == "rate_limited" for each in ann.errors()):
        await ann.transmit([{"type": "event", "method": "no.such.method"}] * 5)
        await ann.request("heartbeat")
    assert {each["reason"] for each in ann.errors()} == {"unknown_method", "rate_limited"}
    assert not ann.closed.done()
    with contextlib.suppress(ConnectionError, ConnectionClosed):
        async with asyncio.timeout(2 * WAIT):
            while not ann.closed.done():
                await ann.transmit([{"type": "event", "method": "canvas.clear"}] * 20)
                await ann.request("heartbeat")
    assert await ann.close_code() == (1008, "rate_limited")
    refusals = [each for each in ann.errors() if each["reason"] == "rate_limited"]
    if player.transport.startswith("websocket"):
        assert len(refusals) == 100
    else:  # /rpc goes on answering, and the reader is told why it ended
        assert len(refusals) > 100


@pytest.mark.rule("LI2", "PR4")
@pytest.mark.transports("websocket-json", "sse")
async def test_cursors_count_for_no_limit(player: Players, strict: Program) -> None:
    ann = await player(f"ann-{player.room}", at=strict)
    watcher = await player("watcher", at=1)
    for number in range(30):
        await ann.transmit(
            [
                {"type": "event", "method": "presence.cursor", "params": {"x": number, "y": n}}
                for n in range(10)
            ]
        )
    await ann.draw("s")
    assert ann.errors() == []
    await watcher.event(
        "presence.cursor", lambda data: (data["cursors"][0]["x"], data["cursors"][0]["y"]) == (29, 9)
    )


# Connections


@pytest.mark.rule("LI3")
async def test_a_user_has_at_most_twenty_connections_at_a_gateway(strict: Program, everyone: Players) -> None:
    user = f"ann-{everyone.room}"
    names = list(TRANSPORTS)
    there = [await everyone(user, at=strict, transport=names[number % len(names)]) for number in range(20)]
    for transport in names:
        end = await everyone.turned_away(user, at=strict, transport=transport)
        assert end == (1008, "rate_limited")
    await everyone(user, at=0)  # each gateway counts for itself
    await everyone(f"bob-{everyone.room}", at=strict)
    assert all(not each.closed.done() for each in there)
    # One that goes makes room for one that comes.
    leaver = next(each for each in there if isinstance(each, WebSocketPlayer))
    await leaver.close()

    async def let_in() -> bool:
        comer = everyone.new(user, at=strict)
        await comer.open("")
        await comer.wait_for(lambda: bool(comer.messages) or comer.closed.done())
        return not comer.closed.done()

    await until(let_in)


@pytest.mark.rule("LI3", "EN7")
async def test_an_address_has_at_most_fifty_connections_at_a_gateway(strict: Program, room: str) -> None:
    address = "127.9.8.7"
    wires = [Wire(strict, address=address) for _ in range(51)]
    try:
        for number, wire in enumerate(wires[:50]):
            await wire.__aenter__()
            await wire.upgrade(room, f"u{number}-{room}")
            await wire.message("event", method="session.welcome")
        await wires[50].__aenter__()
        await wires[50].upgrade(room, f"u50-{room}")
        assert await wires[50].closed() == (1008, "rate_limited")
        async with Wire(strict, address=address) as http_wire:
            status, headers = await http_wire.ask(
                f"/sse?room={room}", Authorization=f"Bearer {token('sse-' + room)}"
            )
            assert status == 429
            assert int(headers["retry-after"]) > 0
        async with Wire(strict, address="127.9.8.8") as other:
            await other.upgrade(room, f"u51-{room}")
            await other.message("event", method="session.welcome")
    finally:
        for wire in wires:
            await wire.__aexit__(None, None, None)


@pytest.mark.rule("LI3")
@pytest.mark.parametrize("trusted", [True, False])
async def test_what_a_proxy_says_of_an_address_is_believed_if_the_proxy_is_trusted(
    gateway: Any, everyone: Players, trusted: bool
) -> None:
    program = await gateway(
        MAX_CONNECTIONS_PER_ADDRESS="2", TRUSTED_PROXIES="127.0.0.0/8" if trusted else "192.0.2.1"
    )

    def from_(*addresses: str) -> dict[str, Any]:
        return {"at": program, "headers": {"X-Forwarded-For": ", ".join(addresses)}}

    for name in ("ann", "bob"):
        await everyone(name, **from_("198.51.100.7"))
    assert await everyone.turned_away("cyd", **from_("198.51.100.7")) == (1008, "rate_limited")
    # What stands before the trusted proxies' own words anybody may have written.
    assert await everyone.turned_away("cyd", **from_("203.0.113.1", "198.51.100.7")) == (1008, "rate_limited")
    for transport in TRANSPORTS:
        if trusted:
            there = await everyone("dan", transport=transport, **from_("198.51.100.8"))
            await there.close()
        else:
            end = await everyone.turned_away("dan", transport=transport, **from_("198.51.100.8"))
            assert end == (1008, "rate_limited")


@pytest.mark.rule("LI4", "EN7")
async def test_only_so_many_polls_wait_at_a_gateway(gateway: Any, everyone: Players) -> None:
    program = await gateway(MAX_POLLS="1")

    async with http(program) as client:

        async def poll(user: str, **query: str) -> Any:
            headers = {"Authorization": f"Bearer {token(user)}"}
            return await client.get("/poll", params={"room": everyone.room, **query}, headers=headers)

        async def wait_for_ever() -> None:
            place: dict[str, str] = {}
            while True:
                answer = await poll("ann", **place)
                if answer.status_code == 200:
                    place["cursor"] = answer.json()["cursor"]

        async def refused_now() -> bool:
            answer = await poll("bob", timeout="0")
            if answer.status_code == 200:  # between two of ann's
                return False
            assert (answer.status_code, answer.json()["error"]["reason"]) == (503, "overloaded")
            assert int(answer.headers["retry-after"]) > 0
            return True

        waiting = asyncio.create_task(wait_for_ever())
        try:
            await until(refused_now)
        finally:
            waiting.cancel()
            await asyncio.wait((waiting,))


# Settings


@pytest.fixture(scope="module")
async def tight(gateway: Any) -> Program:
    program: Program = await gateway(
        MESSAGES_PER_MINUTE="5",
        CURSOR_HZ="10",
        MAX_CONNECTIONS_PER_USER="2",
        MAX_CONNECTIONS_PER_ADDRESS="3",
        MESSAGE_BYTES="2048",
        HEARTBEAT_SECONDS="7",
    )
    return program


@pytest.mark.rule("LI4", "CO7")
async def test_every_limit_is_a_setting_and_told_in_the_welcome(tight: Program, everyone: Players) -> None:
    ann = await everyone("ann", at=tight)
    assert ann.welcome["limits"] == {"messageBytes": 2_048, "messagesPerMinute": 5, "cursorHz": 10}
    assert ann.welcome["heartbeatInterval"] == 7_000
    second = await everyone("ann", at=tight)
    assert await everyone.turned_away("ann", at=tight) == (1008, "rate_limited")
    await everyone("bob", at=tight)
    assert await everyone.turned_away("carol", at=tight) == (1008, "rate_limited")
    answers = await spend(ann, 7)
    assert 1 <= len([each for each in answers if each is not None]) <= 2
    error = next(each for each in answers if each is not None)
    assert error.retry_after is not None
    assert 5 < error.retry_after <= 12
    assert isinstance(second, WebSocketPlayer)
    assert second.socket is not None
    await second.socket.send(filled("fits", 2_048).decode())
    await second.wait_for(lambda: any(m.get("id") == "fits" for m in second.messages))
    await second.socket.send(filled("too-large", 2_049).decode())
    assert await second.close_code() == (1009, "too_big")


@pytest.mark.rule("LI4", "PR4")
async def test_how_often_cursors_are_shown_is_a_setting(tight: Program, everyone: Players) -> None:
    ann = await everyone("ann", at=tight)
    watcher = await everyone("watcher", at=1)
    began, number = time.monotonic(), 0
    while time.monotonic() - began < 0.6:
        number += 1
        await ann.tell("presence.cursor", {"x": number, "y": 0})
        await ann.request("heartbeat")
    await watcher.event("presence.cursor", lambda data: data["cursors"][0]["x"] == number)
    took = time.monotonic() - began
    assert watcher.told().count("presence.cursor") <= 10 * took + 2


@pytest.mark.rule("LI1", "LI2")
async def test_a_refused_message_has_no_effect(tight: Program, everyone: Players) -> None:
    user = f"zoe-{everyone.room}"
    zoe = await everyone(user, at=tight)
    watcher = await everyone("watcher")
    for number in range(5):
        await zoe.draw(f"s{number}")
    assert (await refused(zoe.draw("s5"))).word == (1008, "rate_limited")
    assert await visible(watcher) == [f"s{number}" for number in range(5)]
