"""When a client connects, by what, and what becomes of its requests: by a clock of its own (CL1–CL4)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundtable.client.core import OPENING, SILENCE, STEADY
from roundtable.client.errors import RoundtableError
from roundtable.client.messages import Answer
from roundtable.client.requests import FORGOTTEN, PATIENCE, REPEATS, WAITING_AT_MOST
from roundtable.client.retries import PROBE
from roundtable.common.schema.errors import CLOSE_REASONS, REASONS
from roundtable.common.schema.session import Transport

from .life import CHAIN, Life


def transports(life: Life) -> list[str]:
    return [each.transport for _, each in life.opens]


def fail_all(life: Life, times: int) -> None:
    """Each attempt fails as soon as it is made."""
    for _ in range(times):
        life.fail()
        if life.state() != "offline":
            life.until_open()


# CL1: retries


@pytest.mark.rule("CL1")
def test_the_first_attempt_is_made_at_once_and_the_pauses_after_failures_double() -> None:
    life = Life("websocket")
    life.connect()
    for _ in range(4):
        life.fail()
        life.until_open()
    opened = [at for at, _ in life.opens]
    pauses = [waiting.delay for waiting in life.heard("reconnecting")]
    assert opened[0] == 0
    assert pauses == [1, 2, 4, 8]


@pytest.mark.rule("CL1")
def test_a_lost_connection_has_five_attempts_and_then_a_single_transport_gives_up() -> None:
    life = Life("websocket")
    life.up()
    life.request("asked")
    for _ in range(5):
        life.fail()
        life.until_open()
    assert [waiting.delay for waiting in life.heard("reconnecting")] == [1, 2, 4, 8, 16]
    assert life.state() == "reconnecting"
    life.fail()
    assert life.state() == "closed"
    assert len(life.opens) == 6
    assert len(life.outcomes["asked"]) == 1
    life.pass_time(1_000)
    assert len(life.opens) == 6


@pytest.mark.rule("CL1")
@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=20, max_size=20), st.floats(0.1, 5))
@settings(max_examples=50)
def test_a_pause_is_anything_from_nothing_to_its_longest_which_is_never_over_30_s(
    chances: list[float], delay: float
) -> None:
    drawn = iter(chances)
    life = Life("websocket", chance=lambda: next(drawn), delay=delay, attempts=12)
    life.connect()
    for _ in range(11):
        life.fail()
        life.until_open()
    pauses = [waiting.delay for waiting in life.heard("reconnecting")]
    assert pauses == [
        chance * min(30, delay * 2**number) for number, chance in enumerate(chances[: len(pauses)])
    ]
    assert len(pauses) == 11


@pytest.mark.rule("CL1")
def test_after_five_attempts_comes_the_next_transport_and_after_the_last_one_offline() -> None:
    life = Life()
    life.connect()
    while life.state() != "offline":
        life.fail()
        if life.state() != "offline":
            life.until_open()
    assert transports(life) == [name for name in CHAIN for _ in range(5)]
    assert len(life.heard("offline")) == 1
    assert life.transport() is None


@pytest.mark.rule("CL1")
def test_offline_it_looks_slowly_at_every_transport_and_is_back_with_the_first_that_goes() -> None:
    life = Life()
    life.connect()
    fail_all(life, 15)
    assert life.state() == "offline"
    began, before = life.now, len(life.opens)
    life.until_open()
    assert 0.8 * PROBE <= life.now - began <= 1.21 * PROBE
    for name in CHAIN[:2]:
        assert life.opens[-1][1].transport == name
        life.fail()
    life.welcome()
    assert transports(life)[before:] == list(CHAIN)
    assert (life.state(), life.transport()) == ("connected", "poll")
    assert len(life.heard("offline")) == 1


@pytest.mark.rule("CL1")
def test_offline_it_goes_on_looking_for_ever_but_seldom() -> None:
    life = Life()
    life.connect()
    fail_all(life, 15)
    before = len(life.opens)
    for _ in range(10):
        life.until_open()
        for _ in CHAIN:
            life.fail()
    assert len(life.opens) == before + 30


@pytest.mark.rule("CL1")
def test_a_sign_that_the_network_is_back_ends_the_waiting() -> None:
    life = Life()
    life.connect()
    fail_all(life, 15)
    before = len(life.opens)
    life.do(life.core.wake(life.now))
    assert len(life.opens) == before + 1


@pytest.mark.rule("CL1")
def test_a_connection_that_held_starts_the_count_anew_and_one_that_broke_at_once_does_not() -> None:
    life = Life("websocket")
    life.up()
    life.fail()
    life.pass_time(2)
    life.welcome()
    life.fail()
    assert [waiting.delay for waiting in life.heard("reconnecting")] == [1, 2]
    life.pass_time(2)
    life.welcome()
    life.pass_time(STEADY)
    life.fail()
    assert [waiting.delay for waiting in life.heard("reconnecting")] == [1, 2, 1]


@pytest.mark.rule("CL1")
def test_without_reconnecting_the_first_break_is_the_end() -> None:
    life = Life(reconnect=False)
    life.up()
    life.request("asked")
    life.fail(1011, "internal")
    assert life.state() == "closed"
    assert life.reason_of("asked") == "internal"
    assert len(life.opens) == 1


# CL1: what a client does after each reason


STOPPING = [reason for reason in CLOSE_REASONS if REASONS[reason].advice == "stop"]


@pytest.mark.rule("CL1", "EN7")
@pytest.mark.parametrize("reason", STOPPING)
@pytest.mark.parametrize("welcomed", [True, False])
def test_a_terminal_reason_ends_it_for_good(reason: str, welcomed: bool) -> None:
    life = Life(renewable=True)
    life.connect()
    if welcomed:
        life.welcome()
    life.request("asked")
    life.fail(REASONS[reason].code, reason)
    life.pass_time(1_000)
    assert life.state() == "closed"
    assert len(life.opens) == 1
    assert life.reason_of("asked") == reason
    with pytest.raises(RoundtableError, match=reason):
        life.request("later")


@pytest.mark.rule("CL1", "EN7")
@pytest.mark.parametrize("reason", [r for r in CLOSE_REASONS if REASONS[r].advice in ("backoff", "mend")])
def test_after_what_passes_it_comes_back_with_backoff_and_cursor(reason: str) -> None:
    life = Life()
    life.up()
    life.event("c7")
    life.fail(REASONS[reason].code, reason)
    assert [waiting.delay for waiting in life.heard("reconnecting")] == [1]
    life.pass_time(1)
    assert life.opens[-1][1].cursor == "c7"


@pytest.mark.rule("CL1", "CO10")
def test_a_gateway_that_drains_is_left_at_once_with_jitter_and_not_counted() -> None:
    life = Life("websocket", chance=lambda: 0.25)
    life.up()
    for _ in range(20):
        life.fail(1001, "draining")
        life.pass_time(0.25)
        life.welcome()
        life.pass_time(10)
    assert {waiting.delay for waiting in life.heard("reconnecting")} == {0.25}
    assert life.state() == "connected"


@pytest.mark.rule("CL1", "AU3")
def test_an_expired_token_is_replaced_by_a_new_one() -> None:
    life = Life(renewable=True, chance=lambda: 0.5)
    life.up()
    life.fail(1008, "token_expired")
    life.pass_time(0.5)
    assert len(life.opens) == 2
    life.fail(1008, "token_expired")
    life.pass_time(0.4)
    assert len(life.opens) == 2  # the new one is no better, so with backoff
    life.pass_time(0.1)
    assert len(life.opens) == 3


@pytest.mark.rule("CL1", "AU3")
def test_an_expired_token_is_the_end_for_who_can_get_no_other() -> None:
    life = Life()
    life.up()
    life.fail(1008, "token_expired")
    assert life.state() == "closed"


@pytest.mark.rule("AU3")
def test_a_token_is_renewed_when_the_server_warns() -> None:
    for renewable in (True, False):
        life = Life(renewable=renewable)
        life.up()
        life.event("", name="session.token_expiring")
        assert life.renewals == renewable


@pytest.mark.rule("CL1", "LI3")
def test_one_too_many_waits_as_long_as_it_is_told() -> None:
    life = Life("websocket")
    life.connect()
    for _ in range(9):
        life.fail(1008, "rate_limited", 17)
        life.pass_time(16.9)
        count = len(life.opens)
        life.pass_time(0.1)
        assert len(life.opens) == count + 1


# Back up


@pytest.mark.rule("CL1", "RS2")
def test_on_a_lesser_transport_it_tries_to_get_back_up_while_it_goes_on() -> None:
    life = Life()
    life.connect()
    fail_all(life, 5)
    life.welcome()
    assert life.transport() == "sse"
    lesser = life.link
    life.event("c1")
    life.until_open()
    life.request("asked")
    assert transports(life)[-1] == "websocket"
    assert life.opens[-1][1].cursor == "c1"
    life.event("c2", link=lesser)
    assert life.transport() == "sse"
    life.welcome(cursor="c1")
    assert life.transport() == "websocket"
    assert lesser in life.closed
    assert life.requests(life.link) == ["asked"]
    life.event("c2")
    life.event("c3")
    life.event("c9", link=lesser)
    assert [event.id for event in life.told if event.name == "canvas.draw"] == ["c1", "c2", "c3"]
    assert life.core.cursor == "c3"
    assert life.heard("transport") == ["sse", "websocket"]
    assert "disconnected" not in life.names()


@pytest.mark.rule("CL1")
def test_if_there_is_no_way_up_it_stays_and_tries_again_later() -> None:
    life = Life()
    life.connect()
    fail_all(life, 10)
    life.welcome()
    current = life.link
    assert life.transport() == "poll"
    for _ in range(3):
        life.until_open()
        assert transports(life)[-1] == "websocket"
        life.fail()
        assert transports(life)[-1] == "sse"
        life.fail()
    assert life.transport() == "poll"
    life.event("c1", link=current)
    assert life.core.cursor == "c1"


@pytest.mark.rule("CL1")
def test_if_the_lesser_one_breaks_while_it_rises_the_better_one_takes_over() -> None:
    life = Life()
    life.connect()
    fail_all(life, 5)
    life.welcome()
    lesser = life.link
    life.until_open()
    life.fail(link=lesser)
    assert life.state() == "reconnecting"
    life.welcome()
    assert life.transport() == "websocket"


@pytest.mark.rule("CL1")
def test_a_terminal_reason_ends_a_rising_one_too() -> None:
    life = Life()
    life.connect()
    fail_all(life, 5)
    life.welcome()
    lesser = life.link
    life.until_open()
    life.fail(1008, "revoked", link=lesser)
    assert life.state() == "closed"
    assert life.link in life.closed


# A connection that only seems to live


@pytest.mark.rule("CL1")
def test_a_connection_without_a_welcome_is_given_up() -> None:
    life = Life()
    life.connect()
    life.pass_time(OPENING)
    assert life.closed == [1]
    assert life.heard("error")
    assert life.state() == "connecting"


@pytest.mark.rule("CL1", "CO9")
def test_a_connection_that_went_silent_counts_as_lost() -> None:
    life = Life(heartbeat=10)
    life.connect()
    life.welcome()
    for _ in range(10):
        life.pass_time(10)
        life.answer(life.sent[-1][2]["id"])
    assert life.state() == "connected"
    life.pass_time(10 * SILENCE + 1)
    assert life.state() == "reconnecting"
    assert life.closed == [1]


@pytest.mark.rule("CL1")
@pytest.mark.parametrize("transport", ["sse", "poll"])
def test_answers_by_http_do_not_hide_that_the_stream_went_silent(transport: Transport) -> None:
    life = Life(transport, heartbeat=10)
    life.server_heartbeat = 30_000
    life.connect()
    life.welcome()
    for number in range(12):
        life.pass_time(10)
        life.answer(life.sent[-1][2]["id"])
        if number % 3 == 2:
            life.event("", name="heartbeat")
    assert life.state() == "connected"
    for _ in range(7):
        life.pass_time(10)
        life.answer(life.sent[-1][2]["id"])
    assert life.state() == "connected"
    life.pass_time(30 * SILENCE - 70)
    assert life.state() == "reconnecting"


@pytest.mark.rule("CL1")
def test_a_stream_does_not_hide_that_nothing_is_answered_any_more() -> None:
    life = Life("sse", heartbeat=10)
    life.connect()
    life.welcome()
    life.request("asked", timeout=60)
    for number in range(3):
        life.event(f"c{number}")
        life.pass_time(10)
    assert life.state() == "reconnecting"
    life.pass_time(1)
    life.welcome()
    assert life.requests(life.link) == ["asked"]


def test_heartbeats_measure_the_way() -> None:
    life = Life(heartbeat=10)
    life.connect()
    life.welcome()
    life.pass_time(10)
    life.now += 0.125
    life.answer(life.sent[-1][2]["id"], data="pong")
    assert life.core.latency == 125
    assert life.heard("latency") == [125]
    assert life.heard("heartbeat") == ["pong"]


# CL2


@pytest.mark.rule("CL2")
def test_what_was_in_flight_is_sent_again_with_its_id_in_order_and_settles_once() -> None:
    life = Life()
    life.up()
    for ident in ("a", "b", "c"):
        life.request(ident)
    life.answer("b")
    life.fail()
    life.pass_time(1)
    life.welcome()
    assert life.requests(life.link) == ["a", "c"]
    for ident in ("a", "a", "c", "b"):
        life.answer(ident)
    assert {ident: len(outcomes) for ident, outcomes in life.outcomes.items()} == {"a": 1, "b": 1, "c": 1}


@pytest.mark.rule("CL2")
def test_what_was_in_flight_at_a_break_four_minutes_ago_is_given_up() -> None:
    life = Life()
    life.up()
    life.request("asked")
    life.fail()
    fail_all(life, 4)
    life.request("made while away")
    life.pass_time(FORGOTTEN - life.now + 9)
    assert "asked" not in life.outcomes
    life.pass_time(1)
    assert life.reason_of("asked") == "timeout"
    while life.state() != "connected":
        life.pass_time(40)
        life.welcome()
    assert life.requests(life.link) == ["made while away"]


@pytest.mark.rule("CL2")
def test_the_four_minutes_count_from_the_first_break() -> None:
    life = Life()
    life.up()
    life.request("asked")
    life.fail()
    began = life.now
    life.pass_time(1)
    life.welcome()
    life.pass_time(10)
    life.fail()
    life.pass_time(FORGOTTEN - (life.now - began) - 0.001)
    assert "asked" not in life.outcomes
    life.pass_time(0.001)
    assert life.reason_of("asked") == "timeout"


@pytest.mark.rule("CL2")
def test_a_request_has_its_own_time_or_the_usual_one() -> None:
    life = Life()
    life.up()
    life.request("short", timeout=2)
    life.request("usual")
    life.pass_time(2)
    assert life.reason_of("short") == "timeout"
    life.pass_time(PATIENCE - 2)
    assert life.reason_of("usual") == "timeout"
    life.answer("usual")
    assert len(life.outcomes["usual"]) == 1


@pytest.mark.rule("CL2")
def test_disconnecting_settles_everything() -> None:
    life = Life()
    life.up()
    life.request("in flight")
    life.fail()
    life.request("waiting")
    life.do(life.core.disconnect(life.now))
    assert life.reason_of("in flight") == life.reason_of("waiting") == "bye"
    assert life.core.next_at(life.now) is None


@pytest.mark.rule("CL2", "EN7")
def test_a_request_that_could_not_be_carried_out_is_repeated_with_its_id_and_not_for_ever() -> None:
    life = Life()
    life.up()
    life.request("asked")
    for _ in range(REPEATS):
        life.refuse("asked", 1013, "unavailable")
        life.pass_time(20)
    assert life.requests() == ["asked"] * (1 + REPEATS)
    assert "asked" not in life.outcomes
    life.refuse("asked", 1013, "unavailable")
    assert life.reason_of("asked") == "unavailable"


@pytest.mark.rule("CL2", "EN7")
@pytest.mark.parametrize(
    "reason", ["forbidden", "invalid_data", "unknown_method", "too_big", "unsupported_data"]
)
def test_a_request_that_is_wrong_is_rejected_and_the_connection_stays(reason: str) -> None:
    life = Life()
    life.up()
    life.request("asked")
    life.refuse("asked", REASONS[reason].code, reason)
    assert life.reason_of("asked") == reason
    assert life.state() == "connected"


@pytest.mark.rule("CL2", "EN7")
def test_a_message_that_closed_the_connection_is_not_sent_again() -> None:
    life = Life()
    life.up()
    life.request("too much")
    life.fail(1009, "too_big")
    assert life.reason_of("too much") == "too_big"
    life.request("next")
    life.pass_time(1)
    life.welcome()
    assert life.requests(life.link) == ["next"]


@pytest.mark.rule("LI2", "EN7")
def test_a_rate_limited_request_waits_as_told_and_holds_back_those_after_it() -> None:
    life = Life()
    life.up()
    life.request("first")
    life.refuse("first", 1008, "rate_limited", 3)
    life.request("second")
    life.pass_time(2.9)
    assert life.requests() == ["first"]
    life.pass_time(0.2)
    assert life.requests() == ["first", "first", "second"]
    assert not life.outcomes


Deed = tuple[str, int]
DEEDS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "request",
                "answer",
                "fail",
                "drain",
                "welcome",
                "refuse",
                "limit",
                "pass",
                "long",
                "wake",
                "stale",
            ]
        ),
        st.integers(0, 9),
    ),
    max_size=60,
)


@pytest.mark.rule("CL2", "CL4")
@given(DEEDS)
@settings(max_examples=300)
def test_whatever_happens_each_request_settles_exactly_once(deeds: list[Deed]) -> None:
    life = Life(chance=lambda: 0.5)
    life.connect()
    made: list[str] = []
    for deed, number in deeds:
        ident = made[number % len(made)] if made else "none"
        match deed:
            case "request":
                made.append(f"r{len(made)}")
                life.request(made[-1], timeout=None if number < 7 else float(number))
            case "answer":
                life.answer(ident)
            case "stale":
                life.answer(ident, link=life.opens[0][1].link)
            case "fail":
                life.fail()
            case "drain":
                life.fail(1001, "draining")
            case "welcome":
                if life.state() != "connected":
                    life.welcome(per_minute=number)
            case "refuse":
                life.refuse(ident, 1013, "unavailable")
            case "limit":
                life.refuse(ident, 1008, "rate_limited", number)
            case "pass":
                life.pass_time(number / 2)
            case "long":
                life.pass_time(number * 30)
            case _:
                life.do(life.core.wake(life.now))
    assert all(len(outcomes) == 1 for outcomes in life.outcomes.values())
    life.do(life.core.disconnect(life.now))
    assert {ident: len(outcomes) for ident, outcomes in life.outcomes.items()} == dict.fromkeys(made, 1)


# CL3


@pytest.mark.rule("CL3")
def test_an_event_that_was_seen_is_dropped() -> None:
    life = Life()
    life.up()
    for ident in ("c1", "c2", "c1", "c2", "c3"):
        life.event(ident)
    assert [event.id for event in life.told if event.name == "canvas.draw"] == ["c1", "c2", "c3"]
    assert life.core.cursor == "c3"


@pytest.mark.rule("CL3")
def test_what_is_not_kept_is_told_each_time() -> None:
    life = Life()
    life.up()
    for _ in range(3):
        life.event("", name="presence.cursor")
    assert len(life.heard("presence.cursor")) == 3


@pytest.mark.rule("CL3", "RS2")
def test_a_break_before_the_snapshots_are_whole_starts_afresh() -> None:
    life = Life(cursor="old")
    life.connect()
    assert life.opens[0][1].cursor == "old"
    life.welcome(recovered=False, cursor="c5")
    life.event("", name="canvas.snapshot")
    life.fail()
    life.pass_time(1)
    assert life.opens[-1][1].cursor == ""
    life.welcome(recovered=False, cursor="c6")
    life.snapshots()
    assert life.core.cursor == "c6"


@pytest.mark.rule("CL3")
def test_what_an_old_connection_still_says_is_not_listened_to() -> None:
    life = Life()
    life.up()
    life.fail()
    life.pass_time(1)
    life.welcome()
    life.event("late", link=1)
    assert life.core.cursor != "late"
    assert "canvas.draw" not in life.names()


# CL4


@pytest.mark.rule("CL4")
def test_offline_a_thousand_requests_wait_and_go_out_in_order() -> None:
    life = Life()
    life.connect()
    fail_all(life, 15)
    idents = [f"r{number}" for number in range(WAITING_AT_MOST)]
    for ident in idents:
        life.request(ident)
    with pytest.raises(RoundtableError) as refused:
        life.request("one too many")
    assert refused.value.reason == "overloaded"
    life.pass_time(3_600)
    life.welcome()
    while life.core.requests:
        for ident in [ident for ident in life.requests() if ident not in life.outcomes]:
            life.answer(ident)
    assert life.requests() == idents
    assert all(isinstance(outcome, Answer) for (outcome,) in life.outcomes.values())


@pytest.mark.rule("CL4", "LI2")
def test_they_go_out_no_faster_than_the_server_takes_them() -> None:
    life = Life()
    life.connect()
    for number in range(150):
        life.request(f"r{number}")
    life.welcome(per_minute=100)

    def answer_all() -> int:
        while due := [ident for ident in life.requests() if ident not in life.outcomes]:
            for ident in due:
                life.answer(ident)
        return len(life.outcomes)

    assert answer_all() == 100
    for _ in range(30):
        life.pass_time(1)
        answer_all()
    assert len(life.outcomes) == 150
    assert life.requests() == [f"r{number}" for number in range(150)]


@pytest.mark.rule("CL4", "LI2")
def test_what_does_not_count_overtakes_what_must_wait() -> None:
    life = Life()
    life.connect()
    life.welcome(per_minute=1)
    for ident in ("a", "b"):
        life.request(ident)
    life.request("login", method="auth.refresh")
    assert life.requests() == ["a", "login"]


def test_an_event_is_sent_only_where_there_is_a_connection() -> None:
    life = Life()
    message: dict[str, Any] = {"type": "event", "method": "presence.cursor", "params": {"x": 1, "y": 2}}
    assert life.core.send(message) is None
    life.up()
    life.do(life.core.send(message))
    assert life.sent[-1][2] == message
