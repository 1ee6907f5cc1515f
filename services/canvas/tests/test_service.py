"""The canvas as the shell sees it: parameters in, answers out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from roundtable.canvas.decider import Clear, Command, Draw, Event, Limits, Redo, State, Undo
from roundtable.canvas.service import CanvasDomain
from roundtable.common.decider import Domain
from roundtable.common.schema.basics import Role
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage, StoredEvent
from roundtable.common.testing.scenario import Scenario

DOMAIN: Domain[State, Command, Event] = CanvasDomain()
PEN = {"type": "draw", "tool": "pen", "points": [{"x": 1, "y": 2}], "color": "#fff", "size": 3}


def asked(method: str, params: Any = None, user: str = "ada", role: Role = "player") -> CommandMessage:
    return CommandMessage(method, Raw(msgspec.json.encode(params or {})), user, user.title(), role, "1")


def prepared(method: str, params: Any = None, user: str = "ada", role: Role = "player") -> Command:
    return DOMAIN.prepare(asked(method, params, user, role), 0)


def drawing(*operations: dict[str, Any], user: str = "ada") -> Draw:
    command = prepared("canvas.draw", {"operations": operations}, user)
    assert isinstance(command, Draw)
    return command


class View:
    """A room for queries."""

    name = "tavern"

    def __init__(self, state: State) -> None:
        self.state = state

    async def read(self, after: int, limit: int) -> Sequence[tuple[int, Sequence[StoredEvent]]]:
        raise NotImplementedError


@pytest.mark.rule("CV3")
def test_an_operation_without_an_id_gets_a_short_one() -> None:
    command = drawing(*[PEN] * 100)
    ids = {operation.id for operation in command.operations}
    assert len(ids) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{12}", id_) for id_ in ids)


@pytest.mark.rule("CV3")
def test_the_clients_own_id_stays() -> None:
    first, second = drawing({**PEN, "id": "mine"}, PEN).operations
    assert first.id == "mine" != second.id


def test_an_operation_is_the_users_own_if_it_does_not_say_whose() -> None:
    first, second = drawing(PEN, {**PEN, "userId": "bob"}).operations
    assert (first.user_id, second.user_id) == ("ada", "bob")


def test_an_operation_in_anothers_name_is_forbidden() -> None:
    Scenario(DOMAIN.decider).when(drawing({**PEN, "userId": "bob"})).then_refused("forbidden")


@pytest.mark.parametrize(
    ("method", "params", "command"),
    [
        ("canvas.clear", {}, Clear("ada", "gm", "mine")),
        ("canvas.clear", {"scope": "all"}, Clear("ada", "gm", "all")),
        ("canvas.undo", {}, Undo("ada", "gm", "ada")),
        ("canvas.undo", {"userId": "bob"}, Undo("ada", "gm", "bob")),
        ("canvas.redo", {}, Redo("ada", "gm", "ada")),
        ("canvas.redo", {"userId": "bob"}, Redo("ada", "gm", "bob")),
    ],
)
def test_what_is_left_out_means_ones_own(method: str, params: dict[str, str], command: Command) -> None:
    assert prepared(method, params, role="gm") == command


@pytest.mark.parametrize(
    ("method", "params", "path"),
    [
        ("canvas.draw", {}, "operations"),
        ("canvas.draw", {"operations": []}, "params.operations"),
        ("canvas.draw", {"operations": [PEN] * 101}, "params.operations"),
        ("canvas.draw", {"operations": [PEN, {**PEN, "size": 0}]}, "params.operations[1].size"),
        ("canvas.clear", {"scope": "yours"}, "params.scope"),
        ("canvas.undo", {"user": "bob"}, "params.user"),
        ("canvas.redo", {"userId": ""}, "params.userId"),
    ],
)
def test_params_that_do_not_fit_are_refused_by_their_path(
    method: str, params: dict[str, Any], path: str
) -> None:
    with pytest.raises(Refusal) as refused:
        prepared(method, params)
    assert refused.value.reason == "invalid_data"
    assert path in refused.value.message


@pytest.mark.parametrize("method", ["canvas.fill", "canvas.state", "presence.update"])
def test_a_command_that_the_canvas_does_not_know_is_refused(method: str) -> None:
    with pytest.raises(Refusal, match="unknown_method"):
        prepared(method)


async def test_the_state_query_tells_the_visible_operations() -> None:
    scenario = Scenario(DOMAIN.decider).after(
        drawing({**PEN, "id": "a"}),
        drawing({**PEN, "id": "b"}, user="bob"),
        drawing({**PEN, "id": "c"}),
        prepared("canvas.undo"),
    )
    answer = await DOMAIN.query(View(scenario.state), asked("canvas.state", role="spectator"))
    told = msgspec.json.decode(msgspec.json.encode(answer))
    assert list(told) == ["operations"]
    assert told["operations"] == [
        {**PEN, "userId": "ada", "id": "a"},
        {**PEN, "userId": "bob", "id": "b"},
    ]


@pytest.mark.parametrize(
    ("method", "params", "reason"),
    [("canvas.state", {"all": True}, "invalid_data"), ("canvas.fill", {}, "unknown_method")],
)
async def test_a_query_that_is_not_as_it_should_be_is_refused(method: str, params: Any, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        await DOMAIN.query(View(DOMAIN.decider.initial()), asked(method, params))


@pytest.mark.rule("CV1", "CV2")
def test_undo_and_redo_survive_a_restart_from_the_log_alone() -> None:
    log: list[StoredEvent] = []
    state = DOMAIN.decider.initial()

    def do(method: str, params: Any = None) -> dict[str, list[str]]:
        nonlocal state
        message = asked(method, params)
        events = DOMAIN.decider.decide(state, DOMAIN.prepare(message, 0))
        for event in events:
            state = DOMAIN.decider.evolve(state, event)
            recorded = DOMAIN.record(event)
            log.append(StoredEvent(recorded.method, Raw(msgspec.json.encode(recorded.data)), 0))
        answer: dict[str, list[str]] = msgspec.json.decode(
            msgspec.json.encode(DOMAIN.answer(state, message, events))
        )
        return answer

    def restart() -> None:
        nonlocal state
        state = DOMAIN.decider.initial()
        for stored in log:
            event = DOMAIN.recall(stored)
            assert event is not None
            state = DOMAIN.decider.evolve(state, event)

    assert do("canvas.draw", {"operations": [{**PEN, "id": "a"}, {**PEN, "id": "b"}]}) == {
        "operations": ["a", "b"]
    }
    assert do("canvas.clear") == {"cleared": ["a", "b"]}
    restart()
    assert do("canvas.undo") == {"undone": ["a", "b"]}
    assert do("canvas.undo") == {"undone": ["a", "b"]}
    assert do("canvas.undo") == {"undone": []}
    restart()
    assert do("canvas.redo") == {"redone": ["a", "b"]}
    assert do("canvas.redo") == {"redone": ["a", "b"]}
    assert do("canvas.redo") == {"redone": []}
    assert do("canvas.clear") == {"cleared": []}
    assert len(log) == 6


def test_the_limits_are_the_domains_to_set() -> None:
    Scenario(CanvasDomain(Limits(visible=1)).decider).when(drawing(PEN, PEN)).then_refused(
        "invalid_data", "1 operations"
    )


def test_nothing_on_a_canvas_happens_by_itself() -> None:
    state = DOMAIN.decider.initial()
    assert DOMAIN.due(state, 10**12) == ((), None)
    assert DOMAIN.occupied(state) is None


def test_the_domain_dumps_and_restores_as_the_projection_does() -> None:
    state = Scenario(DOMAIN.decider).after(drawing(PEN)).state
    assert DOMAIN.dump(DOMAIN.restore(DOMAIN.dump(state))) == DOMAIN.dump(state)
