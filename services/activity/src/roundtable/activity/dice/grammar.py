"""Pure layer: reads what players type as dice into a small program. Knows no randomness, no service and no wire.

    expression = operand (("+" | "-" | "*" | "/") operand)*       * and / bind tighter; all from the left
    operand    = ("+" | "-")* (number | dice | "(" expression ")")
    dice       = [count] "d" (sides | "%") modifier*
    modifier   = ("k" | "kh" | "kl" | "dl" | "dh") [n]            keep or drop the n highest or lowest; n is 1 if left out
               | ("k" | "r" | "ro" | "rr" | "e" | "!") condition  keep, reroll, explode the dice that match
               | ("r" | "ro") ("l" | "h") [n]                     reroll the n lowest or highest
               | ("mi" | "min" | "ma" | "max") n                  a die counts at least, at most n
    condition  = [("=" | "<" | "<=" | ">" | ">=") n]              a bare n means "= n"

and once, after any operand, `adv` or `dis`: the first single d20 is thrown twice. Upper case is lower case, blanks between
words are free. Where the players' tools differ:

- `r` rerolls once, as in Foundry, and is the same as `ro`; `rr` rerolls until nothing matches. (Roll20's `r` is our `rr`.)
- `<` and `>` are strict, as in Avrae and Foundry. (Roll20 includes the number: write `<=`.)
- `kN` keeps the N highest, as in Foundry and Roll20. (Avrae's `k3`, "keep the threes", is `k=3`.)
- Nothing after `r`, `ro`, `rr` means 1; nothing after `e`, `!` means the die's highest face. `!!` (compounding) is refused.
- Modifiers work from left to right, on the dice still kept. Neighbours of one kind are one: `ro1ro2` rerolls each die once.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Final, Literal, NamedTuple, NoReturn

from roundtable.common.schema.errors import Refusal

MAX_LENGTH: Final = 200
"""Characters; it also bounds how deep parentheses go, and so the parser's own recursion (under 200 calls)."""
MAX_DICE: Final = 1_000
MAX_SIDES: Final = 1_000_000
MAX_NUMBER: Final = 10**12

Kind = Literal["keep", "drop", "reroll", "reroll until", "explode", "min", "max"]
Test = Literal["=", "<", "<=", ">", ">=", "highest", "lowest"]


class Condition(NamedTuple):
    """Which dice: those whose value passes the test, or the `number` highest or lowest of them."""

    test: Test
    number: int

    @property
    def ranks(self) -> bool:
        return self.test in ("highest", "lowest")

    def holds(self, value: int) -> bool:
        match self.test:
            case "=":
                return value == self.number
            case "<":
                return value < self.number
            case "<=":
                return value <= self.number
            case ">":
                return value > self.number
            case ">=":
                return value >= self.number
            case "highest" | "lowest":
                raise ValueError("a rank is no property of one die")


class Modifier(NamedTuple):
    kind: Kind
    conditions: tuple[Condition, ...]
    """It works on the dice that meet any of them; `min` and `max` carry their number as `= n`."""


class Dice(NamedTuple):
    """One term: so many dice of that many sides, and what happens to them."""

    many: int
    sides: int
    modifiers: tuple[Modifier, ...]
    suffix: str
    """The modifiers as typed, without blanks."""
    column: int

    @property
    def notation(self) -> str:
        return f"{self.many}d{self.sides}{self.suffix}"


class Operator(NamedTuple):
    """Takes its operands from the stack: `negate` one, `+`, `-`, `*`, `/` two."""

    symbol: str
    column: int


class Parsed(NamedTuple):
    """An expression ready to be rolled, any number of times."""

    expression: str
    program: tuple[Dice | Fraction | Operator, ...]
    """In postfix order: to be run on a stack, without recursion."""
    layout: tuple[str, ...]
    """The pieces of the result's text in the order of reading; `DICE` stands for the next term of the program."""


DICE: Final = "\0"

_PRECEDENCE: Final = {"+": 1, "-": 1, "*": 2, "/": 2}
_ADVANTAGE: Final[dict[str, Test]] = {
    "advantage": "highest",
    "adv": "highest",
    "disadvantage": "lowest",
    "dis": "lowest",
}
_KINDS: Final[dict[str, Kind]] = {
    "kh": "keep", "kl": "keep", "k": "keep", "dh": "drop", "dl": "drop",
    "rr": "reroll until", "ro": "reroll", "r": "reroll",
    "min": "min", "mi": "min", "max": "max", "ma": "max", "e": "explode", "!": "explode",
}  # fmt: skip
_RANKS: Final[dict[str, Test]] = {"l": "lowest", "h": "highest"}
_TESTS: Final[tuple[Test, ...]] = ("<=", ">=", "<", ">", "=")
_DIGITS: Final = frozenset("0123456789")


def parse(text: str) -> Parsed:
    """Raises `Refusal("invalid_data")` that says what is wrong at which column, and nothing else."""
    return _Parser(text.strip(" \t\n")).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._given = text
        self._text = text.lower() if text.isascii() else text
        self._at = 0
        self._program: list[Dice | Fraction | Operator] = []
        self._layout: list[str] = []
        self._advantage: tuple[str, int] | None = None

    def parse(self) -> Parsed:
        if len(self._given) > MAX_LENGTH:
            raise Refusal("invalid_data", f"A dice expression has at most {MAX_LENGTH} characters")
        foreign = next((at for at, char in enumerate(self._given) if not char.isascii()), None)
        if foreign is not None:
            self._fault(f"{self._given[foreign]!r} is not part of any dice expression", foreign)
        self._expression(0)
        if self._at < len(self._text):
            self._fault(f"expected an operator or the end, found {self._found()}")
        if self._advantage is not None:
            self._throw_twice(*self._advantage)
        return Parsed(self._given, tuple(self._program), tuple(self._layout))

    def _expression(self, floor: int) -> None:
        """Operands joined by operators that bind tighter than `floor` (precedence climbing)."""
        self._operand()
        while True:
            self._blanks()
            word = self._word(_ADVANTAGE)
            if word:
                if self._advantage is not None:
                    self._fault("`adv` or `dis` may stand once", self._at - len(word))
                self._advantage = word, self._at - len(word)
                continue
            symbol = self._text[self._at : self._at + 1]
            if symbol not in ("+", "-", "*", "/") or _PRECEDENCE[symbol] <= floor:
                return
            column = self._at
            self._at += 1
            self._layout.append(f" {symbol} ")
            self._expression(_PRECEDENCE[symbol])
            self._program.append(Operator(symbol, column))

    def _operand(self) -> None:
        self._blanks()
        negative, column = False, self._at
        while (sign := self._text[self._at : self._at + 1]) in ("+", "-"):
            negative ^= sign == "-"
            self._layout.append(sign)
            self._at += 1
            self._blanks()
        if self._take("("):
            self._layout.append("(")
            self._expression(0)
            if not self._take(")"):
                self._fault(f"expected `)`, found {self._found()}")
            self._layout.append(")")
        else:
            self._dice_or_number()
        if negative:
            self._program.append(Operator("negate", column))

    def _dice_or_number(self) -> None:
        column = self._at
        whole, fraction = self._digits(), ""
        if whole and self._text.startswith(".", self._at):
            self._at += 1
            fraction = self._digits()
            if not fraction:
                self._fault(f"expected digits after the point, found {self._found()}")
        end = self._at
        self._blanks()
        if self._text.startswith("d", self._at) and not self._text.startswith("dis", self._at):
            if fraction:
                self._fault("dice are thrown in whole numbers", column)
            self._dice(int(whole) if whole else 1, column)
            return
        self._at = end
        if not whole:
            self._fault(f"expected a number, dice or `(`, found {self._found()}")
        number = Fraction(f"{whole}.{fraction or 0}")
        if number > MAX_NUMBER:
            self._fault(f"a number may be at most {MAX_NUMBER}", column)
        self._program.append(number)
        self._layout.append(self._text[column:end])

    def _dice(self, count: int, column: int) -> None:
        if count > MAX_DICE:
            self._fault(f"at most {MAX_DICE} dice may be thrown", column)
        self._at += 1
        self._blanks()
        at = self._at
        digits = "100" if self._take("%") else self._digits()
        sides = int(digits or self._fault(f"expected sides, found {self._found()}"))
        if not 1 <= sides <= MAX_SIDES:
            self._fault(f"a die has 1 to {MAX_SIDES} sides", at)
        start = self._at
        modifiers: list[Modifier] = []
        while True:
            end = self._at
            self._blanks()
            word = self._word(_KINDS)
            if not word:
                self._at = end
                break
            modifier = self._modifier(word, sides)
            if modifiers and modifiers[-1].kind == modifier.kind in ("reroll", "reroll until", "explode"):
                earlier = modifiers.pop()
                modifier = Modifier(modifier.kind, earlier.conditions + modifier.conditions)
            modifiers.append(modifier)
        suffix = "".join(self._text[start : self._at].split())
        self._program.append(Dice(count, sides, tuple(modifiers), suffix, column))
        self._layout.append(DICE)

    def _modifier(self, word: str, sides: int) -> Modifier:
        kind, column = _KINDS[word], self._at - len(word)
        self._blanks()
        if word == "!" and self._text.startswith("!", self._at):
            self._fault("`!!` is not known: explode with `!`")
        if kind in ("keep", "drop"):
            test = self._test() if word == "k" else None
            if test is not None:
                return Modifier(kind, (Condition(test, self._number()),))
            return Modifier(kind, (Condition(_RANKS.get(word[1:], "highest"), self._number(1)),))
        if kind in ("min", "max"):
            number = self._number()
            if number < 1 or (kind == "min" and number > sides):
                self._fault(f"`{word}` takes a face of the die, 1 to {sides}", column)
            return Modifier(kind, (Condition("=", number),))
        test = self._test()
        if test is None and kind == "reroll" and (letter := self._word(_RANKS)):
            return Modifier(kind, (Condition(_RANKS[letter], self._number(1)),))
        default = None if test is not None else sides if kind == "explode" else 1
        return Modifier(kind, (Condition(test or "=", self._number(default)),))

    def _throw_twice(self, word: str, column: int) -> None:
        rank = _ADVANTAGE[word]
        for place, term in enumerate(self._program):
            if isinstance(term, Dice) and (term.many, term.sides) == (1, 20):
                keep = Modifier("keep", (Condition(rank, 1),))
                suffix = term.suffix + ("kh1" if rank == "highest" else "kl1")
                self._program[place] = term._replace(many=2, modifiers=(*term.modifiers, keep), suffix=suffix)
                return
        self._fault(f"`{word}` needs a single d20 to throw twice", column)

    def _blanks(self) -> None:
        while self._text[self._at : self._at + 1] in (" ", "\t", "\n"):
            self._at += 1

    def _take(self, char: str) -> bool:
        self._blanks()
        if not self._text.startswith(char, self._at):
            return False
        self._at += len(char)
        return True

    def _word(self, words: Iterable[str]) -> str:
        """The first of these words that stands here, taken; they are listed longest first."""
        word = next((word for word in words if self._text.startswith(word, self._at)), "")
        self._at += len(word)
        return word

    def _test(self) -> Test | None:
        return next((test for test in _TESTS if self._take(test)), None)

    def _digits(self) -> str:
        start = self._at
        while self._text[self._at : self._at + 1] in _DIGITS:
            self._at += 1
        return self._text[start : self._at]

    def _number(self, default: int | None = None) -> int:
        """The whole number that stands here, after blanks; else the default, with nothing taken."""
        start = self._at
        self._blanks()
        column, digits = self._at, self._digits()
        if not digits:
            if default is None:
                self._fault(f"expected a number, found {self._found()}")
            self._at = start
            return default
        if int(digits) > MAX_NUMBER:
            self._fault(f"a number may be at most {MAX_NUMBER}", column)
        return int(digits)

    def _found(self) -> str:
        self._blanks()
        return repr(self._given[self._at]) if self._at < len(self._given) else "the end"

    def _fault(self, what: str, at: int | None = None) -> NoReturn:
        raise Refusal("invalid_data", f"Column {(self._at if at is None else at) + 1} of the dice: {what}")
