"""Testing layer: given–when–then for deciders. Pure: knows deciders and refusals, no service, no pytest.

    Scenario(DECIDER).given(Opened("ada")).when(Close("ada")).then(Closed("ada"))
    Scenario(DECIDER).when(Close("ada")).then_refused("forbidden", "ada")

A `then…` returns the scenario with its facts folded in, so that a story may go on: `.then(…).when(…).then(…)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from msgspec import Struct

from roundtable.common.decider import Decider
from roundtable.common.schema.errors import Refusal

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E", bound=Struct)


class Scenario(Generic[S, C, E]):
    """A room and its history; `state` is the state now."""

    def __init__(self, decider: Decider[S, C, E], state: S | None = None) -> None:
        self._decider = decider
        self.state: S = decider.initial() if state is None else state

    def given(self, *events: E) -> Scenario[S, C, E]:
        """These facts have happened."""
        for event in events:
            self.state = self._decider.evolve(self.state, event)
        return self

    def after(self, *commands: C) -> Scenario[S, C, E]:
        """What these commands cause has happened; a refusal is raised. For histories too long to spell as facts."""
        for command in commands:
            self.given(*self._decider.decide(self.state, command))
        return self

    def when(self, command: C) -> Outcome[S, C, E]:
        """Decides, twice: a decider that reads a clock, draws lots or changes the state would be found out."""
        first, again = self._decide(command), self._decide(command)
        if str(first) != str(again):
            raise AssertionError(f"decide is not pure: {first}, then {again}")
        self.given(*first.events)
        return first

    def _decide(self, command: C) -> Outcome[S, C, E]:
        try:
            return Outcome(self, tuple(self._decider.decide(self.state, command)))
        except Refusal as refusal:
            return Outcome(self, (), refusal)


class Outcome(Generic[S, C, E]):
    """What a command led to: `events`, or a `refusal`."""

    def __init__(
        self, scenario: Scenario[S, C, E], events: tuple[E, ...], refusal: Refusal | None = None
    ) -> None:
        self.events: Final = events
        self.refusal: Final = refusal
        self._scenario: Final = scenario

    def __str__(self) -> str:
        return str(self.refusal) if self.refusal else "\n  ".join(("facts:", *map(repr, self.events)))

    def then(self, *events: E) -> Scenario[S, C, E]:
        """Exactly these facts, in this order."""
        if self.refusal or self.events != events:
            raise AssertionError(f"expected {Outcome(self._scenario, events)}\ngot {self}") from self.refusal
        return self._scenario

    def then_nothing(self) -> Scenario[S, C, E]:
        """Accepted, and no fact."""
        return self.then()

    def then_refused(self, reason: str, *words: str) -> Scenario[S, C, E]:
        """Refused for this reason, with each of these words in the text for people."""
        if not self.refusal:
            raise AssertionError(f"expected refusal `{reason}`\ngot {self}")
        if self.refusal.reason != reason or not all(word in self.refusal.message for word in words):
            raise AssertionError(f"expected `{reason}` with {words}\ngot {self}") from self.refusal
        return self._scenario

    def then_state(self, check: Callable[[S], bool]) -> Scenario[S, C, E]:
        """Accepted, and this holds of the state after it."""
        if self.refusal or not check(self._scenario.state):
            raise AssertionError(f"not as expected: {self._scenario.state!r}\nafter {self}") from self.refusal
        return self._scenario
