"""The small pure parts: addresses, the parser of event streams, the pace, the table of what to do."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundtable.client.address import address_of
from roundtable.client.errors import LOST, RoundtableError, advice_of
from roundtable.client.event_stream import LARGEST, EventStreamParser, StreamEvent, TooLarge
from roundtable.client.messages import Failure, Unreadable, decode, decode_error, decode_poll
from roundtable.client.pace import Pace
from roundtable.common.schema.envelope import Format
from roundtable.common.schema.errors import REASONS

# Addresses


@pytest.mark.parametrize(
    ("url", "socket", "stream"),
    [
        ("ws://localhost:8080", "ws://localhost:8080/ws?room=inn", "http://localhost:8080/sse?room=inn"),
        (
            "http://localhost:8080/sse",
            "ws://localhost:8080/ws?room=inn",
            "http://localhost:8080/sse?room=inn",
        ),
        ("https://table.example/", "wss://table.example/ws?room=inn", "https://table.example/sse?room=inn"),
        ("wss://x.example/rt/ws", "wss://x.example/rt/ws?room=inn", "https://x.example/rt/sse?room=inn"),
    ],
)
def test_any_address_of_a_gateway_gives_those_of_all_transports(url: str, socket: str, stream: str) -> None:
    address = address_of(url, "inn")
    assert address.socket(cursor=None) == socket
    assert address.of("/sse") == stream


def test_the_room_may_stand_in_the_address_and_is_escaped() -> None:
    assert address_of("ws://localhost?room=the-inn").room == "the-inn"
    assert address_of("ws://localhost?room=the-inn", "mine").room == "mine"
    assert address_of("ws://localhost", "a&b=c").of("/poll", cursor="x y") == (
        "http://localhost/poll?room=a%26b%3Dc&cursor=x+y"
    )
    assert (
        address_of("ws://localhost").export("a/b", "canvas.png") == "http://localhost/rooms/a%2Fb/canvas.png"
    )


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://x", "ws://", "//host"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        address_of(url)


# Event streams


def parsed(*chunks: bytes) -> list[StreamEvent]:
    parser = EventStreamParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def test_a_stream_is_read_as_the_standard_says() -> None:
    text = (
        "\ufeff: a comment\r\n"
        "event: canvas.draw\r\nid: c1\r\ndata: one\r\ndata:two\r\n\r\n"
        "data\n\n"  # an empty one
        "event: nothing\n\n"  # no data, no event
        "id: bad\0id\ndata: still c1\nretry: 5\nunknown: x\n\n"
        "data:  a space of its own\r\r"
        "data: never ended"
    )
    assert parsed(text.encode()) == [
        StreamEvent("canvas.draw", "one\ntwo", "c1"),
        StreamEvent("message", "", "c1"),
        StreamEvent("message", "still c1", "c1"),
        StreamEvent("message", " a space of its own", "c1"),
    ]


TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\n"))
EVENTS = st.lists(
    st.tuples(
        TEXTS.filter(bool), st.lists(TEXTS, min_size=1, max_size=3), st.sampled_from(["\n", "\r", "\r\n"])
    )
)


@given(EVENTS, st.data())
def test_however_it_is_cut_a_stream_means_the_same(
    events: list[tuple[str, list[str], str]], data: st.DataObject
) -> None:
    text = "".join(
        end.join([f"event: {name}", *(f"data: {line}" for line in lines), "", ""])
        for name, lines, end in events
    ).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert parsed(*chunks) == [StreamEvent(name, "\n".join(lines), "") for name, lines, _ in events]


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_no_bytes_break_the_parser(chunks: list[bytes]) -> None:
    assert parsed(*chunks) == parsed(b"".join(chunks))


@pytest.mark.parametrize("piece", [b"data: x\n" * 100_000, b"x" * 1_000_000])
def test_an_event_without_end_is_refused(piece: bytes) -> None:
    parser = EventStreamParser()

    def feed() -> None:
        for _ in range(LARGEST // len(piece) + 20):
            list(parser.feed(piece))

    with pytest.raises(TooLarge):
        feed()


# The pace


@given(st.integers(1, 600), st.lists(st.floats(0, 90), max_size=200))
def test_no_more_leaves_than_the_server_would_let_in(per_minute: int, gaps: list[float]) -> None:
    pace, now, passed = Pace(), 0.0, 0
    pace.set(per_minute, now)
    for gap in gaps:
        now += gap
        passed += pace.take(now)
        assert passed <= per_minute + now * per_minute / 60 + 0.01
    at = pace.next_at(now)
    assert pace.take(max(at, now))


def test_after_a_refusal_nothing_leaves_until_the_time_that_was_told() -> None:
    pace = Pace()
    pace.set(100, 0)
    pace.hold(5)
    assert (pace.take(4.9), pace.next_at(4.9), pace.take(5)) == (False, 5, True)


# What to do


@pytest.mark.rule("EN7")
def test_the_table_says_what_to_do_and_a_code_alone_says_nearly_the_same() -> None:
    assert {reason: advice_of(0, reason) for reason in REASONS} == {
        reason: kind.advice for reason, kind in REASONS.items()
    }
    assert advice_of(1000, "") == advice_of(1008, "newfangled") == "stop"
    assert advice_of(1001, "") == "reconnect"
    assert advice_of(LOST, "") == advice_of(1012, "") == advice_of(4999, "what") == "backoff"
    assert advice_of(1009, "") == "mend"


def test_an_http_answer_of_somebody_between_is_no_word_of_the_servers() -> None:
    error = decode_error(b"<html>Forbidden by policy</html>", 403)
    assert (error.code, error.advice) == (LOST, "backoff")
    assert "403" in str(error)


@given(st.binary(max_size=60))
def test_whatever_the_server_says_is_read_or_refused(payload: bytes) -> None:
    formats: tuple[Format, ...] = ("json", "msgpack")
    for fmt in formats:
        for read in (decode, decode_poll):
            with contextlib.suppress(Unreadable):
                read(payload, fmt)


def test_an_error_that_answers_nothing_has_no_id() -> None:
    text = '{"type":"error","error":{"code":1007,"message":"Not JSON","reason":"invalid_data"},"timestamp":1}'
    failure = decode(text, "json")
    assert isinstance(failure, Failure)
    assert (failure.id, failure.error.reason) == ("", "invalid_data")
    assert isinstance(failure.error, RoundtableError)
