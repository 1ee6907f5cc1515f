"""What the events of presence and canvas mean for the feed, and what means nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from roundtable.activity.derivation import derive
from roundtable.common.eventlog import LogMessage
from roundtable.common.schema.canvas import Cleared, Drawn
from roundtable.common.schema.envelope import to_json
from roundtable.common.schema.log import NOBODY, Service, StoredEvent, StoredMessage
from roundtable.common.schema.presence import ConnectionOpened, PresenceData

pytestmark = pytest.mark.rule("AC8")


def message(*events: StoredEvent, seq: int = 7) -> LogMessage:
    return LogMessage("cave", seq, msgspec.json.encode(StoredMessage(events)))


def opened(user: str, joined: bool, at: int = 5) -> StoredEvent:
    data = ConnectionOpened("c", user, user.title(), "g", "websocket", at, joined)
    return StoredEvent("presence.open", to_json(data), at, user, audience=NOBODY)


def shown(user: str, status: Any, at: int = 5) -> StoredEvent:
    return StoredEvent("presence.update", to_json(PresenceData(user, status, at, user.title())), at, user)


def cleared(user: str, scope: Any, *ids: str, at: int = 5) -> StoredEvent:
    return StoredEvent("canvas.clear", to_json(Cleared(scope, user, ids)), at, user)


def meanings(service: Service, *events: StoredEvent) -> list[tuple[str, Any]]:
    found = derive(service, f"{service}@e", message(*events))
    assert not found.unreadable
    return [(command.id, msgspec.json.decode(command.params)) for command in found.commands]


def test_the_first_connection_is_a_join_and_further_ones_are_not() -> None:
    assert meanings("presence", opened("bob", False), opened("ada", True, 9), shown("ada", "online")) == [
        (
            "presence@e:7:1",
            {
                "source": "presence@e:7:1",
                "type": "user_joined",
                "userId": "ada",
                "username": "Ada",
                "data": {},
                "timestamp": 9,
            },
        )
    ]


def test_offline_is_a_leave_and_away_is_not() -> None:
    found = meanings("presence", shown("bob", "away"), shown("ada", "offline", 9))
    assert [(source, params["type"], params["username"]) for source, params in found] == [
        ("presence@e:7:1", "user_left", "Ada")
    ]


def test_clearing_all_of_the_canvas_changes_the_map_and_clearing_ones_own_does_not() -> None:
    found = meanings("canvas", cleared("ada", "mine", "a"), cleared("cleo", "all", "a", "b"))
    assert [(params["type"], params["userId"], params["data"]) for _, params in found] == [
        ("map_updated", "cleo", {"mapId": "cave", "change": "cleared", "cleared": 2})
    ]


def test_strokes_mean_nothing() -> None:
    assert meanings("canvas", StoredEvent("canvas.draw", to_json(Drawn(())), 1, "ada")) == []


@pytest.mark.parametrize(
    "payload",
    [b"", b'"canvas.clear"', b'{"events":[{"method":"canvas.clear"', b"\xff" * 9 + b'"canvas.clear"'],
)
def test_a_message_that_cannot_be_read_is_counted_if_it_might_have_meant_something(payload: bytes) -> None:
    found = derive("canvas", "canvas@e", LogMessage("cave", 1, payload))
    assert (found.commands, found.unreadable) == ([], 1 if payload else 0)


def test_an_event_that_cannot_be_read_hides_no_others() -> None:
    strange = StoredEvent("presence.open", Raw(b'{"joined":"yes"}'), 1)
    found = derive("presence", "presence@e", message(opened("ada", True), strange, opened("bob", True)))
    assert [command.id for command in found.commands] == ["presence@e:7:0", "presence@e:7:2"]
    assert found.unreadable == 1
