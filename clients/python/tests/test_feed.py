"""A room's events as lines for a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from roundtable.client.cli.feed import Feed, visible
from roundtable.client.messages import Event
from roundtable.common.schema.activity import Activity, ActivityType, Snapshot, Visibility
from roundtable.common.schema.canvas import Cleared, Drawn, Redone, Undone
from roundtable.common.schema.presence import PresenceData
from roundtable.common.schema.presence import Snapshot as People


def feed() -> Feed:
    return Feed(lambda text, code: text, lambda ms: f"@{ms}")


def lines(*told: object) -> list[str]:
    shown = feed()
    return [line for data in told for line in shown.lines(Event("x", data, "", 7))]


def activity(
    kind: ActivityType,
    data: object,
    to: tuple[str, ...] | UnsetType = UNSET,
    visibility: Visibility | UnsetType = UNSET,
) -> Activity:
    return Activity("id", kind, "ann", "Ann", data, 7, to, visibility)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (activity("chat_message", {"text": "Hi"}), "says: Hi"),
        (activity("chat_message", {"text": "Hi"}, ("bob", "eve")), "whispers to Bob, eve: Hi"),
        (activity("dice_roll", {"expression": "d6", "text": "d6 (4) = 4"}), "rolls d6 (4) = 4"),
        (
            activity("dice_roll", {"expression": "d6", "label": "luck", "text": "4"}, visibility="gm"),
            "rolls (gm) luck: 4",
        ),
        (activity("dice_roll", {"expression": "d6"}, visibility="blind"), "rolls (blind) d6, unseen"),
        (activity("turn_changed", {"current": "Bob", "round": 2}), "gives the turn to Bob, round 2"),
        (activity("note_edited", {"noteId": "n", "title": "Clues"}), "edits the note Clues"),
        (activity("map_updated", {"mapId": "cave"}), "changes the map cave"),
        (activity("user_joined", {}), "sits down"),
        (activity("user_left", {}), "leaves"),
        (PresenceData("ann", "away", 7, "Ann"), "is away"),
        (Cleared("all", "ann", ("a", "b")), "clears the canvas (2)"),
        (Cleared("mine", "ann", ()), "clears their drawing (0)"),
        (Undone("ann", ("a",), ()), "undoes"),
        (Redone("ann", ("a",), ()), "redoes"),
    ],
)
def test_each_event_is_a_line_with_its_time_and_its_name(told: object, line: str) -> None:
    people = People((PresenceData("ann", "online", 1, "Ann"), PresenceData("bob", "online", 1, "Bob")), False)
    assert lines(people, told) == [f"@7  Ann {line}"]


def test_a_snapshot_is_all_its_lines_and_what_is_empty_is_none() -> None:
    said = activity("chat_message", {"text": "Hi"})
    assert len(lines(Snapshot((said, said), False))) == 2
    assert lines(Drawn(()), PresenceData("ann", "online", 7, "Ann"), {"of": "a newer server"}) == []


@given(st.text())
def test_nothing_that_is_not_to_be_seen_gets_through(text: str) -> None:
    shown = visible(text)
    assert not {unicodedata.category(each) for each in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert shown == visible(shown)


@given(st.text(), st.text(), st.text())
def test_whatever_somebody_is_called_or_says_stays_on_its_line(name: str, text: str, user: str) -> None:
    told = Activity("id", "chat_message", user, name, {"text": text}, 7)
    (line,) = lines(told)
    assert len(line.splitlines()) == 1
    assert line.startswith("@7  ")
