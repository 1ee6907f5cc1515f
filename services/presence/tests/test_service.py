"""Presence as the command handler sees it: parameters in, stored events and answers out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from msgspec import Raw, Struct

from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import NOBODY, CommandMessage, StoredEvent
from roundtable.common.schema.presence import (
    AwayNoticed,
    ConnectionClosed,
    ConnectionOpened,
    DoingNow,
    PresenceData,
)
from roundtable.presence.decider import (
    CloseConnection,
    Fact,
    NoteSigns,
    OpenConnection,
    State,
    UpdatePresence,
)
from roundtable.presence.service import PresenceDomain

DOMAIN = PresenceDomain()
FACTS: list[Fact] = [
    PresenceData("ada", "online", 5, "Ada", DoingNow("typing", "chat")),
    ConnectionOpened("c1", "ada", "Ada", "g1", "poll", 5, joined=True),
    ConnectionClosed("c1", "ada", 6),
    AwayNoticed("ada"),
]


def message(method: str, params: Any = None, user: str = "ada", username: str = "Ada") -> CommandMessage:
    return CommandMessage(method, Raw(msgspec.json.encode(params or {})), user, username, "spectator")


def stored(fact: Fact) -> StoredEvent:
    method, data, audience = DOMAIN.record(fact)
    return StoredEvent(method, Raw(msgspec.json.encode(data)), 9, audience=audience)


def folded(*facts: Fact) -> State:
    state = State()
    for fact in facts:
        state = DOMAIN.decider.evolve(state, fact)
    return state


class View:
    name = "cave"

    def __init__(self, state: State) -> None:
        self.state = state

    async def read(self, after: int, limit: int) -> Sequence[tuple[int, Sequence[StoredEvent]]]:
        raise NotImplementedError


def test_commands_carry_who_and_when() -> None:
    opened = {"connectionId": "c1", "gateway": "g1", "transport": "sse"}
    closed = {"connectionId": "c1", "gateway": "g1"}
    assert DOMAIN.prepare(message("presence.open", opened), 7) == OpenConnection(
        "ada", "Ada", "c1", "g1", "sse", 7
    )
    assert DOMAIN.prepare(message("presence.close", closed), 7) == CloseConnection("ada", "c1", "g1", 7)
    assert DOMAIN.prepare(message("presence.touch", {"seen": {"bob": 5}}), 7) == NoteSigns({"bob": 5}, 7)
    assert DOMAIN.prepare(message("presence.update", {"status": "away"}), 7) == UpdatePresence(
        "ada", 7, "away"
    )
    assert DOMAIN.prepare(message("presence.update", {"activity": None}), 7) == UpdatePresence(
        "ada", 7, activity=None
    )


def test_a_location_is_cleaned_of_control_characters() -> None:
    given = {"activity": {"type": "viewing", "location": "ca\x00ve\x9b e\u0301"}}
    update = DOMAIN.prepare(message("presence.update", given), 7)
    assert update == UpdatePresence("ada", 7, activity=DoingNow("viewing", "cave \u00e9"))
    bare = DOMAIN.prepare(message("presence.update", {"activity": {"type": "viewing"}}), 7)
    assert bare == UpdatePresence("ada", 7, activity=DoingNow("viewing"))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"status": "offline"}, "params.status"),
        ({"activity": {"type": "sleeping"}}, "params.activity.type"),
        ({"activity": {"type": "typing", "location": "x" * 201}}, "params.activity.location"),
        ({"cursor": {"x": 1, "y": 1}}, "params.cursor"),
    ],
)
def test_what_is_not_in_the_schema_is_refused_by_its_path(params: Any, words: str) -> None:
    with pytest.raises(Refusal, match=words) as refused:
        DOMAIN.prepare(message("presence.update", params), 7)
    assert refused.value.reason == "invalid_data"


async def test_methods_of_others_are_refused() -> None:
    with pytest.raises(Refusal, match=r"canvas\.draw"):
        DOMAIN.prepare(message("canvas.draw"), 7)
    with pytest.raises(Refusal, match=r"canvas\.state"):
        await DOMAIN.query(View(State()), message("canvas.state"))


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: type(fact).__name__)
def test_every_fact_comes_back_from_the_log_as_it_was(fact: Fact) -> None:
    assert DOMAIN.recall(stored(fact)) == fact


@pytest.mark.rule("PR1")
def test_only_changes_of_presence_are_told_to_clients() -> None:
    assert [DOMAIN.record(fact).audience for fact in FACTS] == [None, NOBODY, NOBODY, NOBODY]
    assert [stored(fact).method for fact in FACTS] == [
        "presence.update",
        "presence.open",
        "presence.close",
        "presence.away",
    ]
    assert msgspec.json.decode(stored(FACTS[0]).data) == {
        "userId": "ada",
        "status": "online",
        "lastSeen": 5,
        "username": "Ada",
        "activity": {"type": "typing", "location": "chat"},
    }


@pytest.mark.parametrize(
    ("method", "data", "known"),
    [
        ("presence.future", {}, False),
        ("presence.update", {"userId": 5}, False),
        ("presence.away", {"userId": "ada", "mood": "fine"}, True),
    ],
)
def test_what_newer_versions_have_stored_is_skipped_or_read_as_far_as_it_goes(
    method: str, data: Any, known: bool
) -> None:
    recalled = DOMAIN.recall(StoredEvent(method, Raw(msgspec.json.encode(data)), 1))
    assert recalled == (AwayNoticed("ada") if known else None)


def test_an_answer_is_the_fact_that_the_command_caused_even_when_it_is_repeated_later() -> None:
    away, back = PresenceData("ada", "away", 1, "Ada"), PresenceData("ada", "online", 2, "Ada")
    state = folded(FACTS[1], away, back)
    assert DOMAIN.answer(state, message("presence.update"), [away]) == away
    assert DOMAIN.answer(state, message("presence.update"), []) == PresenceData("ada", "online", 5, "Ada")
    assert DOMAIN.answer(state, message("presence.open"), FACTS[1:2]) == PresenceData(
        "ada", "online", 5, "Ada"
    )


def test_the_gateways_own_commands_have_no_data_to_answer() -> None:
    for method in ("presence.close", "presence.touch"):
        assert DOMAIN.answer(folded(FACTS[1]), message(method), []) is None


@pytest.mark.rule("PR1", "PR5")
def test_who_has_no_connection_is_answered_as_offline_and_just_seen() -> None:
    state = State()
    DOMAIN.decider.decide(state, UpdatePresence("ada", 77, "away"))
    assert DOMAIN.answer(state, message("presence.update"), []) == PresenceData("ada", "offline", 77, "Ada")
    assert DOMAIN.answer(state, message("presence.update", username=""), []) == PresenceData(
        "ada", "offline", 77, "ada"
    )


async def test_the_list_names_all_who_are_not_offline_in_the_order_of_their_coming() -> None:
    state = folded(*(ConnectionOpened("c", user, user, "g", "sse", 1) for user in ("cleo", "ada", "bob")))
    DOMAIN.decider.evolve(state, PresenceData("ada", "offline", 2, "ada"))
    DOMAIN.decider.evolve(state, ConnectionClosed("c", "bob", 3))
    listed = await DOMAIN.query(View(state), message("presence.list"))
    shown: list[Struct] = [PresenceData("cleo", "online", 1, "cleo"), PresenceData("bob", "online", 3, "bob")]
    assert listed.presence == tuple(shown)  # type: ignore[attr-defined]


def test_a_room_is_occupied_while_anybody_is_shown() -> None:
    state = folded(FACTS[1])
    assert DOMAIN.occupied(state)
    DOMAIN.decider.evolve(state, FACTS[2])
    assert DOMAIN.occupied(state)
    DOMAIN.decider.evolve(state, PresenceData("ada", "offline", 9, "Ada"))
    assert not DOMAIN.occupied(state)


def test_a_snapshot_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 2"):
        DOMAIN.restore([2, [], [], {}, {}])
