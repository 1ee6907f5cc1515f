"""The canvas's facts on the wire and in the log, its answers and its snapshot."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from roundtable.canvas import projection
from roundtable.canvas.decider import DECIDER, Draw, Event, Redo, State, Undo
from roundtable.common.schema.basics import Point
from roundtable.common.schema.canvas import Cleared, Drawn, Redone, StateAnswer, StoredOperation, Undone
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage, StoredEvent
from roundtable.common.schema.methods import METHODS

CIRCLE = StoredOperation(
    "shape", "circle", (Point(0.0, 0.5), Point(-1e6, 3.25)), "#a1b2c3d4", 1.5, "ada", "one"
)
ERASER = StoredOperation("erase", "eraser", (Point(1.0, 2.0),), "#fff", 1000.0, "ada", 'ü"\\')

FACTS: list[tuple[str, Event, dict[str, Any]]] = [
    (
        "canvas.draw",
        Drawn((CIRCLE,)),
        {
            "operations": [
                {
                    "type": "shape",
                    "tool": "circle",
                    "points": [{"x": 0.0, "y": 0.5}, {"x": -1e6, "y": 3.25}],
                    "color": "#a1b2c3d4",
                    "size": 1.5,
                    "userId": "ada",
                    "id": "one",
                }
            ]
        },
    ),
    (
        "canvas.clear",
        Cleared("all", "gm", ("a", "b")),
        {"scope": "all", "userId": "gm", "cleared": ["a", "b"]},
    ),
    ("canvas.undo", Undone("ada", ("a",), ()), {"userId": "ada", "operations": ["a"], "restored": []}),
    ("canvas.redo", Redone("ada", (), ("a",)), {"userId": "ada", "operations": [], "hidden": ["a"]}),
]


def asked(method: str) -> CommandMessage:
    return CommandMessage(method, Raw(b"{}"), "ada", "Ada", "player", "1")


def stored(method: str, data: bytes) -> StoredEvent:
    return StoredEvent(method, Raw(data), 0)


def folded(*events: Event) -> State:
    state = DECIDER.initial()
    for event in events:
        state = DECIDER.evolve(state, event)
    return state


@pytest.mark.rule("EN5")
@pytest.mark.parametrize(("method", "event", "data"), FACTS)
def test_a_fact_is_told_to_all_under_the_name_of_what_was_asked(
    method: str, event: Event, data: dict[str, Any]
) -> None:
    recorded = projection.record(event)
    assert (recorded.method, recorded.audience) == (method, None)
    assert METHODS[method].event is type(event)
    assert msgspec.json.decode(msgspec.json.encode(recorded.data)) == data


@pytest.mark.parametrize(("method", "event", "data"), FACTS)
def test_a_fact_is_read_again_from_the_log_even_if_a_newer_version_wrote_more(
    method: str, event: Event, data: dict[str, Any]
) -> None:
    assert projection.recall(stored(method, msgspec.json.encode(data))) == event
    assert projection.recall(stored(method, msgspec.json.encode({**data, "why": {"not": [1]}}))) == event


@pytest.mark.parametrize(
    ("method", "data"),
    [
        ("canvas.fill", b"{}"),
        ("canvas.state", b"{}"),
        ("canvas.undo", b'{"userId":"ada"}'),
        ("canvas.clear", b'{"scope":"some","userId":"ada","cleared":[]}'),
        ("canvas.draw", b"[" * 5_000),
        ("canvas.draw", b"\xff"),
    ],
)
def test_what_is_no_fact_of_ours_is_passed_over(method: str, data: bytes) -> None:
    assert projection.recall(stored(method, data)) is None


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (Drawn((CIRCLE, ERASER)), {"operations": ["one", 'ü"\\']}),
        (Cleared("mine", "ada", ("a", "b")), {"cleared": ["a", "b"]}),
        (Undone("ada", ("a",), ()), {"undone": ["a"]}),
        (Undone("ada", (), ("b", "c")), {"undone": ["b", "c"]}),
        (Redone("ada", ("a",), ()), {"redone": ["a"]}),
        (Redone("ada", (), ("b", "c")), {"redone": ["b", "c"]}),
    ],
)
def test_the_answer_names_the_operations_and_leaves_the_cursor_to_the_gateway(
    event: Event, data: dict[str, list[str]]
) -> None:
    method = projection.record(event).method
    answer = projection.answer(asked(method), (event,))
    assert type(answer) is METHODS[method].answer
    assert msgspec.json.decode(msgspec.json.encode(answer)) == data


@pytest.mark.rule("CV2")
@pytest.mark.parametrize(
    ("method", "field"), [("canvas.clear", "cleared"), ("canvas.undo", "undone"), ("canvas.redo", "redone")]
)
def test_what_had_no_effect_is_answered_with_an_empty_list(method: str, field: str) -> None:
    assert msgspec.json.encode(projection.answer(asked(method), ())) == b'{"%s":[]}' % field.encode()


def test_there_is_no_answer_to_what_the_canvas_does_not_know() -> None:
    with pytest.raises(Refusal, match="unknown_method"):
        projection.answer(asked("canvas.fill"), ())


def test_the_canvas_is_told_as_its_visible_operations_in_drawing_order() -> None:
    state = folded(
        Drawn((CIRCLE,)), Drawn((ERASER,)), Undone("ada", ('ü"\\',), ()), Redone("ada", ('ü"\\',), ())
    )
    told = msgspec.json.encode(projection.canvas(state))
    assert msgspec.json.decode(told, type=StateAnswer) == StateAnswer((CIRCLE, ERASER))
    assert told == msgspec.json.encode(StateAnswer((CIRCLE, ERASER)))


def test_an_empty_canvas_is_an_empty_list() -> None:
    assert msgspec.json.encode(projection.canvas(DECIDER.initial())) == b'{"operations":[]}'


@pytest.mark.rule("CV2")
def test_undo_goes_on_where_it_was_after_a_snapshot() -> None:
    state = folded(
        Drawn((CIRCLE,)),
        Drawn((ERASER,)),
        Cleared("mine", "ada", ("one", 'ü"\\')),
        Undone("ada", (), ("one", 'ü"\\')),
    )
    packed = msgspec.msgpack.encode(projection.dump(state))
    again = projection.restore(msgspec.msgpack.decode(packed))
    assert DECIDER.decide(again, Undo("ada", "player", "ada")) == (Undone("ada", ('ü"\\',), ()),)
    with pytest.raises(Refusal, match="is taken"):
        DECIDER.decide(again, Draw("ada", "player", (CIRCLE,)))


@pytest.mark.rule("CV1", "CV2")
def test_what_keeps_an_operation_from_sight_keeps_it_after_a_snapshot() -> None:
    # Two clears hide it, then its draw is undone too.
    state = folded(Drawn((CIRCLE,)), Cleared("mine", "ada", ("one",)), Undone("ada", (), ("one",)))
    for event in (
        Cleared("all", "gm", ("one",)),
        Redone("ada", (), ()),
        Drawn((ERASER,)),
        Undone("ada", ('ü"\\',), ()),
    ):
        DECIDER.evolve(state, event)
    for _ in range(2):
        state = projection.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(projection.dump(state))))
    told = []
    for command in (
        Undo("gm", "gm", "gm"),
        Undo("ada", "player", "ada"),
        Redo("ada", "player", "ada"),
        Redo("ada", "player", "ada"),
    ):
        for event in DECIDER.decide(state, command):
            told.append(event)
            DECIDER.evolve(state, event)
    assert told == [
        Undone("gm", (), ()),
        Undone("ada", (), ("one",)),
        Redone("ada", (), ("one",)),
        Redone("ada", ('ü"\\',), ()),
    ]


def test_a_dump_is_of_its_moment() -> None:
    state = folded(Drawn((CIRCLE,)))
    dumped = projection.dump(state)
    packed = msgspec.msgpack.encode(dumped)
    DECIDER.evolve(state, Drawn((ERASER,)))
    assert msgspec.msgpack.encode(dumped) == packed


@pytest.mark.parametrize(
    "dumped",
    [
        None,
        {},
        [],
        [2, [], [], [], [], b"", [], []],
        [1, ["a"], [], [], [], b"", [], []],
        [1, ["a"], [4], [], [3], b"\1", [b"{}"], []],
        [1, ["a"], [4], ["ada"], [0], b"\1", [b"{}"], [["ada", [2, 7], []]]],
    ],
)
def test_a_snapshot_of_another_make_is_an_error_and_not_another_canvas(dumped: Any) -> None:
    with pytest.raises((ValueError, IndexError)):
        projection.restore(dumped)
