"""Dice: what players type, what they get, and that nothing they type can break it."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roundtable.activity.dice import MAX_DICE, Draw, parse, roll
from roundtable.common.schema.activity import DiceResult
from roundtable.common.schema.errors import Refusal

pytestmark = pytest.mark.rule("AC4", "AC6")


def scripted(*faces: int) -> Draw:
    """Draws exactly these, in this order."""
    left = list(faces)

    def draw(sides: int) -> int:
        face = left.pop(0)
        assert 1 <= face <= sides
        return face

    return draw


def seeded(seed: int) -> Draw:
    source = random.Random(seed)
    return lambda sides: source.randint(1, sides)


def rolled(text: str, faces: Iterable[int] = ()) -> DiceResult:
    return roll(parse(text), scripted(*faces))


def refused(text: str, draw: Draw | None = None) -> str:
    with pytest.raises(Refusal) as caught:
        roll(parse(text), draw or seeded(1))
    assert caught.value.reason == "invalid_data"
    return caught.value.message


EXAMPLES: list[tuple[str, tuple[int, ...], int, str]] = [
    # plain dice and arithmetic
    ("1d20+5", (14,), 19, "1d20 (14) + 5 = 19"),
    ("D20", (7,), 7, "1d20 (7) = 7"),
    (" 2 d 6\n+ 1 ", (3, 4), 8, "2d6 (3, 4) + 1 = 8"),
    ("d%", (73,), 73, "1d100 (73) = 73"),
    ("2d6+1d8-1", (1, 2, 8), 10, "2d6 (1, 2) + 1d8 (8) - 1 = 10"),
    ("(1d6+2)*3", (4,), 18, "(1d6 (4) + 2) * 3 = 18"),
    ("2+3*4-6/2", (), 11, "2 + 3 * 4 - 6 / 2 = 11"),
    ("10-4-3", (), 3, "10 - 4 - 3 = 3"),
    ("64/4/2", (), 8, "64 / 4 / 2 = 8"),
    ("-1d4", (3,), -3, "-1d4 (3) = -3"),
    ("2*-(3+--1)", (), -8, "2 * -(3 + --1) = -8"),
    ("1.5*3", (), 4, "1.5 * 3 = 4"),
    ("-7/2", (), -3, "-7 / 2 = -3"),
    ("4.35*100", (), 435, "4.35 * 100 = 435"),
    ("7/3*3", (), 7, "7 / 3 * 3 = 7"),
    ("0d6", (), 0, "0d6 () = 0"),
    # keep and drop
    ("4d6kh3", (3, 1, 6, 2), 11, "4d6kh3 (3, ~~1~~, 6, 2) = 11"),
    ("4d6k3", (3, 1, 6, 2), 11, "4d6k3 (3, ~~1~~, 6, 2) = 11"),
    ("4d6dl1", (3, 1, 6, 2), 11, "4d6dl1 (3, ~~1~~, 6, 2) = 11"),
    ("4d6DL", (3, 1, 6, 2), 11, "4d6dl (3, ~~1~~, 6, 2) = 11"),
    ("2d20kl1", (18, 5), 5, "2d20kl1 (~~18~~, 5) = 5"),
    ("2d20 kh 1 + 5", (3, 17), 22, "2d20kh1 (~~3~~, 17) + 5 = 22"),
    ("3d6dh1", (6, 6, 1), 7, "3d6dh1 (~~6~~, 6, 1) = 7"),
    ("4d6dh1dl1", (6, 3, 4, 1), 7, "4d6dh1dl1 (~~6~~, 3, 4, ~~1~~) = 7"),
    ("2d6kh9", (2, 3), 5, "2d6kh9 (2, 3) = 5"),
    ("2d6dl9", (2, 3), 0, "2d6dl9 (~~2~~, ~~3~~) = 0"),
    ("4d6k>3", (4, 3, 6, 1), 10, "4d6k>3 (4, ~~3~~, 6, ~~1~~) = 10"),
    ("4d6k=3", (4, 3, 3, 1), 6, "4d6k=3 (~~4~~, 3, 3, ~~1~~) = 6"),
    # reroll
    ("2d6r1", (1, 4, 1), 5, "2d6r1 (~~1~~, 1, 4) = 5"),
    ("2d6ro1", (1, 1, 4, 1), 5, "2d6ro1 (~~1~~, 4, ~~1~~, 1) = 5"),
    ("2d6ro<3", (2, 6, 3), 9, "2d6ro<3 (~~2~~, 3, 6) = 9"),
    ("2d6r>=5", (5, 4, 6), 10, "2d6r>=5 (~~5~~, 6, 4) = 10"),
    ("1d6rr<5", (1, 4, 5), 5, "1d6rr<5 (~~1~~, ~~4~~, 5) = 5"),
    ("1d6rr1rr2", (1, 2, 1, 3), 3, "1d6rr1rr2 (~~1~~, ~~2~~, ~~1~~, 3) = 3"),
    ("2d6ro1ro2", (1, 5, 2), 7, "2d6ro1ro2 (~~1~~, 2, 5) = 7"),
    ("1d6r", (1, 3), 3, "1d6r (~~1~~, 3) = 3"),
    ("2d6rol1", (5, 2, 6), 11, "2d6rol1 (5, ~~2~~, 6) = 11"),
    ("2d6rh", (5, 2, 1), 3, "2d6rh (~~5~~, 1, 2) = 3"),
    # explode
    ("2d6!", (6, 2, 6, 3), 17, "2d6! (6!, 6!, 3, 2) = 17"),
    ("2d6e6", (6, 2, 1), 9, "2d6e6 (6!, 1, 2) = 9"),
    ("1d6e", (6, 1), 7, "1d6e (6!, 1) = 7"),
    ("1d6!5", (5, 6), 11, "1d6!5 (5!, 6) = 11"),
    ("2d6!>4", (5, 4, 1), 10, "2d6!>4 (5!, 1, 4) = 10"),
    ("2d6e=5e6", (5, 6, 2, 1), 14, "2d6e=5e6 (5!, 2, 6!, 1) = 14"),
    # least and most
    ("2d6mi3", (1, 5), 8, "2d6mi3 (1→3, 5) = 8"),
    ("1d20min10", (4,), 10, "1d20min10 (4→10) = 10"),
    ("2d8ma5", (8, 2), 7, "2d8ma5 (8→5, 2) = 7"),
    # in the order written
    ("4d6r1kh3", (1, 2, 3, 4, 6), 13, "4d6r1kh3 (~~1~~, 6, ~~2~~, 3, 4) = 13"),
    ("4d6kh3r1", (1, 2, 3, 4), 9, "4d6kh3r1 (~~1~~, 2, 3, 4) = 9"),
    ("2d6!kh1", (6, 2, 3), 6, "2d6!kh1 (6!, ~~3~~, ~~2~~) = 6"),
    # advantage
    ("1d20+5 adv", (3, 17), 22, "2d20kh1 (~~3~~, 17) + 5 = 22"),
    ("d20 ADV", (9, 9), 9, "2d20kh1 (9, ~~9~~) = 9"),
    ("1d20dis+2", (3, 17), 5, "2d20kl1 (3, ~~17~~) + 2 = 5"),
    ("1d20 + 5 disadvantage", (3, 17), 8, "2d20kl1 (3, ~~17~~) + 5 = 8"),
    ("2d6+1d20+d20 adv", (1, 1, 3, 17, 5), 24, "2d6 (1, 1) + 2d20kh1 (~~3~~, 17) + 1d20 (5) = 24"),
    ("1d20ro1 adv", (1, 12, 8), 12, "2d20ro1kh1 (~~1~~, ~~8~~, 12) = 12"),
]


@pytest.mark.parametrize(("text", "faces", "total", "told"), EXAMPLES, ids=[each[0] for each in EXAMPLES])
def test_what_players_type_gives_what_they_expect(
    text: str, faces: tuple[int, ...], total: int, told: str
) -> None:
    result = rolled(text, faces)
    assert (result.total, result.text) == (total, told)
    assert len(result.dice) == len(faces)
    assert result.expression == text.strip()


WRONG: list[tuple[str, str]] = [
    ("", "Column 1 of the dice: expected a number, dice or `(`, found the end"),
    ("1d20 +", "Column 7 of the dice: expected a number, dice or `(`, found the end"),
    ("1d20 5", "Column 6 of the dice: expected an operator or the end, found '5'"),
    ("(1d6", "Column 5 of the dice: expected `)`, found the end"),
    ("1d6)", "Column 4 of the dice: expected an operator or the end, found ')'"),
    ("2d", "Column 3 of the dice: expected sides, found the end"),
    ("d0", "Column 2 of the dice: a die has 1 to 1000000 sides"),
    ("d1000001", "Column 2 of the dice: a die has 1 to 1000000 sides"),
    ("1001d6", "Column 1 of the dice: at most 1000 dice may be thrown"),
    (
        "600d6 + 401d6",
        "Column 9 of the dice: more than 1000 dice were thrown, rerolls and explosions counted",
    ),
    ("1d1!", "Column 1 of the dice: more than 1000 dice were thrown, rerolls and explosions counted"),
    ("2+1d6rr<7", "Column 3 of the dice: more than 1000 dice were thrown, rerolls and explosions counted"),
    ("1/0", "Column 2 of the dice: division by zero"),
    ("5/(1d1-1)", "Column 2 of the dice: division by zero"),
    ("1000000000001", "Column 1 of the dice: a number may be at most 1000000000000"),
    ("1000000000000*1000000000000", "The total of the dice is beyond ±9007199254740991"),
    ("1.5d6", "Column 1 of the dice: dice are thrown in whole numbers"),
    ("1.", "Column 3 of the dice: expected digits after the point, found the end"),
    ("2d6 adv", "Column 5 of the dice: `adv` needs a single d20 to throw twice"),
    ("2d20kh1 adv", "Column 9 of the dice: `adv` needs a single d20 to throw twice"),
    ("20 dis", "Column 4 of the dice: `dis` needs a single d20 to throw twice"),
    ("1d20 adv dis", "Column 10 of the dice: `adv` or `dis` may stand once"),
    ("3d6!!", "Column 5 of the dice: `!!` is not known: explode with `!`"),
    ("3d6k<", "Column 6 of the dice: expected a number, found the end"),
    ("1d6mi7", "Column 4 of the dice: `mi` takes a face of the die, 1 to 6"),
    ("1d6mi", "Column 6 of the dice: expected a number, found the end"),
    ("4d6d1", "Column 4 of the dice: expected an operator or the end, found 'd'"),
    ("(2d6)kh1", "Column 6 of the dice: expected an operator or the end, found 'k'"),
    ("2(3)", "Column 2 of the dice: expected an operator or the end, found '('"),
    ("1e6", "Column 2 of the dice: expected an operator or the end, found 'e'"),
    ("１d6", "Column 1 of the dice: '１' is not part of any dice expression"),
    ("1d٣", "Column 3 of the dice: '٣' is not part of any dice expression"),
    ("1d20−1", "Column 5 of the dice: '−' is not part of any dice expression"),
    ("__import__('os')", "Column 1 of the dice: expected a number, dice or `(`, found '_'"),
    ("9**9", "Column 3 of the dice: expected a number, dice or `(`, found '*'"),
    ("1" * 201, "A dice expression has at most 200 characters"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[each[0][:20] for each in WRONG])
def test_what_is_no_dice_is_refused_with_what_and_where(text: str, message: str) -> None:
    assert refused(text) == message


@pytest.mark.parametrize(
    "text",
    ["(" * 200, "(" * 100 + ")" * 100, "-" * 200, "1*(" * 66, "1+2*(" * 40, "d" * 200, "!" * 200],
)
def test_deep_or_long_nonsense_ends_without_a_python_error(text: str) -> None:
    refused(text)


def test_parentheses_may_go_as_deep_as_the_length_allows() -> None:
    assert rolled("(" * 99 + "7" + ")" * 99).total == 7
    assert rolled("1+2*(" * 33 + "1" + ")" * 33).total == 2**33 * 2 - 1


def test_a_long_result_names_fifty_dice_and_counts_the_rest() -> None:
    result = roll(parse("60d6 + 800d6kh1 - 60d6 + 3"), seeded(1))
    assert len(result.dice) == 920
    assert result.text.count("~~") == 0
    assert "… 10 more) + 800d6kh1 (… 800 more) - 60d6 (… 60 more) + 3 = " in result.text
    assert len(roll(parse("1000d1000000mi999999kh1"), seeded(1)).text) < 2_000


def test_the_most_dice_that_may_be_thrown_are_thrown() -> None:
    assert len(roll(parse("1000d6"), seeded(1)).dice) == MAX_DICE


WORDS = """d20 2d6 d% 1000d6 d1 1 0 1.5 9999999999999 + - * / ( ) < > = é
    kh kl1 k>2 dh1 dl r1 rr<3 ro rol1 rr>0 e6 ! e<9 mi2 ma3 adv dis"""
SNIPPETS = st.sampled_from([*WORDS.split(), " "])
ALPHABET = "0123456789dDkKhHlLrRoOeEmMiIaAvVsS!+-*/()<>=%., \t\n_'\"\x00é１٣−"
ANYTHING = st.one_of(
    st.text(max_size=400),
    st.text(ALPHABET, max_size=400),
    st.lists(SNIPPETS, max_size=60).map("".join),
    st.lists(SNIPPETS, max_size=12).map("".join),
)


@settings(max_examples=1_000)
@given(text=ANYTHING, seed=st.integers(0, 9))
@example(text="999d6" + "k!" * 97, seed=1)
@example(text="999d6" + "mi1ma6" * 32, seed=1)
@example(text="1d1" + "e" * 197, seed=1)
def test_any_text_gives_a_result_or_a_refusal_and_soon(text: str, seed: int) -> None:
    began = time.process_time()
    result = outcome(text, seed)
    assert time.process_time() - began < 0.5
    if isinstance(result, Refusal):
        assert result.reason == "invalid_data"
        assert len(result.message) < 200
    else:
        assert len(result.dice) <= MAX_DICE
        assert len(result.text) < 4_000
        assert all(die.value >= 1 for die in result.dice)


def outcome(text: str, seed: int) -> DiceResult | Refusal:
    try:
        return roll(parse(text), seeded(seed))
    except Refusal as refusal:
        return refusal


KINDS = ["kh1", "kl2", "k>1", "dl1", "dh1", "r1", "ro<3", "rr1", "rr=2", "e6", "!", "e>4", "mi2", "ma5"]
MODIFIERS = st.lists(st.sampled_from(KINDS), max_size=4).map("".join).filter(lambda text: "!!" not in text)
TERMS = st.tuples(st.integers(0, 12), st.sampled_from([6, 8, 20]), MODIFIERS).map(
    lambda t: f"{t[0]}d{t[1]}{t[2]}"
)


@given(term=TERMS, seed=st.integers(0, 1_000))
def test_the_total_is_the_sum_of_the_kept_values(term: str, seed: int) -> None:
    result = roll(parse(term), seeded(seed))
    assert result.total == sum(die.value for die in result.dice if die.kept)


@given(term=TERMS, seed=st.integers(0, 1_000))
def test_every_die_that_was_drawn_is_told_once(term: str, seed: int) -> None:
    drawn: list[int] = []
    source = seeded(seed)

    def draw(sides: int) -> int:
        drawn.append(source(sides))
        return drawn[-1]

    result = roll(parse(term), draw)
    assert len(result.dice) == len(drawn)
    if "m" not in term:
        assert Counter(die.value for die in result.dice) == Counter(drawn)


@given(
    terms=st.lists(st.tuples(st.sampled_from("+-"), TERMS), min_size=1, max_size=5),
    seed=st.integers(0, 1_000),
)
def test_a_sum_of_terms_is_the_sum_of_their_rolls(terms: list[tuple[str, str]], seed: int) -> None:
    source = seeded(seed)
    alone = [(sign, roll(parse(term), source)) for sign, term in terms]
    together = roll(parse("".join(sign + term for sign, term in terms)), seeded(seed))
    assert together.total == sum(result.total if sign == "+" else -result.total for sign, result in alone)
    assert together.dice == tuple(die for _, result in alone for die in result.dice)


@given(
    term=TERMS,
    seed=st.integers(0, 1_000),
    upper=st.booleans(),
    blanks=st.sampled_from(["", " ", "\t", "\n  "]),
)
def test_case_and_blanks_do_not_matter(term: str, seed: int, upper: bool, blanks: str) -> None:
    spaced = re.sub(r"(\d+|[a-z]+|[!<>=])", rf"\1{blanks}", term)
    other = roll(parse(spaced.upper() if upper else spaced), seeded(seed))
    plain = roll(parse(term), seeded(seed))
    assert (other.total, other.text, other.dice) == (plain.total, plain.text, plain.dice)


@given(number=st.integers(0, 10), seed=st.integers(0, 1_000))
def test_keeping_the_highest_is_dropping_the_lowest(number: int, seed: int) -> None:
    kept = roll(parse(f"10d6kh{number}"), seeded(seed)).total
    assert kept == roll(parse(f"10d6dl{10 - number}"), seeded(seed)).total


def chi_square(counts: Counter[int], expected: dict[int, float]) -> float:
    return sum((counts[value] - wanted) ** 2 / wanted for value, wanted in expected.items())


@pytest.mark.parametrize(
    ("text", "odds"),
    [
        ("d20", lambda v: 1 / 20),
        ("d20 adv", lambda v: (2 * v - 1) / 400),
        ("d20 dis", lambda v: (2 * (21 - v) - 1) / 400),
        ("1d20rr<11", lambda v: 0 if v < 11 else 1 / 10),
        ("1d20r1", lambda v: 1 / 400 if v == 1 else 1 / 20 + 1 / 400),
        ("1d20mi10", lambda v: 0 if v < 10 else 10 / 20 if v == 10 else 1 / 20),
    ],
)
def test_results_are_as_likely_as_they_should_be(text: str, odds: Callable[[int], float]) -> None:
    throws = 6_000
    parsed, draw = parse(text), seeded(20_260_101)
    counts = Counter(roll(parsed, draw).total for _ in range(throws))
    expected = {value: odds(value) * throws for value in range(1, 21) if odds(value)}
    assert set(counts) == set(expected)
    assert chi_square(counts, expected) < 43.8  # 19 degrees of freedom, one in a thousand; the seed is fixed
