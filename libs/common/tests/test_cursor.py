"""Positions and cursors: what they look like, how they compare, what is none."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roundtable.common.cursor import WHOLE, Cursor, Position, Vector, epoch_of
from roundtable.common.schema.log import SERVICES

seqs = st.integers(0, 10**19 - 1)
events = st.integers(0, 999_999)
positions = st.builds(Position, seqs, events | st.just(WHOLE))
vectors = st.builds(Vector, positions, positions, positions)
epochs = st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=8, max_size=8)
cursors = st.builds(Cursor, epochs, vectors)
close = st.builds(Position, st.integers(0, 3), st.integers(0, 3) | st.just(WHOLE))


@pytest.mark.rule("RS1")
@given(cursors)
@example(Cursor("zzzzzzzz", Vector(*(Position(10**19 - 1, 999_999),) * 3)))
def test_a_cursor_is_short_and_safe_in_an_address_and_reads_as_what_was_written(cursor: Cursor) -> None:
    text = str(cursor)
    assert re.fullmatch(r"[A-Za-z0-9._~-]{1,99}", text)
    assert Cursor.parse(text) == cursor


@given(positions)
def test_a_position_reads_as_what_was_written(position: Position) -> None:
    assert Position.parse(str(position)) == position


@given(st.text() | st.text("0123456789abc.-\n٣ ") | cursors.map(lambda cursor: str(cursor)[:-1]))
def test_any_other_text_is_no_cursor_and_nothing_worse(text: str) -> None:
    for kind in (Cursor, Position):
        try:
            found = kind.parse(text)
        except ValueError:
            continue
        assert str(found) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "00000000.1.2",
        "00000000.1.2.3.4",
        "00000000.1.2.3\n",
        " 00000000.1.2.3",
        "00000000.01.2.3",
        "00000000.1.2.3-",
        "00000000.1.2.3-01",
        "00000000.-1.2.3",
        "00000000.1.2.٣",
        "ABCDEFGH.1.2.3",
        "0000000.1.2.3",
        "00000000.1.2." + "9" * 20,
        "00000000.1.2.3" + "0" * 100_000,
    ],
)
def test_what_only_looks_like_a_cursor_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        Cursor.parse(text)


@given(st.integers(1, 50), st.integers(1, 10**6), st.data())
def test_positions_within_a_message_come_in_order_and_the_last_is_the_whole(
    count: int, seq: int, data: st.DataObject
) -> None:
    places = [Position.of(seq, event, count) for event in range(count)]
    assert places == sorted(set(places))
    assert places[-1] == Position(seq)
    assert Position(seq - 1) < places[0]
    assert all(place < Position.of(seq + 1, 0, 2) for place in places)
    assert str(data.draw(st.sampled_from(places))).split("-")[0] == str(seq)


@given(close, close, close)
def test_positions_are_ordered_as_a_line_is(a: Position, b: Position, c: Position) -> None:
    assert (a < b) + (a == b) + (a > b) == 1
    assert not (a < b < c) or a < c


@given(st.builds(Vector, close, close, close), st.sampled_from(SERVICES), close)
def test_a_vector_moves_on_in_one_part_and_never_back(vector: Vector, service: str, to: Position) -> None:
    moved = vector.moved(service, to)  # type: ignore[arg-type]
    assert moved.covers(vector)
    for each in SERVICES:
        assert moved.at(each) == (max(to, vector.at(each)) if each == service else vector.at(each))


@given(st.builds(Vector, close, close, close), st.builds(Vector, close, close, close))
def test_a_vector_covers_another_if_no_part_is_behind(one: Vector, other: Vector) -> None:
    assert one.covers(one)
    assert one.covers(other) == all(mine >= theirs for mine, theirs in zip(one, other, strict=True))
    if one.covers(other) and other.covers(one):
        assert one == other


def test_an_epoch_belongs_to_three_logs_and_a_room() -> None:
    epoch = epoch_of(("a", "b", "c"), "room")
    assert re.fullmatch(r"[0-9a-z]{8}", epoch)
    assert epoch == epoch_of(("a", "b", "c"), "room")
    others = [
        epoch_of(("a", "b", "d"), "room"),
        epoch_of(("x", "b", "c"), "room"),
        epoch_of(("b", "a", "c"), "room"),
        epoch_of(("a", "b", "c"), "Room"),
    ]
    assert epoch not in others


@given(
    st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 200) | st.just(WHOLE)), min_size=3, max_size=3)
)
def test_a_vector_is_read_as_it_was_written(parts: list[tuple[int, int]]) -> None:
    vector = Vector(*(Position(*part) for part in parts))
    assert Vector.parse(str(vector)) == vector


@pytest.mark.parametrize(
    "text", ["", "1.2", "1.2.3.4", "1.2.3 ", "a.b.c", "01.2.3", "-1.2.3", "abcdefgh.1.2.3"]
)
def test_what_is_no_vector_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="vector"):
        Vector.parse(text)
