"""The given–when–then helper itself: what it accepts, and that it fails where it should."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec import Struct

from roundtable.common.decider import Decider
from roundtable.common.schema.errors import Refusal
from roundtable.common.testing.scenario import Scenario


class Added(Struct, frozen=True):
    amount: int


def decide(state: list[int], amount: int) -> Sequence[Added]:
    if amount < 0:
        raise Refusal("forbidden", f"{amount} is less than nothing")
    return (Added(amount),) if amount else ()


def evolve(state: list[int], event: Added) -> list[int]:
    state.append(event.amount)
    return state


def purse() -> Scenario[list[int], int, Added]:
    return Scenario(Decider[list[int], int, Added](list, decide, evolve))


def test_a_story_goes_on_with_what_happened_in_it() -> None:
    scenario = purse().given(Added(1)).after(2, 0).when(3).then(Added(3)).when(0).then_nothing()
    scenario.when(-1).then_refused("forbidden", "-1", "nothing")
    assert scenario.when(4).then_state(lambda state: sum(state) == 10).state == [1, 2, 3, 4]


def test_other_facts_than_expected_fail() -> None:
    with pytest.raises(AssertionError, match=r"Added\(amount=2\)[^$]*Added\(amount=1\)"):
        purse().when(1).then(Added(2))
    with pytest.raises(AssertionError, match="Added"):
        purse().when(1).then_nothing()
    with pytest.raises(AssertionError, match="not as expected"):
        purse().when(1).then_state(lambda state: not state)


def test_a_refusal_is_not_nothing_and_nothing_is_not_a_refusal() -> None:
    with pytest.raises(AssertionError, match="less than nothing"):
        purse().when(-1).then_nothing()
    with pytest.raises(AssertionError, match="less than nothing"):
        purse().when(-1).then_state(lambda state: True)
    with pytest.raises(AssertionError, match="expected refusal"):
        purse().when(0).then_refused("forbidden")


def test_another_refusal_than_expected_fails() -> None:
    with pytest.raises(AssertionError, match="invalid_data"):
        purse().when(-1).then_refused("invalid_data")
    with pytest.raises(AssertionError, match="-2"):
        purse().when(-1).then_refused("forbidden", "-2")


def test_a_refusal_in_the_history_is_raised() -> None:
    with pytest.raises(Refusal, match="forbidden"):
        purse().after(1, -1)


def test_a_decider_that_is_not_pure_is_found_out() -> None:
    def forgetful(state: list[int], amount: int) -> Sequence[Added]:
        state.append(0)
        return (Added(len(state)),)

    scenario: Scenario[list[int], int, Added] = Scenario(Decider(list, forgetful, evolve))
    with pytest.raises(AssertionError, match="not pure"):
        scenario.when(1)
