"""Pure layer: rolls a parsed expression with dice that somebody else draws, and tells the result. Knows no wire, no service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import trunc
from operator import add, mul, sub, truediv
from typing import Any, Final

from msgspec import UNSET, UnsetType

from roundtable.common.schema.activity import DiceResult, Die
from roundtable.common.schema.errors import Refusal

from .grammar import DICE, MAX_DICE, Condition, Dice, Modifier, Parsed

Draw = Callable[[int], int]
"""Given the number of sides, a face from 1 to that, all as likely."""

SHOWN: Final = 50
"""Dice that the result's text spells out; the rest is counted."""
MAX_TOTAL: Final = 2**53 - 1
"""What every client's JSON can hold exactly."""

_ARITHMETIC: Final[dict[str, Callable[[Any, Any], Any]]] = {"+": add, "-": sub, "*": mul, "/": truediv}


class _Thrown:
    """One die on the table. `face` is what was thrown, `value` what it counts as."""

    __slots__ = ("exploded", "face", "kept", "value")

    def __init__(self, face: int) -> None:
        self.face = self.value = face
        self.kept = True
        self.exploded = False

    def __str__(self) -> str:
        shown = f"{self.face}" if self.value == self.face else f"{self.face}→{self.value}"
        shown += "!" if self.exploded else ""
        return shown if self.kept else f"~~{shown}~~"


class _Table:
    """Counts all dice of one roll, thrown again and exploded ones included, and refuses the first too many."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._left = MAX_DICE

    def throw(self, dice: Dice) -> list[_Thrown]:
        thrown = [self._one(dice) for _ in range(dice.many)]
        for modifier in dice.modifiers:
            thrown = list(self._apply(modifier, thrown, dice))
        return thrown

    def _one(self, dice: Dice) -> _Thrown:
        if not self._left:
            what = f"more than {MAX_DICE} dice were thrown, rerolls and explosions counted"
            raise Refusal("invalid_data", f"Column {dice.column + 1} of the dice: {what}")
        self._left -= 1
        return _Thrown(self._draw(dice.sides))

    def _apply(self, modifier: Modifier, thrown: list[_Thrown], dice: Dice) -> Iterator[_Thrown]:
        kind, conditions = modifier
        chosen = _chosen(conditions, thrown)
        for die in thrown:
            yield die
            if not die.kept:
                continue
            match kind:
                case "keep":
                    die.kept = id(die) in chosen
                case "drop":
                    die.kept = id(die) not in chosen
                case "min":
                    die.value = max(die.value, conditions[0].number)
                case "max":
                    die.value = min(die.value, conditions[0].number)
                case "reroll":
                    if id(die) in chosen:
                        die.kept = False
                        yield self._one(dice)
                case "reroll until":
                    while _matches(conditions, die):
                        die.kept = False
                        die = self._one(dice)  # noqa: PLW2901 - the one that may be thrown again
                        yield die
                case "explode":
                    while _matches(conditions, die):
                        die.exploded = True
                        die = self._one(dice)  # noqa: PLW2901 - the one that may explode again
                        yield die


def _matches(conditions: tuple[Condition, ...], die: _Thrown) -> bool:
    return any(condition.holds(die.value) for condition in conditions)


def _chosen(conditions: tuple[Condition, ...], thrown: list[_Thrown]) -> set[int]:
    """The identities of the kept dice that meet a condition now; among equals, the earlier ones rank first."""
    kept = [die for die in thrown if die.kept]
    chosen: set[int] = set()
    for condition in conditions:
        if condition.ranks:
            sign = -1 if condition.test == "highest" else 1
            ranked = sorted(kept, key=lambda die, sign=sign: sign * die.value)  # type: ignore[misc]
            chosen.update(map(id, ranked[: condition.number]))
        else:
            chosen.update(id(die) for die in kept if condition.holds(die.value))
    return chosen


def roll(parsed: Parsed, draw: Draw, label: str | UnsetType = UNSET) -> DiceResult:
    """Throws the dice. Division is exact inside; the total is cut to a whole number, towards zero, at the end.

    Every die that was thrown is in `dice`, in the order of the throws within its term; the values of the kept ones are what
    counts. Raises `Refusal("invalid_data")` for too many dice, a division by zero and a total that JSON could not carry.
    """
    table = _Table(draw)
    terms: list[tuple[Dice, list[_Thrown]]] = []
    stack: list[Fraction] = []
    for step in parsed.program:
        if isinstance(step, Fraction):
            stack.append(step)
        elif isinstance(step, Dice):
            thrown = table.throw(step)
            terms.append((step, thrown))
            stack.append(Fraction(sum(die.value for die in thrown if die.kept)))
        elif step.symbol == "negate":
            stack.append(-stack.pop())
        else:
            right, left = stack.pop(), stack.pop()
            if step.symbol == "/" and not right:
                raise Refusal("invalid_data", f"Column {step.column + 1} of the dice: division by zero")
            stack.append(_ARITHMETIC[step.symbol](left, right))
    total = trunc(stack.pop())
    if abs(total) > MAX_TOTAL:
        raise Refusal("invalid_data", f"The total of the dice is beyond ±{MAX_TOTAL}")
    dice = tuple(Die(term.sides, die.value, die.kept) for term, thrown in terms for die in thrown)
    return DiceResult(parsed.expression, total, f"{_text(parsed, terms)} = {total}", dice, label)


def _text(parsed: Parsed, terms: list[tuple[Dice, list[_Thrown]]]) -> str:
    left = SHOWN
    coming = iter(terms)
    pieces: list[str] = []
    for piece in parsed.layout:
        if piece != DICE:
            pieces.append(piece)
            continue
        term, thrown = next(coming)
        shown = [str(die) for die in thrown[:left]]
        left -= len(shown)
        if len(shown) < len(thrown):
            shown.append(f"… {len(thrown) - len(shown)} more")
        pieces.append(f"{term.notation} ({', '.join(shown)})")
    return "".join(pieces)
