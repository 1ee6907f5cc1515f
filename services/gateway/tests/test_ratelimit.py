"""Token buckets and paces, with a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundtable.gateway.ratelimit import Pace, Refusals, TokenBucket


@pytest.mark.rule("LI2")
def test_a_full_bucket_passes_its_depth_at_once_and_then_says_how_long_to_wait() -> None:
    bucket = TokenBucket(100, 100, now=0)
    assert [bucket.take(0) for _ in range(100)] == [0.0] * 100
    assert bucket.take(0) == pytest.approx(0.6)
    assert bucket.take(0.61) == 0.0
    assert bucket.take(0.61) > 0


@pytest.mark.rule("LI2")
@given(st.lists(st.floats(0, 30), max_size=400))
def test_no_minute_passes_more_than_the_depth_and_the_refill(gaps: list[float]) -> None:
    bucket, now, passed = TokenBucket(100, 100, 0), 0.0, []
    for gap in gaps:
        now += gap / 20
        if not bucket.take(now):
            passed.append(now)
    for start in passed:
        assert sum(start <= at < start + 60 for at in passed) <= 200


def test_the_clock_going_back_gives_no_tokens() -> None:
    bucket = TokenBucket(1, 60, now=10)
    assert not bucket.take(10)
    assert bucket.take(5) > 0


@pytest.mark.rule("LI2")
def test_the_hundredth_refusal_within_any_minute_is_one_too_many() -> None:
    refusals = Refusals()
    assert not any(refusals.add(1.0) for _ in range(99))
    assert refusals.add(1.0)
    later = Refusals()
    assert not any(later.add(n) for n in range(1000))
    across = Refusals()
    assert not any(across.add(at) for at in (0.0, *[55.0] * 98))
    assert across.add(59.9)
    assert not across.add(115.0)
    assert across.past(175.0)
    assert not across.past(174.0)


@pytest.mark.rule("PR4", "CV4")
@given(st.lists(st.floats(0, 0.05), min_size=1, max_size=600))
def test_a_pace_lets_at_most_its_rate_and_one_pass_in_any_second(gaps: list[float]) -> None:
    pace, now, passed = Pace(60, 0.008), 0.0, []
    for gap in gaps:
        now += gap
        if pace.take(now):
            passed.append(now)
    for start in passed:
        assert sum(start <= at < start + 1 for at in passed) <= 62


def test_a_pace_keeps_up_with_a_sender_at_its_very_rate() -> None:
    pace = Pace(60, 0.008)
    assert all(pace.take(number / 60) for number in range(600))
