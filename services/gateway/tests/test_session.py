"""What a message means, with no transport, no room and a clock of the test's own."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundtable.common.schema.basics import Role
from roundtable.common.schema.canvas import Preview
from roundtable.common.schema.presence import MoveCursor
from roundtable.common.schema.session import Claims
from roundtable.gateway.ratelimit import TokenBucket
from roundtable.gateway.session import (
    Ask,
    Authenticate,
    Effect,
    End,
    Refuse,
    Reply,
    Session,
)

CLAIMS = Claims("ann", "Ann", {"*": "player"}, None, "")
STROKE = {"type": "draw", "tool": "pen", "points": [{"x": 1, "y": 2}], "color": "#fff", "size": 2}


def session(
    role: Role = "player", claims: Claims | None = CLAIMS, bucket: TokenBucket | None = None
) -> Session:
    return Session("c1", "lobby", "websocket", claims, role, bucket)


def say(who: Session, message: Any, now: float = 0.0) -> list[Effect]:
    return who.receive(json.dumps(message).encode(), "json", now, 1_000)


def request(method: str, params: Any = None, ident: str = "r1") -> dict[str, Any]:
    return {"type": "request", "id": ident, "method": method, "params": params or {}}


def refused(effects: list[Effect]) -> Refuse:
    (effect,) = effects
    assert isinstance(effect, Refuse)
    return effect


@pytest.mark.rule("EN2")
def test_a_request_becomes_a_command_in_the_name_of_its_sender() -> None:
    (ask,) = say(session(), request("canvas.draw", {"operations": [STROKE]}))
    assert isinstance(ask, Ask)
    assert (ask.command.user, ask.command.role, ask.command.id, ask.answered) == ("ann", "player", "r1", True)
    assert json.loads(bytes(ask.command.params)) == {"operations": [STROKE]}


@pytest.mark.rule("EN2")
def test_an_event_with_a_requests_method_is_carried_out_without_an_answer() -> None:
    (ask,) = say(session(), {"type": "event", "method": "canvas.undo"})
    assert isinstance(ask, Ask)
    assert not ask.answered


@pytest.mark.rule("EN2")
@pytest.mark.parametrize("kind", ["response", "error"])
def test_only_the_server_sends_responses_and_errors(kind: str) -> None:
    assert (
        refused(say(session(), {"type": kind, "id": "r1", "method": "canvas.draw"})).refusal.reason
        == "invalid_data"
    )


@pytest.mark.rule("EN3")
@pytest.mark.parametrize(
    ("message", "path"),
    [
        ({**request("canvas.undo"), "colour": 1}, "`colour`"),
        (request("canvas.undo", {"userId": "ann", "n": 2}), "`params.n`"),
        (
            request("canvas.draw", {"operations": [{**STROKE, "points": [{"x": 1, "y": 2, "z": 3}]}]}),
            "points[0].z",
        ),
        (request("canvas.draw", {"operations": [{**STROKE, "size": 0}]}), "params.operations[0].size"),
    ],
)
def test_what_is_not_in_the_schema_is_refused_with_its_path(message: dict[str, Any], path: str) -> None:
    refusal = refused(say(session(), message)).refusal
    assert refusal.reason == "invalid_data"
    assert path in refusal.message


@pytest.mark.rule("EN1")
def test_a_batch_has_an_effect_for_each_message_in_order() -> None:
    effects = say(
        session(), [request("heartbeat", ident="a"), {"type": "nonsense"}, request("canvas.undo", ident="b")]
    )
    assert [type(effect) for effect in effects] == [Reply, Refuse, Ask]


@pytest.mark.rule("EN1")
@pytest.mark.parametrize("count", [0, 101])
def test_a_batch_holds_one_to_a_hundred_messages(count: int) -> None:
    assert refused(say(session(), [request("heartbeat")] * count)).refusal.reason == "invalid_data"


@pytest.mark.rule("EN7")
def test_an_unknown_method_is_told_by_its_own_word_and_an_internal_one_is_unknown() -> None:
    for method in ("canvas.paint", "presence.open", "activity.derive"):
        refuse = refused(say(session(), request(method)))
        assert (refuse.refusal.reason, refuse.refusal.kind.code, refuse.id) == ("unknown_method", 1003, "r1")


@pytest.mark.rule("AU2")
def test_before_a_login_only_a_login_and_a_heartbeat_are_heard() -> None:
    stranger = session(claims=None, role="spectator")
    assert refused(say(stranger, request("canvas.state"))).refusal.reason == "auth_required"
    assert isinstance(say(stranger, request("heartbeat"))[0], Reply)
    assert say(stranger, request("auth.login", {"token": "t"})) == [Authenticate("r1", "auth.login", "t")]


@pytest.mark.rule("AU7")
@pytest.mark.parametrize(
    "method", ["canvas.draw", "canvas.clear", "canvas.undo", "canvas.redo", "activity.post"]
)
def test_a_spectator_may_not_write(method: str) -> None:
    assert refused(say(session("spectator"), request(method))).refusal.reason == "forbidden"


@pytest.mark.rule("AU7")
def test_a_spectator_may_read_and_move_a_cursor() -> None:
    spectator = session("spectator")
    assert isinstance(say(spectator, request("canvas.state"))[0], Ask)
    moved = say(spectator, {"type": "event", "method": "presence.cursor", "params": {"x": 1, "y": 2}})
    assert moved == [MoveCursor(1.0, 2.0)]


@pytest.mark.rule("LI2", "PR4")
def test_cursors_previews_heartbeats_and_logins_are_not_counted() -> None:
    busy = session(bucket=TokenBucket(1, 1, 0))
    ink = {"id": "s", "tool": "pen", "color": "#fff", "size": 1, "points": [{"x": 0, "y": 0}]}
    for _ in range(50):
        assert isinstance(
            say(busy, {"type": "event", "method": "presence.cursor", "params": {"x": 1, "y": 2}})[0],
            MoveCursor,
        )
        assert isinstance(say(busy, {"type": "event", "method": "canvas.preview", "params": ink})[0], Preview)
        assert isinstance(say(busy, request("heartbeat"))[0], Reply)
        assert isinstance(say(busy, request("auth.refresh", {"token": "t"}))[0], Authenticate)
    assert isinstance(say(busy, request("canvas.undo"))[0], Ask)
    assert refused(say(busy, request("canvas.undo"))).refusal.retry_after == pytest.approx(60)


@pytest.mark.rule("LI2")
def test_each_message_of_a_batch_counts_and_rubbish_counts_too() -> None:
    busy = session(bucket=TokenBucket(3, 1, 0))
    effects = say(busy, [request("canvas.undo", ident=str(n)) for n in range(5)])
    assert [type(effect) for effect in effects] == [Ask, Ask, Ask, Refuse, Refuse]
    assert refused(busy.receive(b"{", "json", 0, 0)).refusal.reason == "rate_limited"


@pytest.mark.rule("LI2")
def test_the_hundredth_refusal_within_a_minute_is_told_and_ends_the_connection() -> None:
    busy = session(bucket=TokenBucket(1, 0.001, 0))
    say(busy, request("canvas.undo"))
    for _ in range(99):
        assert isinstance(refused(say(busy, request("canvas.undo"))), Refuse)
    assert [type(effect) for effect in say(busy, request("canvas.undo"))] == [Refuse, End]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=300) | json_like.map(msgspec.json.encode), st.sampled_from(["json", "msgpack"]))
def test_whatever_comes_has_a_meaning_or_is_refused(data: bytes, fmt: Any) -> None:
    for effect in session().receive(data, fmt, 0, 0):
        assert isinstance(effect, Ask | Reply | Refuse | Authenticate | MoveCursor | Preview)


@pytest.mark.rule("EN3")
@given(st.sampled_from(["canvas.draw", "activity.post", "presence.update", "canvas.preview"]), json_like)
def test_no_params_in_messagepack_break_the_session(method: str, params: Any) -> None:
    message = msgspec.msgpack.encode({"type": "request", "id": "r", "method": method, "params": params})
    for effect in session().receive(message, "msgpack", 0, 0):
        assert isinstance(effect, Ask | Refuse)


near = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["event", "event", "request", "response"]),
        "method": st.sampled_from(["presence.cursor", "canvas.preview", "canvas.draw"]),
        "params": st.fixed_dictionaries({"x": st.floats(), "y": st.integers(-(2**63), 2**64 - 1)})
        | st.builds(
            lambda x: {"id": "s", "tool": "pen", "color": "#fff", "size": 1, "points": [{"x": x, "y": 0}]},
            st.floats(),
        )
        | json_like,
    },
    optional={
        "id": st.text(max_size=70),
        "timestamp": st.floats() | st.none(),
        "data": st.none(),
        "more": st.just(1),
    },
)


@pytest.mark.rule("EN2", "EN3", "PR4", "CV4", "AU7")
@given(
    near,
    st.sampled_from(["json", "msgpack"]),
    st.sampled_from(["player", "spectator"]),
    st.binary(max_size=2),
)
def test_the_short_way_of_cursors_and_previews_finds_nothing_else_than_the_long_way(
    message: Any, fmt: Any, role: Role, tail: bytes
) -> None:
    encode = msgspec.json.encode if fmt == "json" else msgspec.msgpack.encode
    for data in (encode(message), encode(message) + tail, encode([message])):
        found = session(role).fleeting(data, fmt)
        long_way = session(role).receive(data, fmt, 0, 0)
        if found is not None:
            assert long_way == [found]
        elif data == encode(message) and isinstance(long_way[0], MoveCursor | Preview):
            raise AssertionError("a valid one takes the short way")


@pytest.mark.rule("AU2")
def test_who_has_not_logged_in_moves_no_cursor() -> None:
    data = b'{"type":"event","method":"presence.cursor","params":{"x":1,"y":2}}'
    assert session(claims=None).fleeting(data, "json") is None
    assert session().fleeting(data, "json") == MoveCursor(1, 2)
