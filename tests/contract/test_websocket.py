"""RFC 6455 and 7692 as a peer sees them, at a real gateway: the cases of Autobahn's suite that matter to a server.

Its numbers stand in the names. It wants an echo; here that is the answer to `heartbeat`, which repeats the request's id.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import pytest

from roundtable.common.testing.players import WAIT
from roundtable.common.testing.system import Program, system
from roundtable.common.testing.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    Wire,
    closing,
    frame,
)

LIMIT: Final = 65_536
GREETING: Final = "Hello-µ@ßöäüàá-UTF-8!! κόσμε 😀"
REASONS: Final = {1002: "protocol_error", 1003: "unsupported_data", 1007: "invalid_data", 1009: "too_big"}
DEFLATE: Final = {"Sec_WebSocket_Extensions": "permessage-deflate"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def gateway(anyio_backend: str) -> AsyncIterator[Program]:
    async with system() as running:
        yield running.gateway


class Told(NamedTuple):
    """What the server did, but for events: ids that it answered, pongs, and how it closed, in order."""

    answers: list[str]
    pongs: list[bytes]
    closed: tuple[int, str] | None


def ask(ident: str, size: int = 0) -> bytes:
    """A request whose answer says its id; `size`: bytes in all, by spaces at its end."""
    message = {"type": "request", "id": ident, "method": "heartbeat"}
    return json.dumps(message, ensure_ascii=False).encode().ljust(size)


def said(came: Frame) -> dict[str, Any]:
    payload = came.payload
    if came.rsv:
        payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
    message: dict[str, Any] = json.loads(payload) if came.opcode == TEXT else msgspec.msgpack.decode(payload)
    return message


async def exchange(gateway: Program, *sent: bytes, until: str = "", **headers: str) -> Told:
    """Sends these pieces, each on its own, and reads to the answer of that id, or to the end."""
    told = Told([], [], None)
    async with Wire(gateway) as wire:
        await wire.upgrade("table", "ann", **headers)
        while said(await wire.frame()).get("method") != "activity.snapshot":
            pass  # what comes before is answered too, but not if all ends first
        for piece in sent:
            await wire.send(piece)
        while True:
            came = await wire.frame()
            if came.opcode == CLOSE:
                return told._replace(closed=closing(came) if came.payload else (1005, ""))
            if came.opcode == PONG:
                told.pongs.append(came.payload)
            elif came.opcode in (TEXT, BINARY):
                message = said(came)
                if message["type"] != "event":
                    told.answers.append(message.get("id", ""))
                if until and message.get("id") == until:
                    return told


def split(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def fragments(
    parts: Sequence[bytes], between: Iterable[bytes] = (), opcode: int = TEXT, rsv: int = 0
) -> bytes:
    """One message in these parts; control frames stand between them."""
    *first, last = [
        frame(
            opcode if number == 0 else CONTINUATION,
            part,
            fin=number == len(parts) - 1,
            rsv=0 if number else rsv,
        )
        for number, part in enumerate(parts)
    ]
    return b"".join(each + b"".join(between) for each in first) + last


# 1: framing


@pytest.mark.parametrize("size", [0, 125, 126, 127, 128, 65_535, LIMIT], ids=lambda size: f"1.1-{size}")
async def test_a_text_message_may_have_any_length(gateway: Program, size: int) -> None:
    told = await exchange(gateway, frame(TEXT, ask("sized", size)), until="sized")
    assert told == Told(["sized"], [], None)


@pytest.mark.parametrize("size", [0, 125, 126, 127, 128, 65_535, LIMIT], ids=lambda size: f"1.2-{size}")
async def test_a_binary_message_may_have_any_length(gateway: Program, size: int) -> None:
    def packed(filling: int) -> bytes:
        data = {"mapId": "m", "filling": "x" * filling}
        post = {"type": "map_updated", "data": data}
        return msgspec.msgpack.encode(
            {"type": "request", "id": "sized", "method": "activity.post", "params": post}
        )

    filling = max(0, size - len(packed(0)))
    while filling and len(packed(filling)) > size:
        filling -= 1
    told = await exchange(
        gateway,
        frame(BINARY, packed(filling)),
        until="sized",
        Sec_WebSocket_Protocol="roundtable.v1.msgpack",
    )
    assert told == Told(["sized"], [], None)


@pytest.mark.parametrize("chop", [1, 997], ids=lambda chop: f"1.1.8-by-{chop}")
async def test_a_frame_may_come_in_pieces_of_any_size(gateway: Program, chop: int) -> None:
    size = LIMIT if chop > 1 else 300
    told = await exchange(gateway, *split(frame(TEXT, ask("chopped", size)), chop), until="chopped")
    assert told == Told(["chopped"], [], None)


async def test_an_empty_message_is_one_that_says_nothing(gateway: Program) -> None:
    told = await exchange(gateway, frame(TEXT), frame(TEXT, ask("next")), until="next")
    assert told == Told(["", "next"], [], None)


@pytest.mark.parametrize("cut", [0, 1, 9])
async def test_what_a_hasty_client_sends_with_its_handshake_is_not_lost(gateway: Program, cut: int) -> None:
    """RFC 6455, 4.1 tells it to wait; its first bytes may come with the request all the same."""
    hasty = frame(TEXT, ask("hasty")) + frame(PING, b"hasty")
    async with Wire(gateway) as wire:
        await wire.send(wire.handshake("table", "ann") + hasty[:cut])
        await wire.send(hasty[cut:])
        status, _ = await wire.answer()
        assert status == 101
        await wire.message("response", id="hasty")


# 2: pings and pongs


@pytest.mark.parametrize(
    "payload", [b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125], ids=len
)
@pytest.mark.parametrize("chop", [0, 1])
async def test_a_ping_is_answered_with_its_payload(gateway: Program, payload: bytes, chop: int) -> None:
    ping = frame(PING, payload)
    pieces = split(ping, chop) if chop else [ping]
    told = await exchange(gateway, *pieces, frame(TEXT, ask("after")), until="after")
    assert told == Told(["after"], [payload], None)


async def test_ten_pings_are_answered_in_order_and_pongs_nobody_asked_for_are_ignored(
    gateway: Program,
) -> None:
    pings = [frame(PING, b"payload-%d" % number) for number in range(10)]
    pongs = [frame(PONG), frame(PONG, b"unsolicited")]
    told = await exchange(gateway, *pongs, b"".join(pings), *pongs, frame(TEXT, ask("after")), until="after")
    assert told == Told(["after"], [b"payload-%d" % number for number in range(10)], None)


# 3, 4, 5: what ends the connection


def reserved() -> dict[str, bytes]:
    found = {f"3-rsv{rsv}-text": frame(TEXT, ask("x"), rsv=rsv) for rsv in range(1, 8)}
    found |= {f"3-rsv{rsv}-ping": frame(PING, b"x", rsv=rsv) for rsv in (1, 2, 4)}
    found |= {"3.7-rsv7-close": frame(CLOSE, b"\x03\xe8", rsv=7)}
    return found


WRONG: Final[dict[str, tuple[bytes, int]]] = {
    **{name: (data, 1002) for name, data in reserved().items()},
    **{f"4-opcode-{opcode}": (frame(opcode, b""), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    **{f"4-opcode-{opcode}-payload": (frame(opcode, b"Hello"), 1002) for opcode in (3, 7, 11, 15)},
    "2.5-ping-of-126": (frame(PING, b"\xfe" * 126), 1002),
    "5.1-ping-in-pieces": (frame(PING, b"a", fin=False) + frame(CONTINUATION, b"b"), 1002),
    "5.2-pong-in-pieces": (frame(PONG, b"a", fin=False) + frame(CONTINUATION, b"b"), 1002),
    "5.9-continuation-of-nothing-fin": (frame(CONTINUATION, b"x") + frame(TEXT, ask("x")), 1002),
    "5.12-continuation-of-nothing": (frame(CONTINUATION, b"x", fin=False) + frame(TEXT, ask("x")), 1002),
    "5.15-continuation-after-the-end": (fragments([b"[", b"]"]) + frame(CONTINUATION, b"x", fin=False), 1002),
    "5.18-a-text-in-a-text": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    "5.18-a-binary-in-a-text": (frame(TEXT, b"a", fin=False) + frame(BINARY, b"b"), 1002),
    "7.3.2-close-of-one-byte": (frame(CLOSE, b"\x03"), 1002),
    "7.3.6-close-of-126": (frame(CLOSE, b"\x03\xe8" + b"*" * 124), 1002),
    "7.5.1-close-with-a-broken-reason": (frame(CLOSE, b"\x03\xe8\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80"), 1007),
    "9-one-byte-too-many": (frame(TEXT, ask("x", LIMIT + 1)), 1009),
    "9-one-byte-too-many-in-pieces": (fragments(split(ask("x", LIMIT + 1), 1_300)), 1009),
    "unmasked": (frame(TEXT, ask("x"), masked=False), 1002),
}  # fmt: skip


@pytest.mark.rule("EN7")
@pytest.mark.parametrize("case", WRONG)
async def test_a_breach_of_the_protocol_ends_the_connection_with_its_code(
    gateway: Program, case: str
) -> None:
    data, code = WRONG[case]
    told = await exchange(gateway, frame(TEXT, ask("before")), data, frame(TEXT, ask("never")))
    assert told.closed == (code, REASONS[code])
    assert "never" not in told.answers
    assert told.answers[0] == "before"


# 5: fragments


@pytest.mark.parametrize("size", [1, 7, 1_000])
@pytest.mark.parametrize("pings", [0, 1, 3])
async def test_a_message_may_come_in_fragments_with_pings_between(
    gateway: Program, size: int, pings: int
) -> None:
    message = ask("whole", 200 if size < 1_000 else LIMIT)
    parts = split(message, size)
    between = [frame(PING, b"p%d" % number) for number in range(pings)] if len(parts) < 100 else []
    told = await exchange(gateway, fragments(parts, between), until="whole")
    assert told.answers == ["whole"]
    assert told.pongs == [b"p%d" % number for number in range(pings)] * (len(parts) - 1 if between else 0)


async def test_fragments_may_be_empty(gateway: Program) -> None:
    message = ask("whole")
    told = await exchange(gateway, fragments([b"", message[:9], b"", message[9:], b""]), until="whole")
    assert told == Told(["whole"], [], None)
    told = await exchange(gateway, fragments([b"", b"", b""]), frame(TEXT, ask("next")), until="next")
    assert told == Told(["", "next"], [], None)


# 6: UTF-8


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("chop", [0, 1])
async def test_a_character_may_be_cut_by_frames_and_by_packets(
    gateway: Program, size: int, chop: int
) -> None:
    message = ask(GREETING)
    data = fragments(split(message, size)) if size else frame(TEXT, message)
    told = await exchange(gateway, *(split(data, chop) if chop else [data]), until=GREETING)
    assert told == Told([GREETING], [], None)


VALID: Final = {
    "6.5-boundaries": "\x7f\x80߿ࠀ￿𐀀",
    "6.7-last-and-first": "\ud7ff\ue000�\U0010ffff",
    "6.22-noncharacters": "￾￿🿾🿿\U0010fffe\U0010ffff",
    "6.23-special": "￹￺￻￼�",
}


@pytest.mark.parametrize("case", VALID)
async def test_every_character_is_text(gateway: Program, case: str) -> None:
    told = await exchange(gateway, frame(TEXT, ask(VALID[case])), until=VALID[case])
    assert told == Told([VALID[case]], [], None)


INVALID: Final[dict[str, bytes]] = {
    "6.3-surrogate": b"\xce\xba\xed\xa0\x80\xce\xb5",
    "6.6-cut-short": b"\xce\xba\xe1\xbd",
    "6.8-five-bytes": b"\xf8\x88\x80\x80\x80",
    "6.8-six-bytes": b"\xfc\x84\x80\x80\x80\x80",
    "6.10-beyond-unicode": b"\xf4\x90\x80\x80",
    "6.12-lone-continuation": b"\x80",
    "6.12-last-continuation": b"\xbf",
    "6.14-lone-starts": b"\xc0 \xc1 \xe0 \xf0 ",
    "6.15-missing-continuation": b"\xe0\x80",
    "6.17-impossible-bytes": b"\xfe\xff",
    "6.18-overlong-slash": b"\xc0\xaf",
    "6.18-overlong-slash-of-three": b"\xe0\x80\xaf",
    "6.19-overlong-maximum": b"\xc1\xbf",
    "6.20-overlong-zero": b"\xc0\x80",
    "6.21-surrogate-pair": b"\xed\xa0\x80\xed\xb0\x80",
}


@pytest.mark.parametrize("case", INVALID)
@pytest.mark.parametrize("size", [0, 1])
async def test_what_is_not_utf_8_ends_the_connection(gateway: Program, case: str, size: int) -> None:
    data = b'{"id": "' + INVALID[case]
    told = await exchange(
        gateway, fragments(split(data, size)) if size else frame(TEXT, data), frame(TEXT, ask("never"))
    )
    assert told == Told([], [], (1007, "invalid_data"))


async def test_broken_text_is_not_waited_out(gateway: Program) -> None:
    """6.4: the end of the message never comes."""
    told = await exchange(
        gateway, frame(TEXT, b"\xce\xba", fin=False) + frame(CONTINUATION, b"\xf4\x90", fin=False)
    )
    assert told.closed == (1007, "invalid_data")


# 7: closing


CODES: Final = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
NO_CODES: Final = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)


@pytest.mark.parametrize("code", CODES, ids=lambda code: f"7.7-{code}")
@pytest.mark.parametrize("reason", [b"", b"Hello World!", b"*" * 123], ids=len)
async def test_a_close_is_answered_with_its_code(gateway: Program, code: int, reason: bytes) -> None:
    told = await exchange(gateway, frame(CLOSE, code.to_bytes(2, "big") + reason))
    assert told.closed is not None
    assert told.closed[0] == code


@pytest.mark.parametrize("code", NO_CODES, ids=lambda code: f"7.9-{code}")
async def test_a_code_that_may_not_be_sent_is_a_breach(gateway: Program, code: int) -> None:
    told = await exchange(gateway, frame(CLOSE, code.to_bytes(2, "big")))
    assert told.closed == (1002, "protocol_error")


async def test_a_close_may_be_empty(gateway: Program) -> None:
    assert (await exchange(gateway, frame(CLOSE))).closed == (1005, "")


@pytest.mark.parametrize(
    "after",
    [frame(CLOSE, b"\x03\xe8"), frame(PING, b"x"), frame(TEXT, ask("never")), frame(TEXT, b"{", fin=False)],
    ids=["7.1.2-close", "7.1.3-ping", "7.1.4-text", "7.1.5-fragment"],
)
async def test_nothing_counts_after_a_close_and_the_server_hangs_up(gateway: Program, after: bytes) -> None:
    async with Wire(gateway) as wire:
        await wire.upgrade("table", "ann")
        await wire.message("event", method="activity.snapshot")
        await wire.send(frame(CLOSE, b"\x03\xe8") + after)
        assert (await wire.closed())[0] == 1000
        assert await wire.rest(WAIT) == b""


async def test_a_close_within_a_fragmented_message_is_a_close(gateway: Program) -> None:
    told = await exchange(gateway, frame(TEXT, b"{", fin=False) + frame(CLOSE, b"\x03\xe8"))
    assert told.closed == (1000, "bye")


# 12, 13: permessage-deflate


def deflated(data: bytes, bits: int = 15, level: int = 9) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, -bits)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.rule("CO6")
@pytest.mark.parametrize(
    "size", [0, 16, 64, 256, 1_024, 4_096, 8_192, 32_768, LIMIT], ids=lambda n: f"12-{n}"
)
async def test_a_deflated_message_may_have_any_length(gateway: Program, size: int) -> None:
    data = deflated(ask("small", size))
    whole, pieces = frame(TEXT, data, rsv=4), fragments(split(data, 11), rsv=4)
    plain = frame(TEXT, ask("plain", size))
    told = await exchange(gateway, whole, pieces, plain, until="plain", **DEFLATE)
    assert told == Told(["small", "small", "plain"], [], None)


@pytest.mark.rule("CO6")
@pytest.mark.parametrize("make", ["stored", "blocks", "final"])
async def test_however_a_message_was_deflated_it_is_read(gateway: Program, make: str) -> None:
    message = ask("odd", 2_000)
    match make:
        case "stored":
            data = deflated(message, level=0)
        case "blocks":
            deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
            data = b"".join(
                deflater.compress(part) + deflater.flush(zlib.Z_FULL_FLUSH) for part in split(message, 99)
            )
            data = data.removesuffix(b"\x00\x00\xff\xff")
        case _:  # RFC 7692, 7.2.3.4: a block with BFINAL
            deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
            data = deflater.compress(message) + deflater.flush(zlib.Z_FINISH) + b"\x00"
    told = await exchange(gateway, frame(TEXT, data, rsv=4), until="odd", **DEFLATE)
    assert told == Told(["odd"], [], None)


OFFERS: Final[dict[str, bool]] = {
    "permessage-deflate": True,
    "permessage-deflate; client_max_window_bits": True,
    "permessage-deflate; client_max_window_bits=8": True,
    "permessage-deflate; client_no_context_takeover; server_no_context_takeover": True,
    "permessage-deflate; server_max_window_bits=15": True,
    "permessage-deflate; server_max_window_bits=8, permessage-deflate": True,
    "permessage-deflate; server_max_window_bits=8": False,
    "permessage-deflate; server_max_window_bits=16": False,
    "permessage-deflate; no_such_parameter": False,
    "permessage-deflate; client_no_context_takeover; client_no_context_takeover": False,
    "x-webkit-deflate-frame": False,
}


@pytest.mark.rule("CO6")
@pytest.mark.parametrize("offer", OFFERS)
async def test_deflate_is_agreed_on_or_left_out(gateway: Program, offer: str) -> None:
    async with Wire(gateway) as wire:
        status, headers = await wire.upgrade("table", "ann", Sec_WebSocket_Extensions=offer)
        assert status == 101
        answer = headers.get("sec-websocket-extensions", "")
        assert answer.startswith("permessage-deflate") is OFFERS[offer]
        if answer:  # what was asked of the server is granted
            assert "server_no_context_takeover" in answer
        await wire.send(frame(TEXT, deflated(ask("agreed")), rsv=4) if answer else frame(TEXT, ask("agreed")))
        while said(came := await wire.frame()).get("id") != "agreed":
            assert answer or not came.rsv


DEFLATED_WRONG: Final[dict[str, tuple[bytes, int]]] = {
    "a deflated ping": (frame(PING, b"x", rsv=4), 1002),
    "a deflated close": (frame(CLOSE, b"\x03\xe8", rsv=4), 1002),
    "a mark on a continuation": (frame(TEXT, b"{", fin=False) + frame(CONTINUATION, b"}", rsv=4), 1002),
    "another reserved bit": (frame(TEXT, b"{}", rsv=2), 1002),
    "no deflate at all": (frame(TEXT, b"\xff" * 40, rsv=4), 1007),
    "deflate that is cut off": (frame(TEXT, deflated(ask("x", 900))[:-9], rsv=4), 1007),
    "what is no text inflated": (frame(TEXT, deflated(b"\xff\xfe" * 50), rsv=4), 1007),
    "one byte too many inflated": (frame(TEXT, deflated(b" " * (LIMIT + 1)), rsv=4), 1009),
}


@pytest.mark.rule("CO6", "EN7")
@pytest.mark.parametrize("case", DEFLATED_WRONG)
async def test_a_breach_in_what_is_deflated_ends_the_connection(gateway: Program, case: str) -> None:
    data, code = DEFLATED_WRONG[case]
    told = await exchange(gateway, data, frame(TEXT, ask("never")), **DEFLATE)
    assert told.closed == (code, REASONS[code])
    assert told.answers == []
