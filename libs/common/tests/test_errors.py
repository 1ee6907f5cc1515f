"""The two error tables: what stands in them is whole and consistent."""

from __future__ import annotations

import re

import msgspec
import pytest

from roundtable.common.schema.errors import ADVICE, CLOSE_REASONS, REASONS, REPLY_ERRORS, ErrorBody, Refusal

pytestmark = pytest.mark.rule("EN7")


def test_every_reason_is_a_word_that_fits_into_a_close_frame() -> None:
    for reason, kind in REASONS.items():
        assert re.fullmatch(r"[a-z_]{2,40}", reason)
        assert kind.advice in ADVICE
        assert kind.meaning
        assert kind.error or kind.close


def test_the_codes_are_those_of_the_contract() -> None:
    codes = {reason: kind.code for reason, kind in REASONS.items()}
    assert codes == {
        "bye": 1000,
        "draining": 1001,
        "protocol_error": 1002,
        "unsupported_data": 1003,
        "unknown_method": 1003,
        "invalid_data": 1007,
        "token_expired": 1008,
        "token_invalid": 1008,
        "auth_required": 1008,
        "auth_timeout": 1008,
        "forbidden": 1008,
        "invalid_room": 1008,
        "origin_refused": 1008,
        "revoked": 1008,
        "rate_limited": 1008,
        "too_big": 1009,
        "internal": 1011,
        "slow_consumer": 1013,
        "overloaded": 1013,
        "unavailable": 1013,
    }


def test_the_statuses_are_those_that_http_may_answer() -> None:
    answered = {REASONS[reason].status for reason in REPLY_ERRORS}
    assert answered <= {400, 401, 403, 404, 413, 415, 422, 429, 500, 503}


def test_replies_and_closes_are_told_apart() -> None:
    assert set(REPLY_ERRORS) | set(CLOSE_REASONS) == set(REASONS)
    assert not {"bye", "protocol_error", "slow_consumer"} & set(REPLY_ERRORS)
    assert "unknown_method" not in CLOSE_REASONS


def test_a_refusal_without_words_says_what_its_reason_means() -> None:
    refusal = Refusal("forbidden")
    assert refusal.body == ErrorBody(1008, REASONS["forbidden"].meaning, "forbidden")
    assert msgspec.json.decode(msgspec.json.encode(refusal.body)) == {
        "code": 1008,
        "message": REASONS["forbidden"].meaning,
        "reason": "forbidden",
    }


def test_how_long_to_wait_is_told_in_seconds() -> None:
    body = Refusal("rate_limited", "Too fast", retry_after=1.23456).body
    assert msgspec.json.decode(msgspec.json.encode(body))["retryAfter"] == 1.235


def test_a_reason_of_a_newer_version_is_taken_for_an_internal_fault() -> None:
    refusal = Refusal.of(ErrorBody(4000, "Something new", "newfangled"))
    assert (refusal.reason, refusal.body.code, refusal.message) == ("internal", 1011, "Something new")


def test_a_reason_that_is_in_no_table_does_not_exist() -> None:
    with pytest.raises(KeyError):
        Refusal("whatever")
