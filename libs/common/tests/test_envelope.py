"""The envelope in both formats: what is read, what is refused and how it is told, what is written."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET, Raw, Struct

from roundtable.common.schema.envelope import (
    LONGEST_TEXT,
    MAX_BATCH,
    ClientMessage,
    ErrorMessage,
    Format,
    Response,
    ServerEvent,
    decode_client,
    decode_params,
    encode,
    encode_sse,
    to_json,
)
from roundtable.common.schema.errors import REASONS, ErrorBody, Refusal
from roundtable.common.schema.methods import METHODS

T = TypeVar("T")

FORMATS: tuple[Format, ...] = ("json", "msgpack")
formats = st.sampled_from(FORMATS)
both = pytest.mark.parametrize("fmt", FORMATS)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["request", "event", "response", "error", "canvas.draw"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(["type", "method", "id", "params", "timestamp", "data", "error", "other"])
almost = st.dictionaries(fields, values, max_size=8) | st.builds(
    lambda base, change: base | change,
    st.just({"type": "request", "id": "1", "method": "canvas.draw"}),
    st.dictionaries(fields, values, max_size=2),
)


def packed(value: Any, fmt: Format) -> bytes:
    return json.dumps(value).encode() if fmt == "json" else msgspec.msgpack.encode(value)


def request(fmt: Format, **changed: Any) -> bytes:
    return packed({"type": "request", "id": "1", "method": "canvas.draw"} | changed, fmt)


def refused(data: bytes, fmt: Format) -> Refusal:
    """Of one message, or of the whole frame."""
    try:
        [found] = decode_client(data, fmt)
    except Refusal as refusal:
        return refusal
    assert isinstance(found, tuple), found
    return found[0]


def attempt(work: Callable[[], T]) -> T | None:
    """The result, or None where it is refused in the contract's words."""
    try:
        return work()
    except Refusal as error:
        refusal = error
    be_readable(refusal)
    return None


def be_readable(refusal: Refusal) -> None:
    assert refusal.reason == "invalid_data"
    assert 0 < len(refusal.message) < 2 * LONGEST_TEXT


def check(data: bytes, fmt: Format) -> None:
    """Whatever comes, it is read or refused, and nothing else happens."""
    found = attempt(lambda: decode_client(data, fmt))
    if found is None:
        return
    assert 1 <= len(found) <= MAX_BATCH
    for each in found:
        match each:
            case ClientMessage():
                assert each.type in ("request", "event")
                assert each.method
                assert each.type == "event" or 1 <= len(each.id) <= 64
                for method in METHODS.values():
                    attempt(partial(decode_params, each.params, method.params, fmt))
            case refusal, ident, method_name:
                be_readable(refusal)
                assert len(ident) <= 64
                assert len(method_name) <= 64


@pytest.mark.rule("EN1", "EN3")
@given(st.binary(max_size=200), formats)
@example(b"", "json")
@example(b"\xc1", "msgpack")
@example(b"\xef\xbb\xbf{}", "json")
@example(b'"\\ud800"', "json")
@example(b'{"type":"request","id":"\\ud800","method":"m"}', "json")
@example(b"\x81\x90\x01", "msgpack")
@example(b"\xc7\x0c\xff" + b"\xff" * 12, "msgpack")
def test_any_bytes_are_messages_or_a_refusal(data: bytes, fmt: Format) -> None:
    check(data, fmt)


@pytest.mark.rule("EN1", "EN3")
@given(almost | st.lists(almost, max_size=3) | values, formats, st.data())
def test_what_is_almost_a_message_is_one_or_a_refusal(value: Any, fmt: Format, data: st.DataObject) -> None:
    whole = packed(value, fmt)
    check(whole, fmt)
    at = data.draw(st.integers(0, max(len(whole) - 1, 0)))
    check(whole[:at], fmt)
    check(whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + 1 :], fmt)


@pytest.mark.rule("EN1", "EN2")
@both
def test_a_request_and_an_event_are_read(fmt: Format) -> None:
    [message] = decode_client(request(fmt, timestamp=1.5, params={"a": 1}), fmt)
    assert isinstance(message, ClientMessage)
    assert (message.type, message.id, message.method, message.timestamp) == (
        "request",
        "1",
        "canvas.draw",
        1.5,
    )
    [event] = decode_client(packed({"type": "event", "method": "presence.cursor"}, fmt), fmt)
    assert isinstance(event, ClientMessage)
    assert (event.type, event.id, event.params) == ("event", "", UNSET)


@pytest.mark.rule("EN1")
@both
def test_a_batch_is_read_one_by_one_and_a_wrong_one_stands_in_its_place(fmt: Format) -> None:
    batch = [
        {"type": "request", "id": "1", "method": "canvas.draw"},
        {"type": "request", "id": "2", "method": "canvas.draw", "colour": 1},
        {"type": "request", "id": "", "method": "canvas.undo"},
        7,
        {"type": "event", "method": "presence.cursor"},
    ]
    first, second, third, fourth, fifth = decode_client(packed(batch, fmt), fmt)
    assert isinstance(first, ClientMessage)
    assert isinstance(second, tuple)
    assert second[1:] == ("2", "canvas.draw")
    assert "colour" in second[0].message
    assert isinstance(third, tuple)
    assert third[1:] == ("", "canvas.undo")
    assert isinstance(fourth, tuple)
    assert isinstance(fifth, ClientMessage)


@pytest.mark.rule("EN1")
@both
def test_a_batch_holds_one_to_a_hundred_messages(fmt: Format) -> None:
    message = {"type": "event", "method": "m"}
    assert len(decode_client(packed([message] * 100, fmt), fmt)) == 100
    for wrong in ([], [message] * 101):
        with pytest.raises(Refusal, match="1 to 100"):
            decode_client(packed(wrong, fmt), fmt)


@pytest.mark.rule("EN1")
def test_a_batch_may_begin_with_much_white_space() -> None:
    assert len(decode_client(b" \t\r\n" * 100 + b'[{"type":"event","method":"m"}]', "json")) == 1


@pytest.mark.rule("EN2")
@both
@pytest.mark.parametrize("kind", ["response", "error"])
def test_a_client_answers_nothing(fmt: Format, kind: str) -> None:
    assert kind in refused(request(fmt, type=kind), fmt).message


@pytest.mark.rule("EN2")
@both
@pytest.mark.parametrize("ident", ["", "x" * 65, 7, None, ["1"]])
def test_a_request_has_an_id_of_1_to_64_characters(fmt: Format, ident: object) -> None:
    assert "id" in refused(request(fmt, id=ident), fmt).message


@pytest.mark.rule("EN3")
@both
@pytest.mark.parametrize("field", ["data", "error", "colour", "", "a`b\n"])
def test_a_field_that_is_not_a_clients_is_refused_by_its_name(fmt: Format, field: str) -> None:
    assert f"`{field}`" in refused(request(fmt, **{field: 1}), fmt).message


class Inner(Struct, forbid_unknown_fields=True):
    number: float


class Params(Struct, forbid_unknown_fields=True):
    inner: Inner
    many: tuple[Inner, ...] = ()
    choice: Literal["a", "b"] = "a"


@pytest.mark.rule("EN3")
@both
@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"inner": {"number": 1, "extra": 2}}, "`params.inner.extra`"),
        ({"inner": {"number": "x"}}, "`params.inner.number`"),
        ({"inner": {"number": 1}, "many": [{"number": 1}, {}]}, "`params.many[1]`"),
        ({"inner": {"number": 1}, "choice": "c"}, "`params.choice`"),
        ({}, "`inner` - at `params`"),
        ([], "at `params`"),
    ],
)
def test_a_refusal_names_the_path_of_what_is_wrong(fmt: Format, params: Any, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        decode_params(Raw(packed(params, fmt)), Params, fmt)
    assert words in caught.value.message


@both
def test_missing_params_are_empty_ones(fmt: Format) -> None:
    assert decode_params(UNSET, METHODS["canvas.clear"].params, fmt) == METHODS["canvas.clear"].params()


@both
def test_a_refusal_does_not_repeat_what_is_long(fmt: Format) -> None:
    for field in ("x" * 60_000, "`" * 60_000, "\n" * 60_000):
        assert len(refused(request(fmt, **{field: 1}), fmt).message) < 2 * LONGEST_TEXT
        with pytest.raises(Refusal) as caught:
            decode_params(Raw(packed({"inner": {field: 1}}, fmt)), Params, fmt)
        assert len(caught.value.message) < 2 * LONGEST_TEXT


# Hostile input


@pytest.mark.parametrize(
    ("data", "fmt"),
    [
        (b"[" * 5_000, "json"),
        (b"[" * 5_000 + b"]" * 5_000, "json"),
        (b'{"type":' * 5_000, "json"),
        (b'{"type":"event","method":"m","params":' + b"[" * 30_000 + b"]" * 30_000 + b"}", "json"),
        (b'{"a":' * 30_000 + b"1" + b"}" * 30_000, "json"),
        (b"\x91" * 60_000, "msgpack"),
        (b"\x91" * 60_000 + b"\x01", "msgpack"),
        (b"\x81\xa1a" * 20_000 + b"\x01", "msgpack"),
        (b"\x83\xa4type\xa5event\xa6method\xa1m\xa6params" + b"\x91" * 60_000 + b"\x01", "msgpack"),
    ],
)
def test_deep_nesting_is_refused(data: bytes, fmt: Format) -> None:
    assert refused(data, fmt).reason == "invalid_data"


@pytest.mark.parametrize(
    "claimed",
    [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"],
)
def test_a_length_that_is_only_claimed_costs_nothing(claimed: bytes) -> None:
    for data in (claimed, b"\x83\xa4type\xa5event\xa6method\xa1m\xa6params" + claimed):
        assert refused(data, "msgpack").reason == "invalid_data"


def float_paths(kind: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where a float may stand in a method's parameters."""
    info = msgspec.inspect.type_info(kind) if not isinstance(kind, msgspec.inspect.Type) else kind
    match info:
        case msgspec.inspect.Metadata():
            return float_paths(info.type, path)
        case msgspec.inspect.FloatType():
            return [path]
        case msgspec.inspect.StructType():
            return [
                found
                for field in info.fields
                for found in float_paths(field.type, (*path, field.encode_name))
            ]
        case msgspec.inspect.VarTupleType() | msgspec.inspect.ListType():
            return float_paths(info.item_type, (*path, "[]"))
        case msgspec.inspect.UnionType():
            return [found for each in info.types for found in float_paths(each, path)]
        case _:
            return []


POINT = {"x": 1, "y": 2}
STROKE = {"type": "draw", "tool": "pen", "color": "#fff", "size": 1, "points": [POINT]}
VALID: dict[str, Any] = {
    "canvas.draw": {"operations": [STROKE]},
    "canvas.preview": {"id": "1", "tool": "pen", "color": "#fff", "size": 1, "points": [POINT]},
    "presence.cursor": POINT,
}


def replaced(value: Any, path: tuple[str, ...], by: Any) -> Any:
    match path:
        case ():
            return by
        case ("[]", *rest):
            return [replaced(value[0], tuple(rest), by)]
        case _:
            name, *rest = path
            return value | {name: replaced(value[name], tuple(rest), by)}


FLOATS = [(name, path) for name, method in METHODS.items() for path in float_paths(method.params)]


def test_every_method_that_takes_numbers_is_tried_below() -> None:
    assert {name for name, _ in FLOATS} == set(VALID)
    for name, params in VALID.items():
        decode_params(Raw(packed(params, "msgpack")), METHODS[name].params, "msgpack")


@pytest.mark.rule("EN3")
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e300, 2**64 - 1])
@pytest.mark.parametrize(("name", "path"), FLOATS)
def test_no_number_in_messagepack_leaves_its_bounds(name: str, path: tuple[str, ...], number: float) -> None:
    params = Raw(packed(replaced(VALID[name], path, number), "msgpack"))
    with pytest.raises(Refusal) as caught:
        decode_params(params, METHODS[name].params, "msgpack")
    assert path[-1] in caught.value.message or "finite" in caught.value.message


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800000, 0xFF800000, 0x7F800001])
def test_the_small_floats_of_messagepack_are_no_way_around(bits: int) -> None:
    params = b"\x82\xa1x\xca" + struct.pack(">I", bits) + b"\xa1y\x01"
    with pytest.raises(Refusal):
        decode_params(Raw(params), METHODS["presence.cursor"].params, "msgpack")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_timestamp_is_a_finite_number(number: float) -> None:
    assert "timestamp" in refused(request("msgpack", timestamp=number), "msgpack").message


@pytest.mark.parametrize(
    "text", ["1e400", "-1e400", "NaN", "Infinity", "1" * 400, "1" * 5_000, "0x1", "01", "+1", "1."]
)
def test_numbers_that_json_does_not_know_or_nobody_can_hold_are_refused(text: str) -> None:
    data = f'{{"type":"event","method":"m","timestamp":{text}}}'.encode()
    assert refused(data, "json").reason == "invalid_data"
    with pytest.raises(Refusal):
        decode_params(Raw(f'{{"x":{text},"y":1}}'.encode()), METHODS["presence.cursor"].params, "json")


@pytest.mark.parametrize(
    "ext", [b"\xd4\x05\x00", b"\xd6\xff\x00\x00\x00\x00", b"\xc7\x0c\xff" + b"\xff" * 12, b"\xc7\x00\x7f"]
)
def test_extension_types_are_no_values_of_ours(ext: bytes) -> None:
    for field in (b"\xa2id", b"\xa4type", b"\xa9timestamp", b"\xa5other"):
        head = b"\x83\xa4type\xa7request\xa6method\xa1m"
        assert refused(head + field + ext, "msgpack").reason == "invalid_data"
    with pytest.raises(Refusal):
        decode_params(Raw(b"\x82\xa1x\x01\xa1y" + ext), METHODS["presence.cursor"].params, "msgpack")


@both
def test_of_a_key_that_stands_twice_one_value_counts(fmt: Format) -> None:
    if fmt == "json":
        data = b'{"type":"event","method":"a","method":"b"}'
    else:
        data = b"\x83\xa4type\xa5event\xa6method\xa1a\xa6method\xa1b"
    [message] = decode_client(data, fmt)
    assert isinstance(message, ClientMessage)
    assert message.method in ("a", "b")


@pytest.mark.rule("EN1")
@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"event","method":"m\xff"}',
        b'{"type":"event","method":"m","params":{"text":"\xff\xfe"}}',
        b'{"type":"event","method":"m","params":"\xed\xa0\x80"}',
        b'[{"type":"event","method":"m","params":"\xc0\x80"}]',
        b'{"type":"event","method":"m","params":{"\xf8":1}}',
    ],
)
def test_text_that_is_not_utf_8_is_refused_wherever_it_stands(data: bytes) -> None:
    assert refused(data, "json").reason == "invalid_data"


@pytest.mark.parametrize("text", [rb"\ud800", rb"\udc00\ud800", rb"\ud800x", rb"\u12"])
def test_half_a_surrogate_pair_is_no_text(text: bytes) -> None:
    assert refused(b'{"type":"event","method":"' + text + b'"}', "json").reason == "invalid_data"
    with pytest.raises(Refusal):
        decode_params(Raw(b'{"token":"' + text + b'"}'), METHODS["auth.login"].params, "json")


@pytest.mark.parametrize(
    "data", [b'{"type":"event","method":"a"} x', b'{"type":"event","method":"a"}{}', b"[] []"]
)
def test_what_follows_a_message_is_refused_with_it(data: bytes) -> None:
    assert refused(data, "json").reason == "invalid_data"


# What the server writes


def server_messages(data: Any) -> list[ServerEvent | Response | ErrorMessage]:
    body = ErrorBody(1008, "text", "rate_limited", 1.5)
    return [
        ServerEvent("canvas.draw", to_json(data), 1, "cursor"),
        ServerEvent("presence.cursor", to_json(data), 1),
        Response("1", "canvas.draw", to_json(data), 1),
        ErrorMessage(body, 1, "1", "canvas.draw"),
        ErrorMessage(body, 1),
    ]


@pytest.mark.rule("EN1", "EN4", "EN7")
@given(values)
def test_both_formats_say_the_same(data: Any) -> None:
    for message in server_messages(data):
        as_json = json.loads(encode(message, "json"))
        assert msgspec.msgpack.decode(encode(message, "msgpack")) == as_json
        assert as_json["type"] in ("event", "response", "error")
        assert isinstance(as_json["timestamp"], int)


@pytest.mark.rule("EN4", "EN7")
def test_what_a_message_does_not_have_is_not_there() -> None:
    keys = [set(json.loads(encode(message, "json"))) for message in server_messages({})]
    assert keys == [
        {"type", "id", "method", "data", "timestamp"},
        {"type", "method", "data", "timestamp"},
        {"type", "id", "method", "data", "timestamp"},
        {"type", "id", "method", "error", "timestamp"},
        {"type", "error", "timestamp"},
    ]


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**300, -(10**400)])
def test_whole_numbers_that_messagepack_has_no_form_for_do_not_stop_a_message(number: int) -> None:
    event = ServerEvent("activity.post", Raw(b'{"a":[%d]}' % number), 1)
    [value] = msgspec.msgpack.decode(encode(event, "msgpack"))["data"]["a"]
    assert float(value) == pytest.approx(float(number)) if abs(number) < 10**308 else value


@pytest.mark.rule("EN6")
@given(values)
def test_an_sse_event_is_one_line_with_the_method_as_its_type(data: Any) -> None:
    line = encode_sse(ServerEvent("canvas.draw", to_json(data), 1, "cursor"))
    assert not {b"\n"[0], b"\r"[0]} & set(line)
    event = json.loads(line)
    assert (event["type"], event["id"], event["timestamp"]) == ("canvas.draw", "cursor", 1)
    assert event["data"] == json.loads(bytes(to_json(data)))


@given(st.sampled_from(sorted(REASONS)), st.text(max_size=30), st.none() | st.floats(0, 10**6))
def test_a_refusal_travels_as_a_body_and_comes_back(reason: str, text: str, wait: float | None) -> None:
    refusal = Refusal(reason, text, retry_after=wait)
    body = msgspec.json.decode(msgspec.json.encode(refusal.body), type=ErrorBody)
    assert body == refusal.body
    again = Refusal.of(body)
    assert (again.reason, again.message, again.body) == (refusal.reason, refusal.message, refusal.body)
