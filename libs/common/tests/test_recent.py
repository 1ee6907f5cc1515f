"""The commands that a room remembers: for how long, how many, and by what."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundtable.common.recent import MOST, WINDOW_MS, Place, RecentCommands, key_of

pytestmark = pytest.mark.rule("RS6")

names = st.text(min_size=1, max_size=4)


@given(names, names, names, names, names, names)
def test_a_key_tells_who_what_and_which(
    user: str, method: str, request: str, user2: str, method2: str, request2: str
) -> None:
    same = (user, method, request) == (user2, method2, request2)
    assert (key_of(user, method, request) == key_of(user2, method2, request2)) == same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b", "c"), ("ab", "", "c")),
        (("1.a", "b", "c"), ("1", ".ab", "c")),
        (("a", "b1", "c"), ("a", "b", "1c")),
    ],
)
def test_parts_that_run_together_are_still_told_apart(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert key_of(*one) != key_of(*other)


def test_what_is_older_than_the_window_is_forgotten_by_the_logs_own_time() -> None:
    recent = RecentCommands()
    recent.add(1, Place(1, 0, 1, 1_000))
    recent.add(2, Place(2, 0, 1, 2_000))
    recent.add(3, Place(3, 0, 1, 1_000 + WINDOW_MS))
    assert recent.find(1) == Place(1, 0, 1, 1_000)
    recent.add(4, Place(4, 0, 1, 1_001 + WINDOW_MS))
    assert recent.find(1) is None
    assert recent.find(2) == Place(2, 0, 1, 2_000)
    assert len(recent) == 3


def test_no_more_are_kept_than_the_most() -> None:
    recent = RecentCommands()
    for number in range(MOST + 500):
        recent.add(number, Place(number, 0, 1, 0))
    assert len(recent) == MOST
    assert recent.find(499) is None
    assert recent.find(500) is not None


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2 * WINDOW_MS)), max_size=60), st.integers(0, 60)
)
def test_a_snapshot_remembers_and_forgets_as_if_nothing_had_been_between(
    added: list[tuple[int, int]], cut: int
) -> None:
    whole, part = RecentCommands(), RecentCommands()
    for seq, (key, at) in enumerate(added):
        if seq == cut:
            part = RecentCommands(msgspec.msgpack.decode(msgspec.msgpack.encode(part.dump())))
        for recent in (whole, part):
            recent.add(key, Place(seq, 0, 1, at))
    assert part.dump() == whole.dump()


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=50))
def test_clocks_that_jump_lose_no_more_than_what_is_old(jumps: list[int]) -> None:
    recent, at = RecentCommands(), 10**9
    for key, jump in enumerate(jumps):
        at += jump
        recent.add(key, Place(key, 0, 1, at))
        assert recent.find(key) is not None
        assert len(recent) <= key + 1
