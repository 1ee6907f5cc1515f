"""The joined writer: whatever the interleaving, nothing stored is lost, doubled or reordered, and nobody sees their own."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from roundtable.common.cursor import Position
from roundtable.common.schema.basics import Point
from roundtable.common.schema.canvas import Preview
from roundtable.common.schema.envelope import ServerEvent
from roundtable.common.schema.log import Audience
from roundtable.common.schema.presence import CursorShown
from roundtable.gateway.batch import Entry
from roundtable.gateway.codecs import BINARY, DEFLATED_TEXT, SSE, TEXT, Codec
from roundtable.gateway.outbox import Ephemera, Inked, Outbox

from .wire import messages_in

USERS = ("ann", "bob", "cyd")


def entry(number: int, audience: Audience | None = None) -> Entry:
    event = ServerEvent("canvas.draw", Raw(b'{"n":%d}' % number), 1, f"cursor-{number}")
    return Entry("canvas", Position(number), event, audience, 100)


def preview(ident: str, *xs: float) -> Preview:
    return Preview(id=ident, tool="pen", color="#fff", size=1, points=tuple(Point(x, 0) for x in xs))


def told(data: bytes, codec: Codec = TEXT) -> list[dict[str, Any]]:
    return messages_in(data, codec.name)


step = st.one_of(
    st.tuples(
        st.just("store"), st.sampled_from([None, Audience(("ann",)), Audience((), gm=True), Audience()])
    ),
    st.tuples(st.just("move"), st.sampled_from(USERS)),
    st.tuples(st.just("ink"), st.sampled_from(USERS)),
    st.tuples(st.just("hear"), st.sampled_from(("dan", "eve"))),
    st.tuples(st.just("take"), st.floats(0, 0.05)),
)


@settings(max_examples=150)
@given(st.lists(step, max_size=60), st.sampled_from([TEXT, BINARY, DEFLATED_TEXT, SSE]))
def test_every_viewer_gets_each_stored_event_once_and_in_order_and_never_their_own_cursor(
    steps: list[tuple[str, Any]], codec: Codec
) -> None:
    outbox, now, stored = Outbox(0.008, 60), 0.0, 0
    streams: dict[tuple[str, str], bytes] = {(user, role): b"" for user in USERS for role in ("gm", "player")}
    audiences: list[Audience | None] = []
    drawn: dict[str, list[float]] = {user: [] for user in USERS}

    def take() -> None:
        batch, _ = outbox.take(now, 5)
        for (user, role), data in streams.items():
            streams[user, role] = data + batch.bytes_for(codec, user, role)  # type: ignore[arg-type]

    for kind, what in steps:
        match kind:
            case "store":
                stored += 1
                audiences.append(what)
                outbox.store(entry(stored, what))
                assert outbox.due(now) == now
            case "move":
                outbox.move(what, Point(float(stored), 1.0))
                assert outbox.due(now) is not None
            case "ink":
                drawn[what].append(float(len(drawn[what])))
                outbox.ink(what, preview("stroke", drawn[what][-1]))
            case "hear":
                outbox.hear(Ephemera((CursorShown(what, 1, 2),), (Inked(what, preview("far", 1)),)))
            case "take":
                now += what
                take()
            case _:
                raise AssertionError(kind)
    for _ in range(4):
        now += 1
        take()
    assert outbox.due(now) is None
    for (user, role), data in streams.items():
        seen = told(data, codec)
        lasting = [m for m in seen if m["method"] in ("canvas.draw", "session.cursor")]
        assert [m["id"] for m in lasting] == [f"cursor-{n}" for n in range(1, stored + 1)]
        for message, audience in zip(lasting, audiences, strict=True):
            visible = audience is None or audience.admits(user, role)  # type: ignore[arg-type]
            assert message["method"] == ("canvas.draw" if visible else "session.cursor")
            assert bool(message["data"]) == visible
        for message in seen:
            if message["method"] == "presence.cursor":
                assert user not in [c["userId"] for c in message["data"]["cursors"]]
        inks = [p for m in seen if m["method"] == "canvas.preview" for p in m["data"]["previews"]]
        assert user not in [p["userId"] for p in inks]
        for other in USERS:
            if other != user:
                points = [point["x"] for p in inks if p["userId"] == other for point in p["points"]]
                assert points == drawn[other]


@pytest.mark.rule("PR4")
def test_of_a_users_cursors_between_two_ticks_the_latest_is_told() -> None:
    outbox = Outbox(0.008, 60)
    for x in range(10):
        outbox.move("ann", Point(x, 0))
    batch, ephemera = outbox.take(0, 5)
    (message,) = told(batch.bytes_for(TEXT, "bob", "player"))
    assert message["data"]["cursors"] == [{"userId": "ann", "x": 9.0, "y": 0.0}]
    assert ephemera == Ephemera((CursorShown("ann", 9, 0),))
    assert batch.bytes_for(TEXT, "ann", "player") == b""


@pytest.mark.rule("PR4")
def test_a_user_who_sends_a_thousand_cursors_a_second_is_told_at_most_sixty_times() -> None:
    outbox, told_times = Outbox(0.008, 60), 0
    for millisecond in range(1000):
        now = millisecond / 1000
        outbox.move("ann", Point(millisecond, 0))
        due = outbox.due(now)
        if due is not None and due <= now:
            batch, _ = outbox.take(now, 5)
            told_times += bool(batch.bytes_for(TEXT, "bob", "player"))
    assert 55 <= told_times <= 61


@pytest.mark.rule("PR4")
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("late", [0.0, 0.001, 0.002])
def test_who_sends_at_just_the_allowed_rate_never_waits_longer_than_to_the_next_telling(
    seed: int, late: float
) -> None:
    """Though timers are late, and messages come with jitter; nothing is merged either."""
    chance = Random(seed)
    outbox, told_, tick, waiting = Outbox(0.008, 60), 0, 0.0, dict[str, float]()
    messages = sorted(
        (number / 60 + user / 600 + chance.uniform(0, 0.003), f"u{user}")
        for user in range(10)
        for number in range(120)
    )
    for at, user in [*messages, (9.0, "")]:
        while (due := outbox.due(0.0)) is not None and max(due, tick) <= at:
            tick = max(due, tick, *waiting.values()) + chance.uniform(0, late)
            batch, _ = outbox.take(tick, 5)
            assert batch.users == waiting.keys(), "somebody was left for the next one"
            told_ += len(waiting)
            waiting.clear()
        if user:
            assert user not in waiting
            waiting[user] = at
            outbox.move(user, Point(at, 0))
    assert told_ == len(messages)


@pytest.mark.rule("RS8")
def test_a_paused_reader_gets_what_is_stored_and_nothing_else() -> None:
    outbox = Outbox(0.008, 60)
    outbox.move("ann", Point(1, 1))
    outbox.store(entry(1))
    batch, _ = outbox.take(0, 5)
    assert [m["method"] for m in told(batch.bytes_for(TEXT, "bob", "player"))] == [
        "presence.cursor",
        "canvas.draw",
    ]
    assert [m["method"] for m in told(batch.joined(TEXT).lasting("bob", "player"))] == ["canvas.draw"]


def test_the_bytes_are_made_once_for_all_who_are_told_the_same() -> None:
    outbox = Outbox(0.008, 60)
    outbox.store(entry(1))
    batch, _ = outbox.take(0, 5)
    assert not batch.users
    assert not batch.gm
    assert batch.bytes_for(TEXT, "ann", "player") is batch.bytes_for(TEXT, "bob", "gm")


@pytest.mark.rule("RS5")
def test_a_hidden_event_is_only_its_cursor() -> None:
    hidden = entry(7, Audience(("ann",))).seen_by("bob", "gm")
    assert json.loads(bytes(hidden.data)) == {}
    assert (hidden.method, hidden.id) == ("session.cursor", "cursor-7")


def test_an_event_that_cannot_be_framed_moves_the_cursor_and_spoils_nothing_else() -> None:
    outbox = Outbox(0.008, 60)
    for number, data in enumerate((b'{"n":1}', b"[" * 5_000 + b"]" * 5_000, b'{"n":1%b}' % (b"0" * 400))):
        event = ServerEvent("activity.post", Raw(data), 1, f"cursor-{number}")
        outbox.store(Entry("activity", Position(number + 1), event, None, 100))
    batch, _ = outbox.take(0, 5)
    seen = told(batch.bytes_for(BINARY, "ann", "player"), BINARY)
    assert [(m["method"], m["id"]) for m in seen] == [
        ("activity.post", "cursor-0"),
        ("session.cursor", "cursor-1"),
        ("activity.post", "cursor-2"),
    ]
