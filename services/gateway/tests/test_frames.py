"""The frame codec against RFC 6455 and 7692: Autobahn's cases, and Hypothesis for what must always hold."""

import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.utils import apply_mask

from roundtable.gateway import frames
from roundtable.gateway.frames import (
    MAX_FRAGMENTS,
    NO_CODE,
    Binary,
    Close,
    Event,
    FrameError,
    FrameParser,
    Ping,
    Pong,
    Text,
    binary_frame,
    close_frame,
    deflated,
    deflated_text_frame,
    negotiate_deflate,
    ping_frame,
    pong_frame,
    text_frame,
    xor_mask,
)

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
LIMIT = 65536
MASK = b"\x37\xfa\x21\x3d"
TAIL = b"\x00\x00\xff\xff"


def client(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = MASK, form: int = 0
) -> bytes:
    """A client's frame; `form` (126, 127) asks for a longer length than is needed."""
    size = len(payload)
    form = form or (size if size < 126 else 126 if size < 65536 else 127)
    head = bytes((fin << 7 | rsv << 4 | opcode, 0x80 | form))
    if form >= 126:
        head += size.to_bytes(2 if form == 126 else 8, "big")
    return head + mask + apply_mask(payload, mask)


def declared(opcode: int, size: int, rsv: int = 0) -> bytes:
    """The header alone of a frame of `size` bytes."""
    return bytes((0x80 | rsv << 4 | opcode, 0xFF)) + size.to_bytes(8, "big") + MASK


def fragments(opcode: int, parts: Iterable[bytes], rsv: int = 0) -> bytes:
    *start, last = parts
    wire = b""
    for i, part in enumerate(start):
        wire += client(CONT if i else opcode, part, fin=False, rsv=0 if i else rsv)
    return wire + client(CONT, last) if start else client(opcode, last, rsv=rsv)


def squeeze(data: bytes, level: int = 6, bits: int = 15) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, -bits)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def parse(wire: bytes, *, inflate: bool = False, max_size: int = LIMIT) -> list[Event]:
    return FrameParser(max_size, inflate).feed(wire)


def outcome(parser: FrameParser, chunks: Iterable[bytes]) -> tuple[list[Event], int | None]:
    """All events, and the code of the error that ended them."""
    events: list[Event] = []
    try:
        for chunk in chunks:
            events += parser.feed(chunk)
    except FrameError as error:
        return events + error.events, error.code
    return events, None


def drip(wire: bytes) -> list[bytes]:
    return [wire[i : i + 1] for i in range(len(wire))]


def assert_refused(
    code: int, wire: bytes, before: list[Event] | None = None, *, inflate: bool = False
) -> None:
    """At once and byte by byte: the error comes, with the events before it, and nothing after it."""
    for chunks in ([wire], drip(wire)):
        parser = FrameParser(LIMIT, inflate)
        assert outcome(parser, chunks) == (before or [], code)
        assert parser.feed(client(TEXT, b"late")) == []
        assert parser.buffered == 0


def body(frame: bytes) -> bytes:
    """The payload of a server's frame."""
    skip = {126: 4, 127: 10}.get(frame[1], 2)
    return frame[skip:]


# 1 Framing


@pytest.mark.rule("CO5")
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 128, 190, 65535, 65536])
@pytest.mark.parametrize(("opcode", "kind"), [(TEXT, Text), (BINARY, Binary)])
def test_a_message_of_any_length_arrives_as_its_kind(
    opcode: int, kind: Callable[[bytes], Event], size: int
) -> None:
    data = (b"*" if opcode == TEXT else b"\xfe") * size
    assert parse(client(opcode, data)) == [kind(data)]
    assert outcome(FrameParser(), drip(client(opcode, data))) == ([kind(data)], None)


@pytest.mark.parametrize("form", [126, 127])
@pytest.mark.parametrize("size", [0, 1, 119, 125, 127])
def test_a_length_longer_than_needed_is_accepted(form: int, size: int) -> None:
    data = b"x" * size
    for mask in (MASK, b"abcd"):
        assert parse(client(TEXT, data, form=form, mask=mask)) == [Text(data)]
    assert parse(client(BINARY, data, form=form)) == [Binary(data)]


def test_a_mask_is_taken_off_as_rfc_6455_shows() -> None:
    assert parse(bytes.fromhex("81 85 37 fa 21 3d 7f 9f 4d 51 58")) == [Text(b"Hello")]


def test_a_mask_of_zeros_is_a_mask() -> None:
    assert parse(client(TEXT, b"Hello", mask=bytes(4))) == [Text(b"Hello")]


@pytest.mark.parametrize(
    "frame", [text_frame(b"a" * 5), text_frame(b"a" * 200), ping_frame(), close_frame(1000)]
)
def test_an_unmasked_frame_is_a_protocol_error(frame: bytes) -> None:
    assert_refused(1002, frame)


def test_an_unmasked_frame_is_refused_by_its_second_byte() -> None:
    with pytest.raises(FrameError, match="masked"):
        parse(b"\x81\x05")


@pytest.mark.parametrize("data", [b"", b"a", b"abcd", b"abcde", bytes(range(256)) * 3])
def test_masking_without_the_c_module_gives_the_same(data: bytes) -> None:
    assert xor_mask(data, MASK) == apply_mask(data, MASK)
    assert xor_mask(xor_mask(data, MASK), MASK) == data


def test_several_frames_in_one_feed_keep_their_order() -> None:
    wire = client(TEXT, b"a") + client(PING, b"b") + client(BINARY, b"c") + client(TEXT) + client(PONG)
    assert parse(wire) == [Text(b"a"), Ping(b"b"), Binary(b"c"), Text(b""), Pong(b"")]


# 2 Pings and pongs


@pytest.mark.rule("CO9")
@pytest.mark.parametrize("data", [b"", b"Hello", bytes(range(256))[131:], b"\xfe" * 125])
def test_a_control_frame_carries_up_to_125_bytes(data: bytes) -> None:
    assert parse(client(PING, data)) == [Ping(data)]
    assert parse(client(PONG, data)) == [Pong(data)]


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_a_control_frame_of_126_bytes_is_refused_by_its_header(opcode: int) -> None:
    assert_refused(1002, client(opcode, b"\x03\xe8" + b"x" * 124))
    assert_refused(1002, bytes((0x80 | opcode, 0xFE)))


def test_a_control_frame_is_not_held_to_the_size_of_messages() -> None:
    assert parse(client(PING, b"12345") + client(TEXT, b"1234"), max_size=4) == [
        Ping(b"12345"),
        Text(b"1234"),
    ]


# 3 Reserved bits


@pytest.mark.parametrize("rsv", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
def test_a_reserved_bit_that_was_not_negotiated_is_a_protocol_error(opcode: int, rsv: int) -> None:
    assert_refused(1002, client(TEXT, b"ok") + client(opcode, rsv=rsv), [Text(b"ok")])


@pytest.mark.rule("CO6")
@pytest.mark.parametrize("rsv", [1, 2, 3, 5, 6, 7])
def test_deflate_allows_its_own_reserved_bit_only(rsv: int) -> None:
    assert_refused(1002, client(TEXT, squeeze(b"a"), rsv=rsv), inflate=True)


@pytest.mark.rule("CO6")
@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_a_control_frame_is_never_deflated(opcode: int) -> None:
    assert_refused(1002, client(opcode, rsv=4), inflate=True)


# 4 Opcodes


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("fin", [True, False])
def test_an_unknown_opcode_is_a_protocol_error(opcode: int, fin: bool) -> None:
    assert_refused(1002, client(TEXT, b"ok") + client(opcode, b"x", fin=fin) + client(PING), [Text(b"ok")])
    assert_refused(1002, client(TEXT, b"a", fin=False) + client(opcode, b"x", fin=fin))


# 5 Fragmentation


@pytest.mark.parametrize(("opcode", "kind"), [(TEXT, Text), (BINARY, Binary)])
@pytest.mark.parametrize("parts", [[b"frag", b"ment"], [b"", b"", b""], [b"a", b"", b"b", b"c"], [b"", b"x"]])
def test_fragments_become_one_message(
    opcode: int, kind: Callable[[bytes], Event], parts: list[bytes]
) -> None:
    assert parse(fragments(opcode, parts)) == [kind(b"".join(parts))]


def test_control_frames_between_fragments_come_at_once() -> None:
    parser = FrameParser()
    assert parser.feed(client(TEXT, b"a", fin=False) + client(PING, b"p")) == [Ping(b"p")]
    assert parser.feed(client(CONT, b"b", fin=False) + client(PONG, b"q")) == [Pong(b"q")]
    assert parser.feed(client(CONT, b"c") + client(TEXT, b"next")) == [Text(b"abc"), Text(b"next")]


def test_a_close_between_fragments_ends_the_connection() -> None:
    wire = client(TEXT, b"a", fin=False) + client(CLOSE, b"\x03\xe8") + client(CONT, b"b")
    assert parse(wire) == [Close(1000, "")]


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_a_fragmented_control_frame_is_a_protocol_error(opcode: int) -> None:
    assert_refused(1002, client(opcode, b"\x03\xe8", fin=False) + client(CONT, b"x"))


@pytest.mark.parametrize("fin", [True, False])
def test_a_continuation_without_a_start_is_a_protocol_error(fin: bool) -> None:
    assert_refused(1002, client(CONT, b"x", fin=fin) + client(TEXT, b"y"))
    assert_refused(1002, fragments(TEXT, [b"a", b"b"]) + client(CONT, b"x", fin=fin), [Text(b"ab")])


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("fin", [True, False])
def test_a_new_message_within_a_fragmented_one_is_a_protocol_error(opcode: int, fin: bool) -> None:
    start, new = client(TEXT, b"a", fin=False), client(opcode, b"bcd", fin=fin)
    assert_refused(1002, start + new)
    assert outcome(FrameParser(), [start, new]) == ([], 1002)


@pytest.mark.rule("LI1")
@pytest.mark.parametrize("payload", [b"", b"x"])
def test_fragments_without_end_are_too_big(payload: bytes) -> None:
    parser = FrameParser()
    assert parser.feed(client(TEXT, payload, fin=False)) == []
    one = client(CONT, payload, fin=False)
    assert parser.feed(one * (MAX_FRAGMENTS - 1)) == []
    with pytest.raises(FrameError) as caught:
        parser.feed(one)
    assert (caught.value.code, caught.value.reason) == (1009, "too_big")


def test_as_many_fragments_as_allowed_are_a_message() -> None:
    assert parse(fragments(TEXT, [b"x"] * MAX_FRAGMENTS)) == [Text(b"x" * MAX_FRAGMENTS)]


# 6 UTF-8: Autobahn 6.5 to 6.23, after Markus Kuhn's stress test

GOOD_TEXT = [
    "Hello-µ@ßöäüàá-UTF-8!!".encode(),
    "κόσμε".encode(),
    b"\x00",
    b"\x7f",
    b"\xc2\x80",
    b"\xdf\xbf",
    b"\xe0\xa0\x80",
    b"\xed\x9f\xbf",
    b"\xee\x80\x80",
    b"\xef\xbf\xbd",
    b"\xef\xbf\xbe",  # noncharacters are characters to UTF-8
    b"\xef\xbf\xbf",
    b"\xf0\x90\x80\x80",
    b"\xf0\x9f\xbf\xbf",
    b"\xf4\x8f\xbf\xbf",
]
BAD_TEXT = {
    "a first continuation byte": b"\x80",
    "the last continuation byte": b"\xbf",
    "a run of continuation bytes": b"\x80\xbf\x80\xbf",
    "all continuation bytes": bytes(range(0x80, 0xC0)),
    "lonely starts of two": b"\xc3 \xdf ",
    "lonely starts of three": b"\xe1 \xef ",
    "lonely starts of four": b"\xf1 \xf4 ",
    "starts of five and six": b"\xf8 \xfc ",
    "two without the last": b"\xce",
    "three without the last": b"\xe1\xbd",
    "four without the last": b"\xf0\x90\x80",
    "three without the last, then more": b"\xe1\xbd.",
    "an incomplete end": b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce",
    "a surrogate in the middle": b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80edited",
    "the byte fe": b"\xfe",
    "the byte ff": b"\xff",
    "fe fe ff ff": b"\xfe\xfe\xff\xff",
    "an overlong slash of two": b"\xc0\xaf",
    "an overlong slash of three": b"\xe0\x80\xaf",
    "an overlong slash of four": b"\xf0\x80\x80\xaf",
    "an overlong slash of five": b"\xf8\x80\x80\x80\xaf",
    "an overlong slash of six": b"\xfc\x80\x80\x80\x80\xaf",
    "the greatest overlong of two": b"\xc1\xbf",
    "the greatest overlong of three": b"\xe0\x9f\xbf",
    "the greatest overlong of four": b"\xf0\x8f\xbf\xbf",
    "an overlong nul": b"\xc0\x80",
    "past the last character": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "six bytes": b"\xfc\x84\x80\x80\x80\x80",
    "the first high surrogate": b"\xed\xa0\x80",
    "the last high surrogate": b"\xed\xaf\xbf",
    "the first low surrogate": b"\xed\xb0\x80",
    "the last low surrogate": b"\xed\xbf\xbf",
    "a surrogate pair": b"\xed\xa0\x80\xed\xb0\x80",
}
bad_text = pytest.mark.parametrize("data", BAD_TEXT.values(), ids=BAD_TEXT.keys())


@pytest.mark.parametrize("data", GOOD_TEXT)
def test_valid_utf_8_passes_however_it_is_cut(data: bytes) -> None:
    assert parse(client(TEXT, data)) == [Text(data)]
    assert parse(client(TEXT, data * 40)) == [Text(data * 40)]
    assert parse(fragments(TEXT, drip(data))) == [Text(data)]
    assert parse(client(TEXT, squeeze(data), rsv=4), inflate=True) == [Text(data)]


@bad_text
def test_invalid_utf_8_is_invalid_data(data: bytes) -> None:
    assert_refused(1007, client(TEXT, data))
    assert_refused(1007, client(TEXT, b"x" * 150 + data))
    assert_refused(1007, client(PING) + client(TEXT, data) + client(TEXT, b"y"), [Ping(b"")])


@bad_text
def test_invalid_utf_8_in_fragments_is_invalid_data(data: bytes) -> None:
    assert_refused(1007, fragments(TEXT, drip(data)))
    assert_refused(1007, fragments(TEXT, [b"", data]))


@bad_text
def test_invalid_utf_8_that_was_deflated_is_invalid_data(data: bytes) -> None:
    assert_refused(1007, client(TEXT, squeeze(data), rsv=4), inflate=True)
    assert_refused(1007, fragments(TEXT, drip(squeeze(data)), rsv=4), inflate=True)


@bad_text
def test_binary_messages_need_not_be_text(data: bytes) -> None:
    assert parse(client(BINARY, data) + fragments(BINARY, drip(data))) == [Binary(data), Binary(data)]


@pytest.mark.parametrize("bad", [b"\xf4\x90", b"\xed\xa0\x80", b"\xff", b"\xc0", b"\xe0\x80"])
def test_text_fails_in_the_fragment_that_breaks_it(bad: bytes) -> None:
    parser = FrameParser()
    assert parser.feed(client(TEXT, "κόσμε".encode(), fin=False)) == []
    with pytest.raises(FrameError) as caught:
        parser.feed(client(CONT, bad, fin=False))
    assert (caught.value.code, caught.value.reason) == (1007, "invalid_data")


def test_a_character_may_be_split_over_fragments_and_control_frames() -> None:
    wire = client(TEXT, b"\xe2\x82", fin=False) + client(PING, b"\xff") + client(CONT, b"\xac")
    assert parse(wire) == [Ping(b"\xff"), Text("€".encode())]


# 7 Close


def closing(code: int, reason: bytes = b"") -> bytes:
    return client(CLOSE, code.to_bytes(2, "big") + reason)


def test_a_close_without_a_payload_has_no_code() -> None:
    assert parse(client(CLOSE)) == [Close(NO_CODE, "")]


@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_a_registered_or_private_close_code_is_accepted(code: int) -> None:
    assert parse(closing(code)) == [Close(code, "")]
    assert parse(closing(code, "Größe".encode())) == [Close(code, "Größe")]


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_any_other_close_code_is_a_protocol_error(code: int) -> None:
    assert_refused(1002, closing(code, b"why"))


def test_a_close_of_one_byte_is_a_protocol_error() -> None:
    assert_refused(1002, client(CLOSE, b"\x03"))


def test_a_close_reason_may_fill_the_frame() -> None:
    assert parse(closing(1000, b"*" * 123)) == [Close(1000, "*" * 123)]


@bad_text
def test_a_close_reason_that_is_not_utf_8_is_invalid_data(data: bytes) -> None:
    assert_refused(1007, closing(1000, data))


@pytest.mark.parametrize("after", [client(TEXT, b"x"), client(PING), client(CLOSE), b"\xff" * 40, b"\x81"])
def test_nothing_after_a_close_is_parsed(after: bytes) -> None:
    parser = FrameParser()
    assert parser.feed(client(TEXT, b"a") + closing(1001) + after) == [Text(b"a"), Close(1001, "")]
    assert parser.feed(after) == []
    assert parser.buffered == 0


# 9 Limits


@pytest.mark.rule("LI1")
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [LIMIT + 1, 1 << 20, (1 << 63) - 1])
def test_a_message_too_big_is_refused_by_its_header(opcode: int, size: int) -> None:
    assert_refused(1009, client(PING) + declared(opcode, size), [Ping(b"")])
    assert_refused(1009, client(opcode, b"x", fin=False) + declared(CONT, size))


@pytest.mark.rule("LI1")
def test_the_limit_holds_for_the_reassembled_message() -> None:
    half = b"x" * (LIMIT // 2)
    assert parse(fragments(TEXT, [half, half])) == [Text(half * 2)]
    start = client(TEXT, half, fin=False) + client(CONT, half, fin=False)
    assert_refused(1009, start + declared(CONT, 1))
    assert parse(start + client(PING, b"p") + client(CONT)) == [Ping(b"p"), Text(half * 2)]


@pytest.mark.rule("LI1")
@pytest.mark.parametrize("limit", [0, 1, 125, 126, 190])
def test_the_limit_is_exact(limit: int) -> None:
    data = b"x" * limit
    for wire in (client(TEXT, data), fragments(BINARY, [data, b""])):
        assert len(parse(wire, max_size=limit)) == 1
    for wire in (client(TEXT, data + b"x"), fragments(BINARY, [data, b"x"])):
        with pytest.raises(FrameError) as caught:
            parse(wire, max_size=limit)
        assert (caught.value.code, caught.value.reason) == (1009, "too_big")


@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_length_with_the_highest_bit_is_a_protocol_error(opcode: int, size: int) -> None:
    assert_refused(1002, declared(opcode, size))


def test_a_slow_drip_costs_a_fixed_number_of_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    look = FrameParser._parse

    def counted(self: FrameParser, data: bytes, events: list[Event]) -> int:
        nonlocal looks
        looks += 1
        return look(self, data, events)

    monkeypatch.setattr(FrameParser, "_parse", counted)
    data = b"x" * LIMIT
    assert outcome(FrameParser(), drip(client(TEXT, data))) == ([Text(data)], None)
    assert looks <= 4  # its first byte, two bytes, the length, all of it


def test_an_idle_parser_holds_nothing() -> None:
    parser = FrameParser()
    first, second = client(TEXT, b"a" * 200), fragments(TEXT, [b"b", b"c"])
    assert len(outcome(parser, drip(first + second))[0]) == 2
    assert parser.buffered == 0
    assert (parser._buffer, parser._message) == (None, None)
    assert not hasattr(parser, "__dict__")
    tracemalloc.start()
    try:
        crowd = [FrameParser() for _ in range(1000)]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(crowd) < 150


def test_an_error_names_its_reason_and_what_was_wrong() -> None:
    with pytest.raises(FrameError) as caught:
        parse(client(TEXT, b"a") + client(PING, b"b") + client(TEXT, b"\xff") + client(TEXT, b"c"))
    error = caught.value
    assert (error.code, error.reason, error.events) == (1007, "invalid_data", [Text(b"a"), Ping(b"b")])
    assert error.message == str(error) == "text that is not UTF-8"


# 12, 13 Deflate


@pytest.mark.rule("CO6")
@pytest.mark.parametrize(
    "payload",
    [
        "f2 48 cd c9 c9 07 00",  # RFC 7692, 7.2.3.1: one block
        "00 05 00 fa ff 48 65 6c 6c 6f 00",  # 7.2.3.3: no compression
        "f3 48 cd c9 c9 07 00 00",  # 7.2.3.4: BFINAL
        "f2 48 05 00 00 00 ff ff ca c9 c9 07 00",  # 7.2.3.5: two blocks
    ],
)
def test_the_examples_of_rfc_7692_say_hello(payload: str) -> None:
    data = bytes.fromhex(payload)
    assert parse(client(TEXT, data, rsv=4), inflate=True) == [Text(b"Hello")]
    assert parse(fragments(TEXT, drip(data), rsv=4), inflate=True) == [Text(b"Hello")]


@pytest.mark.rule("CO6")
@pytest.mark.parametrize("size", [0, 1, 125, 126, 1000, 8192, LIMIT])
@pytest.mark.parametrize("bits", [9, 12, 15])
def test_a_deflated_message_of_any_length_arrives(size: int, bits: int) -> None:
    data = (b'{"method":"presence.cursor","params":{"x":1}}' * (size // 40 + 1))[:size]
    small = squeeze(data, bits=bits)
    assert parse(client(TEXT, small, rsv=4), inflate=True) == [Text(data)]
    assert parse(client(BINARY, small, rsv=4) * 3, inflate=True) == [Binary(data)] * 3


@pytest.mark.rule("CO6")
def test_plain_and_deflated_messages_may_be_mixed() -> None:
    parts = [squeeze(b"deflated")[:3], squeeze(b"deflated")[3:]]
    wire = client(TEXT, b"plain") + fragments(TEXT, parts, rsv=4) + fragments(BINARY, [b"pl", b"ain"])
    assert parse(wire, inflate=True) == [Text(b"plain"), Text(b"deflated"), Binary(b"plain")]


@pytest.mark.rule("CO6")
def test_only_the_first_fragment_says_that_a_message_is_deflated() -> None:
    wire = client(TEXT, b"\xf2\x48", fin=False, rsv=4)
    assert_refused(1002, wire + client(CONT, b"\xcd\xc9\xc9\x07\x00", rsv=4), inflate=True)
    assert_refused(1002, client(TEXT, b"a", fin=False) + client(CONT, b"b", rsv=4), inflate=True)


@pytest.mark.rule("CO6")
@pytest.mark.parametrize("data", [b"", b"\x00", b"\x02\x00", b"\x03\x00\x00"])
def test_an_empty_message_may_be_deflated_in_many_ways(data: bytes) -> None:
    assert parse(client(TEXT, data, rsv=4), inflate=True) == [Text(b"")]


@pytest.mark.rule("CO6")
def test_blocks_after_a_final_one_belong_to_the_message() -> None:
    words = b"the same words "
    for window in (b"", words):
        one = zlib.compressobj(6, zlib.DEFLATED, -15)
        two = zlib.compressobj(6, zlib.DEFLATED, -15, zdict=window)
        data = one.compress(words) + one.flush() + two.compress(words) + two.flush() + b"\x00"
        assert parse(client(TEXT, data, rsv=4), inflate=True) == [Text(words * 2)]


@pytest.mark.rule("CO6")
@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",  # a block of no known type
        b"\x00\x05\x00\x00\x00Hello",  # a length that its check denies
        squeeze(b"Hello" * 20)[:-4],
        squeeze(b"Hello" * 20)[:2],
        b"\x00\xff\x00\x00\xffHello",  # five bytes of 255
        squeeze(b"Hello") + b"\x00\x00\xff\xff",  # the tail was not cut off
        b"\xf3\x48\xcd\xc9\xc9\x07\x00trailing",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00",  # final, and the empty header after it is missing
        b"\x03\x00" * 100 + b"\x00",  # a hundred final blocks
        b"\x02\x01\x00",
        zlib.compress(b"Hello"),  # a zlib header, which is not raw deflate
    ],
)
def test_corrupt_deflate_data_is_invalid_data(data: bytes) -> None:
    for opcode in (TEXT, BINARY):
        assert_refused(1007, client(PING) + client(opcode, data, rsv=4), [Ping(b"")], inflate=True)


@pytest.mark.rule("CO6")
def test_a_client_that_goes_on_with_its_context_is_refused() -> None:
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    first, second = (
        (deflater.compress(b"the same words") + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
        for _ in range(2)
    )
    wire = client(TEXT, first, rsv=4) + client(TEXT, second, rsv=4)
    assert_refused(1007, wire, [Text(b"the same words")], inflate=True)


@pytest.mark.rule("CO6", "LI1")
@pytest.mark.parametrize("limit", [1, 100, LIMIT])
def test_the_limit_holds_for_the_inflated_message(limit: int) -> None:
    data = b"x" * limit
    assert parse(client(TEXT, squeeze(data), rsv=4), inflate=True, max_size=limit) == [Text(data)]
    with pytest.raises(FrameError) as caught:
        parse(client(TEXT, squeeze(data + b"x"), rsv=4), inflate=True, max_size=limit)
    assert caught.value.code == 1009


@pytest.mark.rule("CO6", "LI1")
@pytest.mark.parametrize("final", [False, True])
def test_a_deflate_bomb_is_never_inflated(final: bool) -> None:
    bomb = squeeze(b"\x00" * 50_000_000)
    if final:  # the same in many final blocks
        part = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = (part.compress(b"\x00" * 60_000) + part.flush()) * 60
    assert len(bomb) < LIMIT
    wire = client(TEXT, bomb, rsv=4)
    parser = FrameParser(inflate=True)
    tracemalloc.start()
    try:
        events, code = outcome(parser, [wire])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (events, code) == ([], 1009)
    assert peak < 6 * LIMIT  # the frame, its unmasked copies, and what was inflated up to the limit


@pytest.mark.rule("CO6", "LI1")
def test_what_does_not_compress_has_the_whole_limit_too() -> None:
    noise = b"".join(zlib.crc32(i.to_bytes(4, "big")).to_bytes(4, "big") for i in range(LIMIT // 4))
    for level in (0, 1, 9):
        small = squeeze(noise, level)
        assert len(small) > LIMIT
        assert parse(client(BINARY, small, rsv=4), inflate=True) == [Binary(noise)]


@pytest.mark.rule("CO6", "LI1")
def test_a_deflated_message_too_big_is_refused_by_its_header() -> None:
    assert_refused(1009, declared(TEXT, LIMIT * 2, rsv=4), inflate=True)
    wire = client(BINARY, b"\x00" * LIMIT, fin=False, rsv=4)
    assert_refused(1009, wire + declared(CONT, LIMIT // 4), inflate=True)


# What the server sends


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 70000])
def test_server_frames_are_what_websockets_makes(size: int) -> None:
    data = b"x" * size
    assert text_frame(data) == Frame(Opcode.TEXT, data).serialize(mask=False)
    assert binary_frame(data) == Frame(Opcode.BINARY, data).serialize(mask=False)


def test_control_frames_are_what_websockets_makes() -> None:
    assert ping_frame(b"a") == Frame(Opcode.PING, b"a").serialize(mask=False)
    assert pong_frame(b"b") == Frame(Opcode.PONG, b"b").serialize(mask=False)
    assert close_frame(1001, "draining") == Frame(Opcode.CLOSE, b"\x03\xe9draining").serialize(mask=False)
    assert close_frame(NO_CODE) == b"\x88\x00"


def test_a_close_reason_is_cut_between_characters() -> None:
    assert body(close_frame(1008, "x" * 200))[2:] == b"x" * 123
    assert body(close_frame(1008, "€" * 42))[2:] == "€".encode() * 41
    assert body(close_frame(1008, "x" + "€" * 41))[2:] == b"x" + "€".encode() * 40


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000])
def test_a_close_code_that_is_not_for_the_wire_is_not_sent(code: int) -> None:
    with pytest.raises(ValueError, match="close code"):
        close_frame(code)


def test_a_control_frame_too_long_is_not_sent() -> None:
    with pytest.raises(ValueError, match="125"):
        ping_frame(b"x" * 126)
    with pytest.raises(ValueError, match="125"):
        pong_frame(b"x" * 126)


@pytest.mark.rule("CO6")
def test_deflated_frames_save_what_they_promise() -> None:
    data = b'[{"type":"event","method":"presence.cursor","data":{"x":104.5,"y":77.25}}]' * 20
    frame = deflated_text_frame(data)
    assert frame == deflated(data, frames.OPCODE_TEXT)
    assert frame[0] == 0xC1
    assert deflated(data, frames.OPCODE_BINARY)[0] == 0xC2
    assert len(frame) < len(data) / 8


@pytest.mark.rule("CO6")
@given(st.binary(max_size=2000), st.integers(1, 40))
def test_what_we_deflate_fits_the_window_we_promise(data: bytes, times: int) -> None:
    small = body(deflated(data * times, frames.OPCODE_BINARY))
    inflater = zlib.decompressobj(-frames._WINDOW_BITS)
    assert inflater.decompress(small + TAIL) == data * times


def peer(bits: int = 15) -> PerMessageDeflate:
    """The other end, as `websockets` has it after our answer."""
    return PerMessageDeflate(True, True, bits, 15)


@pytest.mark.rule("CO6")
@given(st.binary(max_size=3000), st.integers(1, 20), st.sampled_from([12, 15]))
@example(b"", 1, 15)
def test_deflate_goes_both_ways_with_websockets(data: bytes, times: int, bits: int) -> None:
    data *= times
    extension = peer(bits)
    there = Frame(Opcode.BINARY, body(deflated(data, frames.OPCODE_BINARY)), rsv1=True)
    assert bytes(extension.decode(there).data) == data
    back = Frame(Opcode.BINARY, data).serialize(mask=True, extensions=[extension])
    assert parse(back, inflate=True) == [Binary(data)]


@pytest.mark.rule("CO6")
@given(st.lists(st.binary(max_size=500), min_size=2, max_size=6))
def test_fragments_deflated_by_websockets_are_one_message(parts: list[bytes]) -> None:
    extension = peer()
    wire = b""
    for i, part in enumerate(parts):
        frame = Frame(Opcode.CONT if i else Opcode.BINARY, part, fin=i == len(parts) - 1)
        wire += frame.serialize(mask=True, extensions=[extension])
    assert parse(wire, inflate=True) == [Binary(b"".join(parts))]


# Negotiation

ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.rule("CO6")
@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", ANSWER),
        ("permessage-deflate; client_max_window_bits", ANSWER),  # Chrome, Firefox
        ("permessage-deflate; client_max_window_bits=8", ANSWER),
        ('permessage-deflate ;client_max_window_bits = "15"', ANSWER),
        ("permessage-deflate;server_no_context_takeover;client_no_context_takeover", ANSWER),
        ("permessage-deflate; server_max_window_bits=15", ANSWER + "; server_max_window_bits=15"),
        ('permessage-deflate; server_max_window_bits="12"', ANSWER + "; server_max_window_bits=12"),
        ("x-webkit-deflate-frame, permessage-deflate", ANSWER),
        ('permessage-bzip2; level="1", permessage-deflate; client_max_window_bits', ANSWER),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", ANSWER),
        (
            "permessage-deflate; unknown, permessage-deflate; server_max_window_bits=13, permessage-deflate",
            ANSWER + "; server_max_window_bits=13",
        ),
        (",, permessage-deflate ,", ANSWER),
    ],
)
def test_the_first_offer_that_can_be_met_is_answered(offer: str, answer: str) -> None:
    assert negotiate_deflate(offer) == answer


@pytest.mark.rule("CO6")
@pytest.mark.parametrize(
    "offer",
    [
        "",
        "x-webkit-deflate-frame",
        "permessage-deflate-2",
        "permessage-deflate;",
        "permessage-deflate; unknown",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=11",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=012",
        "permessage-deflate; server_max_window_bits=1٢",
        "permessage-deflate; client_max_window_bits=0",
        "permessage-deflate; client_max_window_bits=",
        'permessage-deflate; client_max_window_bits="10',
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=12; server_max_window_bits=13",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate client_max_window_bits",
    ],
)
def test_an_offer_that_cannot_be_met_is_declined(offer: str) -> None:
    assert negotiate_deflate(offer) is None


@given(st.text(max_size=200) | st.text('maxwindobts_=;, "12', max_size=60).map("permessage-deflate;".__add__))
def test_no_header_breaks_the_negotiation(header: str) -> None:
    answer = negotiate_deflate(header)
    assert answer is None or answer.startswith(ANSWER)


# What must always hold


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """Messages as a client frames them, fragmented, deflated and interleaved, and the events they are."""
    wire = b""
    events: list[Event] = []
    masks = st.binary(min_size=4, max_size=4)
    controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))
    for _ in range(draw(st.integers(0, 5))):
        size = draw(st.sampled_from([10, 130, 300]))
        event: Text | Binary = draw(
            st.text(max_size=size).map(lambda text: Text(text.encode()))
            | st.binary(max_size=size).map(Binary)
            | st.just(Binary(b"ab" * 33000))
        )
        opcode = TEXT if isinstance(event, Text) else BINARY
        packed = draw(st.booleans()) or len(event.data) > LIMIT
        data = squeeze(event.data) if packed else event.data
        cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
        edges = list(zip([0, *cuts], [*cuts, len(data)], strict=True))
        for i, (start, stop) in enumerate(edges):
            last = i == len(edges) - 1
            wire += client(
                CONT if i else opcode,
                data[start:stop],
                fin=last,
                rsv=4 if packed and not i else 0,
                mask=draw(masks),
            )
            if not last and draw(st.booleans()):
                code, payload = draw(controls)
                wire += client(code, payload, mask=draw(masks))
                events.append(Ping(payload) if code == PING else Pong(payload))
        events.append(event)
    return wire, events


def cut(wire: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({place % (len(wire) + 1) for place in places} | {0, len(wire)})
    return [wire[start:stop] for start, stop in pairwise(edges)]


PLACES = st.lists(st.integers(0, 1 << 20), max_size=30)


@given(conversations(), PLACES)
def test_where_the_stream_is_cut_makes_no_difference(
    conversation: tuple[bytes, list[Event]], places: list[int]
) -> None:
    wire, events = conversation
    assert outcome(FrameParser(1 << 17, True), [wire]) == (events, None)
    assert outcome(FrameParser(1 << 17, True), cut(wire, places)) == (events, None)
    if len(wire) < 2000:
        assert outcome(FrameParser(1 << 17, True), drip(wire)) == (events, None)


def bound(max_size: int, inflate: bool) -> int:
    """A whole message but for its last fragment, and a control frame but for its last byte."""
    return max_size + (max_size // 8 + 64 if inflate else 0) + 130


@st.composite
def noise(draw: st.DrawFn) -> bytes:
    """Bytes that look enough like frames to go deep: real headers, broken here and there."""
    wire = b""
    for _ in range(draw(st.integers(0, 8))):
        if draw(st.integers(0, 9)) == 0:
            wire += draw(st.binary(max_size=20))
            continue
        payload = draw(st.binary(max_size=40) | st.binary(max_size=40).map(squeeze) | st.just(b"x" * 130))
        wire += client(
            draw(st.sampled_from([CONT, TEXT, BINARY, TEXT, BINARY, PING, PONG, CLOSE, 3])),
            payload,
            fin=draw(st.booleans()),
            rsv=draw(st.sampled_from([0, 0, 0, 4, 4, 2])),
            form=draw(st.sampled_from([0, 0, 126, 127])) if len(payload) < 126 else 0,
        )
    return wire


@given(noise() | st.binary(max_size=200), PLACES, st.sampled_from([0, 16, 100, 200]), st.booleans())
def test_any_bytes_give_events_or_a_frame_error_within_bounds(
    wire: bytes, places: list[int], max_size: int, inflate: bool
) -> None:
    whole = outcome(FrameParser(max_size, inflate), [wire])
    parser = FrameParser(max_size, inflate)
    events: list[Event] = []
    code: int | None = None
    for chunk in cut(wire, places):
        try:
            events += parser.feed(chunk)
        except FrameError as error:
            assert code is None
            events += error.events
            code = error.code
        assert parser.buffered <= bound(max_size, inflate)
    assert (events, code) == whole
    assert code in (None, 1002, 1007, 1009)
    for event in events:
        match event:
            case Text(data):
                assert len(data) <= max_size
                data.decode()
            case Binary(data):
                assert len(data) <= max_size
            case Ping(data) | Pong(data):
                assert len(data) <= 125
            case Close():
                assert event is events[-1]


@given(st.binary(max_size=300), st.sampled_from([TEXT, BINARY, PING, PONG]))
def test_frames_by_websockets_are_read(data: bytes, opcode: int) -> None:
    if opcode in (PING, PONG):
        data = data[:125]
    wire = Frame(Opcode(opcode), data).serialize(mask=True)
    kinds: dict[int, Callable[[bytes], Event]] = {TEXT: Text, BINARY: Binary, PING: Ping, PONG: Pong}
    events, code = outcome(FrameParser(), [wire])
    if opcode == TEXT and code is not None:
        assert code == 1007
        with pytest.raises(UnicodeDecodeError):
            data.decode()
    else:
        assert events == [kinds[opcode](data)]


@given(
    st.one_of(
        st.builds(client, st.sampled_from([TEXT, BINARY, CONT, PING]), st.binary(max_size=300)),
        st.builds(lambda text: client(TEXT, text.encode()), st.text(max_size=80)),
        st.builds(client, st.just(TEXT), st.just(b"a"), form=st.sampled_from([126, 127])),
        st.builds(client, st.just(TEXT), st.just(b"aa"), fin=st.booleans(), rsv=st.sampled_from([0, 4])),
        st.binary(max_size=12),
    ),
    st.booleans(),
    st.binary(max_size=3),
)
def test_the_short_way_of_one_whole_message_finds_what_the_long_way_finds(
    wire: bytes, binary: bool, rest: bytes
) -> None:
    for data in (
        wire,
        wire + rest,
        wire[:-1],
        wire[:1] + bytes((wire[1] & 0x7F,)) + wire[2:] if wire[1:] else b"",
    ):
        payload = FrameParser(250).whole(data, binary)
        if payload is not None:
            assert FrameParser(250).feed(data) == [Binary(payload) if binary else Text(payload)]


def test_the_short_way_waits_for_what_came_before() -> None:
    message = client(TEXT, b"hello")
    for begun in (message[:3], client(TEXT, b"a", fin=False), client(CLOSE)):
        parser = FrameParser()
        parser.feed(begun)
        assert parser.whole(message, binary=False) is None
    assert FrameParser(4).whole(message, binary=False) is None


@given(st.lists(st.binary(max_size=70), max_size=4), st.sampled_from([0, 60_000, 70_000]))
def test_a_frame_of_pieces_is_the_frame_of_the_whole(parts: list[bytes], more: int) -> None:
    parts.append(b"x" * more)
    assert frames.joined_frame(TEXT, parts) == text_frame(b"".join(parts))
    assert frames.joined_frame(BINARY, parts) == binary_frame(b"".join(parts))
