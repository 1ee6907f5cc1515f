"""Whoever means harm gets an error, or is sent away; everybody else plays on."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from roundtable.common.testing.forms import Players, http, refused
from roundtable.common.testing.players import WAIT, Player, stroke, token
from roundtable.common.testing.system import Program, System
from roundtable.common.testing.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Gone,
    Wire,
    closing,
    frame,
)


@pytest.fixture(autouse=True)
async def the_table_plays_on(
    request: pytest.FixtureRequest, table: System, everyone: Players
) -> AsyncIterator[None]:
    """Before and after every attack the same people draw, at the gateway that was attacked and at the other one."""
    there = [await everyone("honest", at=0), await everyone("honest-too", at=1, transport="sse")]
    pids = [program.pid for program in table.programs]
    yield
    for number, who in enumerate(there):
        began = time.monotonic()
        await who.draw(f"still-{number}")
        assert time.monotonic() - began < WAIT
    for who in there:
        await who.event("canvas.draw", lambda data: data["operations"][0]["id"] == "still-1")
        assert not who.closed.done()
    for program, pid in zip(table.programs, pids, strict=True):
        assert program.running, program.name
        assert program.pid == pid


async def fails(wire: Wire, wait: float = WAIT) -> tuple[int, str]:
    """How the server ends it: code and reason of its close frame, or 1006 when it just hangs up."""
    try:
        async with asyncio.timeout(wait):
            while True:
                came = await wire.frame(wait)
                if came.opcode == CLOSE:
                    return closing(came)
    except Gone:
        return 1006, ""


async def still_there(wire: Wire) -> None:
    await wire.say({"type": "request", "id": "still-there", "method": "heartbeat"})
    await wire.message("response", id="still-there")


async def complaint(wire: Wire) -> tuple[int, str, str]:
    error = (await wire.message("error"))["error"]
    return error["code"], error["reason"], error["message"]


# Bad messages

TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "not JSON": b"hello",
    "half of it": b'{"type": "request", "id": "1", "method": "heart',
    "two at once": b'{"type":"event","method":"x"}{"type":"event","method":"x"}',
    "a trailing comma": b'{"type": "event", "method": "x",}',
    "single quotes": b"{'type': 'event'}",
    "a comment": b'{"type": "event" /* really */}',
    "NaN": b'{"type":"request","id":"1","method":"heartbeat","timestamp":NaN}',
    "Infinity": b'{"type":"request","id":"1","method":"heartbeat","timestamp":Infinity}',
    "minus Infinity": b'{"type":"event","method":"presence.cursor","params":{"x":-Infinity,"y":0}}',
    "a number too large for any float": b'{"type":"event","method":"presence.cursor","params":{"x":1e999,"y":0}}',
    "null": b"null",
    "a number": b"7",
    "a text": b'"request"',
    "true": b"true",
    "a list of lists": b"[[]]",
    "a list of numbers": b"[1]",
    "an empty list": b"[]",
    "an empty object": b"{}",
    "5,000 brackets": b"[" * 5_000,
    "5,000 brackets and their ends": b"[" * 5_000 + b"]" * 5_000,
    "5,000 braces": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "5,000 brackets in the params": b'{"type":"request","id":"1","method":"canvas.draw","params":'
    + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "5,000 brackets in what a map may hold": b'{"type":"request","id":"1","method":"activity.post","params":'
    b'{"type":"map_updated","data":{"mapId":"m","x":' + b"[" * 5_000 + b"]" * 5_000 + b"}}}",
    "the same key twice, and wrong": b'{"type":"request","type":"response","id":"1","method":"heartbeat"}',
    "a lone surrogate": b'{"type":"request","id":"\\ud800","method":"heartbeat"}',
    "a very long number": b'{"type":"request","id":"1","method":"heartbeat","timestamp":' + b"9" * 5_000 + b"}",
    "a byte order mark": b"\xef\xbb\xbf" + b'{"type":"request","id":"1","method":"heartbeat"}',
}  # fmt: skip


@pytest.mark.rule("EN1", "EN7")
@pytest.mark.parametrize("kind", TEXTS)
async def test_what_is_no_message_is_answered_by_an_error(table: System, room: str, kind: str) -> None:
    async with Wire(table.gateway) as wire:
        await wire.upgrade(room, "eve")
        await wire.send(frame(TEXT, TEXTS[kind]))
        code, reason, message = await complaint(wire)
        assert (code, reason) == (1007, "invalid_data")
        assert message
        await still_there(wire)


@pytest.mark.rule("EN1", "CO3", "EN7")
@pytest.mark.parametrize("kind", TEXTS)
async def test_what_is_no_message_is_refused_by_rpc_too(table: System, room: str, kind: str) -> None:
    headers = {"Authorization": f"Bearer {token('eve')}", "Content-Type": "application/json"}
    async with http(table.gateway) as client:
        answer = await client.post("/rpc", params={"room": room}, content=TEXTS[kind], headers=headers)
    assert answer.status_code in (200, 400)
    told = answer.json()
    first = told[0] if isinstance(told, list) else told
    assert (first["error"]["code"], first["error"]["reason"]) == (1007, "invalid_data")


PACKS: dict[str, bytes] = {
    "nothing": b"",
    "the byte that is never used": b"\xc1",
    "half a map": b"\x82\xa4type",
    "a map that is said to be huge": b"\xdf\xff\xff\xff\xff",
    "an array that is said to be huge": b"\xdd\xff\xff\xff\xff",
    "a text that is said to be huge": b"\xdb\xff\xff\xff\xffabc",
    "5,000 arrays": b"\x91" * 5_000,
    "5,000 arrays and their end": b"\x91" * 5_000 + b"\x01",
    "5,000 maps": b"\x81\xa1a" * 5_000 + b"\x01",
    "JSON": b'{"type":"request"}',
    "bytes in place of a text": msgspec.msgpack.encode({"type": b"request", "id": b"1", "method": b"heartbeat"}),
    "numbers as keys": msgspec.msgpack.encode({1: 2}),
    "an extension": b"\xd4\x05\x01",
    "a broken text": b"\x81\xa4type\xa3\xff\xfe\xfd",
    "a cursor that is no number": msgspec.msgpack.encode(
        {"type": "event", "method": "presence.cursor", "params": {"x": float("nan"), "y": 0}}
    ),
    "a cursor without end": msgspec.msgpack.encode(
        {"type": "event", "method": "presence.cursor", "params": {"x": float("inf"), "y": 0}}
    ),
    "more behind it": msgspec.msgpack.encode({"type": "event", "method": "heartbeat"}) + b"\x01",
}  # fmt: skip


@pytest.mark.rule("EN1", "CO5", "EN7")
@pytest.mark.parametrize("kind", PACKS)
async def test_what_is_no_messagepack_is_answered_by_an_error(table: System, room: str, kind: str) -> None:
    async with Wire(table.gateway) as wire:
        await wire.upgrade(room, "eve", Sec_WebSocket_Protocol="roundtable.v1.msgpack")
        await wire.send(frame(BINARY, PACKS[kind]))
        async with asyncio.timeout(WAIT):
            while True:
                came = await wire.frame()
                assert came.opcode == BINARY, closing(came)
                message = msgspec.msgpack.decode(came.payload)
                if message["type"] == "error":
                    break
        assert (message["error"]["code"], message["error"]["reason"]) == (1007, "invalid_data")
        beat = {"type": "request", "id": "1", "method": "heartbeat"}
        await wire.send(frame(BINARY, msgspec.msgpack.encode(beat)))
        while msgspec.msgpack.decode((await wire.frame()).payload).get("id") != "1":
            pass


@pytest.mark.rule("EN3", "CV3", "AU7")
async def test_nobody_passes_for_somebody_else(player: Players) -> None:
    eve = await player("eve")
    ann = await player("ann", at=1)
    await ann.draw("anns")
    attempts: list[tuple[str, Any, tuple[int, str]]] = [
        ("canvas.draw", {"operations": [stroke("s", userId="ann")]}, (1008, "forbidden")),
        ("canvas.draw", {"operations": [stroke("anns")]}, (1007, "invalid_data")),
        ("canvas.undo", {"userId": "ann"}, (1008, "forbidden")),
        ("canvas.redo", {"userId": "ann"}, (1008, "forbidden")),
        ("canvas.clear", {"scope": "all"}, (1008, "forbidden")),
        ("activity.post", {"type": "user_left", "data": {}, }, (1008, "forbidden")),
        ("activity.post", {"type": "chat_message", "data": {"text": "x"}, "userId": "ann"}, (1007, "invalid_data")),
        ("presence.update", {"userId": "ann", "status": "away"}, (1007, "invalid_data")),
        ("presence.open", {"connectionId": "x", "gateway": "x", "transport": "sse"}, (1003, "unknown_method")),
        ("presence.close", {"connectionId": ann.welcome["connectionId"], "gateway": "x"}, (1003, "unknown_method")),
        ("presence.touch", {"seen": {"ann": 1}}, (1003, "unknown_method")),
        ("activity.derive", {"source": "x"}, (1003, "unknown_method")),
        ("auth.refresh", {"token": token("ann")}, (1008, "forbidden")),
    ]  # fmt: skip
    for method, params, word in attempts:
        assert (await refused(eve.request(method, params))).word == word, method
    assert [each["id"] for each in (await ann.request("canvas.state"))["operations"]] == [
        "anns",
        *_honest(ann),
    ]
    assert not ann.closed.done()


def _honest(who: Player) -> list[str]:
    return [ident for ident in who.strokes() if ident.startswith("still")]


@pytest.mark.rule("CO4", "PR1")
async def test_nobody_reads_through_anothers_connection(table: System, everyone: Players) -> None:
    ann = await everyone("ann", transport="poll-json")
    named = ann.welcome["connectionId"]
    refresh = {"type": "request", "id": "1", "method": "auth.refresh", "params": {"token": token("eve")}}
    async with http(table.gateway) as client:
        for path in ("/poll", "/rpc"):
            answer = await client.request(
                "GET" if path == "/poll" else "POST",
                path,
                params={"room": everyone.room, "connection": named, "timeout": "0"},
                headers={"Authorization": f"Bearer {token('eve')}"},
                json=None if path == "/poll" else refresh,
            )  # fmt: skip
            told = answer.json()
            if path == "/poll":
                assert answer.status_code == 403
            else:
                assert told["type"] == "response" or told["error"]["reason"] == "forbidden"
    await ann.draw("still-anns")
    drawn = await ann.event("canvas.draw")
    assert drawn["data"]["operations"][0]["userId"] == "ann"


@pytest.mark.rule("CO1")
@pytest.mark.parametrize(
    "connection", ["x" * 65, "../../etc", "a b", "*", ">", "a.b.c", "\x00", "ümlaut", "%00"]
)
async def test_a_connection_that_none_of_ours_can_be_called_is_refused(
    table: System, room: str, connection: str
) -> None:
    async with http(table.gateway) as client:
        answer = await client.get(
            "/poll",
            params={"room": room, "connection": connection, "timeout": "0"},
            headers={"Authorization": f"Bearer {token('eve')}"},
        )
    assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "invalid_data")


# Bad frames

BROKEN: dict[str, tuple[bytes, set[int]]] = {
    "an unmasked frame": (frame(TEXT, b"{}", masked=False), {1002}),
    "a reserved bit": (frame(TEXT, b"{}", rsv=4), {1002}),
    "all reserved bits": (frame(TEXT, b"{}", rsv=7), {1002}),
    "an unknown kind of frame": (frame(0x3, b"{}"), {1002}),
    "an unknown kind of control frame": (frame(0xB, b""), {1002}),
    "a ping in pieces": (frame(PING, b"x", fin=False), {1002}),
    "too long a ping": (frame(PING, b"x" * 126), {1002}),
    "too long a close": (frame(CLOSE, b"\x03\xe8" + b"x" * 124), {1002}),
    "half a close code": (frame(CLOSE, b"\x03"), {1002}),
    "a close code that must not be sent": (frame(CLOSE, (1006).to_bytes(2, "big")), {1002}),
    "a close code out of range": (frame(CLOSE, (70).to_bytes(2, "big")), {1002}),
    "a close with a broken text": (frame(CLOSE, b"\x03\xe8\xff\xfe"), {1007, 1002}),
    "a continuation of nothing": (frame(CONTINUATION, b"{}"), {1002}),
    "a beginning in the middle": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), {1002}),
    "a text that is not UTF-8": (frame(TEXT, b"\xff\xfe\xfd"), {1007}),
    "a text that is cut within a character": (frame(TEXT, "ü".encode()[:1]), {1007}),
    "a text that is broken in its second piece": (frame(TEXT, b"{", fin=False) + frame(CONTINUATION, b"\xff"), {1007}),
    "65,537 bytes": (frame(TEXT, b" " * 65_537), {1009}),
    "65,537 bytes that are only announced": (frame(TEXT, declared=65_537), {1009}),
    "four exabytes": (frame(TEXT, declared=1 << 62), {1009}),
    "more than a length may be": (frame(TEXT, declared=(1 << 63) + 1), {1002, 1009}),
    "a length in too many bytes": (b"\x81\xfe\x00\x05" + b"\x00" * 4 + b"hello", {1002, 1007, 0}),
    "endless pieces": (frame(TEXT, b" " * 30_000, fin=False) + frame(CONTINUATION, b" " * 30_000, fin=False) * 3, {1009}),
    "compressed without having asked": (frame(TEXT, zlib.compress(b"{}"), rsv=4), {1002}),
    "a text frame of zeros": (b"\x00" * 300, {1002}),
    "HTTP in the middle": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", {1002}),
    "noise": (bytes((7 * n * n + 13) % 256 for n in range(2_000)), {1002, 1007, 1009}),
}  # fmt: skip


@pytest.mark.rule("EN7", "LI1")
@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_frame_ends_its_connection_alone(table: System, room: str, kind: str) -> None:
    data, codes = BROKEN[kind]
    async with Wire(table.gateway) as wire:
        await wire.upgrade(room, "eve")
        await wire.message("event", method="session.welcome")
        await wire.send(data)
        if 0 in codes:  # to be refused, or to be taken for what it says
            await wire.send(frame(CLOSE, (1000).to_bytes(2, "big")))
            assert await fails(wire)
            return
        code, reason = await fails(wire)
        assert code in codes
        assert reason == {1002: "protocol_error", 1007: "invalid_data", 1009: "too_big"}[code]


@pytest.mark.rule("CO6", "LI1")
async def test_a_deflate_bomb_is_too_big(table: System, room: str) -> None:
    def bomb(size: int) -> bytes:
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        return (deflater.compress(b" " * size) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]

    for size in (65_537, 10_000_000, 60_000_000):
        async with Wire(table.gateway) as wire:
            await wire.upgrade(room, "eve", Sec_WebSocket_Extensions="permessage-deflate")
            payload = bomb(size)
            assert len(payload) <= 65_536
            await wire.send(frame(TEXT, payload, rsv=4))
            assert await fails(wire) == (1009, "too_big")


@pytest.mark.rule("CO6", "EN7")
@pytest.mark.parametrize("data", [b"\xff" * 50, b"", b"\x00", zlib.compress(b"{}"), b"\x07" * 9])
async def test_what_cannot_be_inflated_ends_its_connection(table: System, room: str, data: bytes) -> None:
    async with Wire(table.gateway) as wire:
        await wire.upgrade(room, "eve", Sec_WebSocket_Extensions="permessage-deflate")
        await wire.send(frame(TEXT, data, rsv=4))
        await wire.send(frame(CLOSE, (1000).to_bytes(2, "big")))
        code, _ = await fails(wire)
        assert code in (1000, 1002, 1007)


# Floods


@pytest.mark.rule("RS8", "CO9")
async def test_ten_thousand_pings_do_no_harm(table: System, room: str) -> None:
    async with Wire(table.gateway) as wire:
        await wire.upgrade(room, "eve")
        for _ in range(100):
            await wire.send(frame(PING, b"are you there") * 100)
            while True:  # takes what is there, so that the answers don't pile up
                came = await wire.frame()
                if came.opcode == PONG:
                    break
        await still_there(wire)


@pytest.mark.rule("RS8")
async def test_who_pings_and_never_reads_gets_no_memory_for_it(table: System, room: str) -> None:
    async with Wire(table.gateway, narrow=True) as wire:
        await wire.upgrade(room, "eve")
        flood = frame(PING, b"x" * 125) * 100
        async with asyncio.timeout(2 * WAIT):
            for _ in range(400):
                await wire.send(flood)
        await wire.say({"type": "request", "id": "end", "method": "heartbeat"})
        await wire.message("response", id="end", wait=2 * WAIT)
        assert wire.received < 6_000_000


@pytest.mark.rule("EN2", "RS8")
async def test_ten_thousand_requests_at_once_are_answered_or_refused(table: System, room: str) -> None:
    async with Wire(table.gateway) as wire:
        await wire.upgrade(room, "eve")
        batch = [{"type": "request", "id": f"{n}", "method": "canvas.state"} for n in range(100)]
        many = frame(TEXT, json.dumps(batch).encode()) * 10
        answered = 0
        sending = asyncio.create_task(wire.send(many * 2))
        async with asyncio.timeout(6 * WAIT):
            while answered < 2_000:
                came = await wire.frame(2 * WAIT)
                if came.opcode == CLOSE:
                    assert closing(came)[0] in (1008, 1013)
                    break
                if came.opcode != TEXT:
                    continue
                message = json.loads(came.payload)
                if message["type"] == "event":
                    continue
                answered += 1
                if message["type"] == "error":
                    assert message["error"]["reason"] in ("overloaded", "rate_limited", "unavailable")
        await sending
        assert answered


@pytest.mark.rule("EN1")
async def test_one_byte_at_a_time_is_a_message_too(table: System, room: str) -> None:
    async with Wire(table.gateway) as wire:
        await wire.upgrade(room, "eve")
        await wire.message("event", method="activity.snapshot")
        text = json.dumps({"type": "request", "id": "drip", "method": "heartbeat"}).encode()
        for byte in frame(TEXT, text):
            await wire.send(bytes([byte]))
        await wire.message("response", id="drip")
        pieces = [text[n : n + 1] for n in range(len(text))]
        await wire.send(frame(TEXT, b"", fin=False))
        for piece in pieces:
            await wire.send(frame(CONTINUATION, piece, fin=False) + frame(PING, b"between"))
        await wire.send(frame(CONTINUATION, b""))
        await wire.message("response", id="drip")


@pytest.mark.rule("PR1", "CO9")
async def test_half_a_frame_and_then_nothing_holds_nobody_up(table: System, room: str) -> None:
    for cut in (1, 2, 5, 20):
        async with Wire(table.gateway) as wire:
            await wire.upgrade(room, "eve")
            await wire.send(frame(TEXT, b'{"type":"event","method":"canvas.clear"}')[:cut])
    async with Wire(table.gateway) as wire:
        await wire.upgrade(room, "eve")
        await wire.send(frame(TEXT, b"{}")[:3])
        wire.half_close()
        await fails(wire)


# The port

NOISE: dict[str, bytes] = {
    "no HTTP": b"hello?\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    "zeros": b"\x00" * 1_000,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an endless line": b"GET /" + b"a" * 100_000,
    "an endless header": b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000,
    "many headers": b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)),
    "two lengths": b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a length that is none": b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "length and chunks": b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a broken chunk": b"POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "an upgrade to what we do not speak": b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "a header in a header": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n",
}  # fmt: skip


@pytest.mark.rule("CO2", "OP1")
@pytest.mark.parametrize("kind", NOISE)
async def test_noise_on_the_port_is_answered_by_an_error_or_an_end(table: System, kind: str) -> None:
    async with Wire(table.gateway) as wire:
        try:
            await wire.send(NOISE[kind])
            wire.half_close()
        except ConnectionError:
            return
        told = await wire.rest(3 * WAIT)
    assert b"Traceback" not in told
    if told.startswith(b"HTTP/1.1 "):
        assert int(told.split()[1]) < 500


HANDSHAKES: dict[str, tuple[dict[str, str], set[int]]] = {
    "an old version": ({"Sec-WebSocket-Version": "8"}, {426, 400}),
    "no version": ({"Sec-WebSocket-Version": ""}, {426, 400}),
    "no key": ({"Sec-WebSocket-Key": ""}, {400}),
    "a short key": ({"Sec-WebSocket-Key": "c2hvcnQ="}, {400}),
    "a key that is no base64": ({"Sec-WebSocket-Key": "!" * 24}, {400}),
}


@pytest.mark.rule("CO2")
@pytest.mark.parametrize("kind", HANDSHAKES)
async def test_a_wrong_handshake_is_a_bad_request(table: System, room: str, kind: str) -> None:
    changes, statuses = HANDSHAKES[kind]
    async with Wire(table.gateway) as wire:
        status, _ = await wire.upgrade(room, "eve", **changes)
        assert status in statuses


@pytest.mark.rule("CO2")
async def test_a_handshake_at_an_unknown_address_is_refused(table: System, room: str) -> None:
    async with Wire(table.gateway) as wire:
        status, _ = await wire.upgrade(room, "eve", path="/no/such")
        assert status in (403, 404)


@pytest.fixture(scope="module")
async def impatient(gateway: Any) -> Program:
    program: Program = await gateway(HEADER_TIMEOUT="0.5", BODY_TIMEOUT="0.5")
    return program


SLOW: dict[str, Callable[[Wire], Awaitable[None]]] = {
    "says nothing": lambda wire: wire.send(b""),
    "stops within its headers": lambda wire: wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n"),
    "stops within its body": lambda wire: wire.send(
        b"POST /rpc?room=x HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n"
        b"Authorization: Bearer " + token("eve").encode() + b"\r\n\r\n{"
    ),
}


@pytest.mark.rule("CO3")
@pytest.mark.parametrize("kind", SLOW)
async def test_who_never_finishes_a_request_is_hung_up_on(impatient: Program, kind: str) -> None:
    async with Wire(impatient) as wire:
        await SLOW[kind](wire)
        told = (
            await wire.rest(2 * WAIT) if kind != "stops within its body" else await wire.through(b"\r\n\r\n")
        )
    assert told == b"" or int(told.split()[1]) in (400, 408)


@pytest.mark.rule("CO3")
async def test_two_hundred_who_never_finish_slow_nobody_down(
    table: System, room: str, everyone: Players
) -> None:
    wires = [Wire(table.gateway) for _ in range(200)]
    try:
        for number, wire in enumerate(wires):
            await wire.__aenter__()
            await wire.send(
                b"GET /ws?room="
                if number % 2
                else b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"
            )
        ann = await everyone("ann")
        began = time.monotonic()
        for number in range(10):
            await ann.draw(f"s{number}")
        assert time.monotonic() - began < WAIT
    finally:
        for wire in wires:
            await wire.__aexit__(None, None, None)


@pytest.mark.rule("AC6", "EN3")
async def test_numbers_at_the_edges_are_taken_or_refused_but_never_break_anything(player: Players) -> None:
    eve = await player("eve")
    edges: list[Any] = [
        0,
        -0.0,
        5e-324,
        1e-300,
        2**53,
        -(2**63),
        2**64,
        10**100,
        1.7976931348623157e308,
        True,
        None,
        "",
        [],
        {},
    ]
    for edge in edges:
        if player.transport.endswith("msgpack") and isinstance(edge, int) and abs(edge) >= 2**64:
            continue
        for params in ({"x": edge, "y": 0}, {"x": 0, "y": edge}):
            await eve.tell("presence.cursor", params)
        for field in ("size", "color", "points", "type", "tool", "id", "userId"):
            if (field, edge) == ("size", 5e-324) or (field == "size" and edge == 1e-300):
                continue
            answer = await refused(eve.request("canvas.draw", {"operations": [stroke("s", **{field: edge})]}))
            assert answer.code in (1007, 1008), (field, edge)
    for error in eve.errors():
        assert error["reason"] in ("invalid_data", "forbidden")
    assert await eve.request("heartbeat")


@pytest.mark.rule("AU1", "EN7")
async def test_a_hundred_strangers_at_once_are_all_turned_away(table: System, room: str) -> None:
    async def stranger(number: int) -> tuple[int, str]:
        async with Wire(table.of("gateway")[number % 2]) as wire:
            await wire.upgrade(room, Authorization=f"Bearer {'x' * (number * 7)}.y.z")
            return await fails(wire)

    async with asyncio.timeout(4 * WAIT):
        ends = await asyncio.gather(*(stranger(number) for number in range(100)))
    assert set(ends) == {(1008, "token_invalid")}
