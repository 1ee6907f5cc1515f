"""Paging through a long log: what it costs, where it stops, and that nothing is left out."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from roundtable.activity import history
from roundtable.activity.decider import DECIDER, Entry, Post, Posted, State
from roundtable.activity.history import History
from roundtable.activity.projection import Wanted, record
from roundtable.common.schema.activity import ActivityType
from roundtable.common.schema.envelope import to_json
from roundtable.common.schema.log import StoredEvent

pytestmark = pytest.mark.rule("AC2")

NOW = 1_760_000_000_000


class Room:
    """A room whose log is made up; counts what is read of it."""

    name = "cave"

    def __init__(self) -> None:
        self.state = State()
        self.log: list[tuple[int, Sequence[StoredEvent]]] = []
        self.entries: list[Entry] = []
        self.reads = 0
        self.messages = 0

    def post(
        self, seq: int, type_: ActivityType = "chat_message", size: int = 1, user: str = "ada", many: int = 1
    ) -> None:
        stored = []
        for _ in range(many):
            data = to_json({"text": "x" * size})
            number = len(self.entries)
            (fact,) = DECIDER.decide(self.state, Post(type_, data, user, user, "player", NOW + number))
            self.state = DECIDER.evolve(self.state, fact)
            self.entries.append(fact.activity)
            stored.append(self.stored(fact))
        self.log.append((seq, stored))

    @staticmethod
    def stored(fact: Posted) -> StoredEvent:
        method, data, audience = record(fact)
        return StoredEvent(method, to_json(data), NOW, audience=audience)

    async def read(self, after: int, limit: int) -> Sequence[tuple[int, Sequence[StoredEvent]]]:
        self.reads += 1
        start = bisect.bisect_right(self.log, after, key=lambda row: row[0])
        rows = self.log[start : start + limit]
        self.messages += len(rows)
        return rows

    def cost(self) -> tuple[int, int]:
        reads, messages, self.reads, self.messages = self.reads, self.messages, 0, 0
        return reads, messages


def ids(entries: Sequence[Any]) -> list[str]:
    return [entry.id for entry in entries]


def wanted(**fields: Any) -> Wanted:
    return Wanted("bob", "player", **fields)


LAYOUTS = {
    "alone": lambda number: number + 1,
    "among many rooms": lambda number: 1 + number * 400 + number * number % 397,
    "long silences": lambda number: 1 + number + number // 700 * 10_000_000,
    "late": lambda number: 900_000_000 + number * 3,
}


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_the_whole_of_a_long_history_can_be_paged_through_both_ways(layout: str) -> None:
    room, pages = Room(), History()
    for number in range(3_000):
        room.post(LAYOUTS[layout](number))
    everything = ids(room.entries)

    found: list[str] = []
    before = ""
    while True:
        page = await pages.page(room, wanted(before=before), 200)
        found = ids(page.activities) + found
        if not page.more:
            break
        before = page.activities[0].id
    assert found == everything
    reads, messages = room.cost()
    assert reads < 200
    assert messages < 5 * len(everything)

    found, after = [], "0"
    while True:
        page = await pages.page(room, wanted(after=after), 200)
        found += ids(page.activities)
        if not page.more:
            break
        after = page.activities[-1].id
    assert found == everything


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_any_place_of_a_long_history_is_found_by_few_reads(layout: str) -> None:
    room = Room()
    for number in range(3_000):
        room.post(LAYOUTS[layout](number))
    for number in (0, 1, 2, 700, 1_499, 1_500, 2_600, 2_749):
        middle = room.entries[number].id
        page = await History().page(room, wanted(before=middle), 20)
        assert ids(page.activities) == ids(room.entries[max(0, number - 20) : number])
        reads, messages = room.cost()
        assert reads <= 90
        assert messages <= 1_500
        for known in (middle, middle + "0", middle[:-1] + "1"):
            page = await History().page(room, wanted(after=known), 20)
            assert ids(page.activities) == ids(room.entries[number + 1 : number + 21])
            assert room.cost()[0] <= 80


async def test_what_the_state_holds_needs_no_log() -> None:
    room = Room()
    for number in range(1_000):
        room.post(number + 1)
    await History().page(room, wanted(), 200)
    await History().page(room, wanted(before=room.entries[-40].id), 200)
    await History().page(room, wanted(after=room.entries[-240].id), 200)
    assert room.cost() == (0, 0)


async def test_a_second_page_is_found_without_a_search() -> None:
    room, pages = Room(), History()
    for number in range(3_000):
        room.post(1 + number * 1_000)
    first = await pages.page(room, wanted(before=room.entries[1_500].id), 50)
    room.cost()
    await pages.page(room, wanted(before=first.activities[0].id), 50)
    assert room.cost()[0] < 15


async def test_several_activities_in_one_stored_message_are_paged_one_by_one() -> None:
    room, pages = Room(), History()
    for number in range(20):
        room.post(1 + number * 50, many=40)
    before, found = "", list[str]()
    while True:
        page = await pages.page(room, wanted(before=before), 7)
        found = ids(page.activities) + found
        if not page.more:
            break
        before = page.activities[0].id
    assert found == ids(room.entries)


async def test_a_log_whose_beginning_is_gone_is_just_shorter() -> None:
    room = Room()
    for number in range(2_000):
        room.post(number * 10 + 1)
    del room.log[:1_500]
    page = await History().page(room, wanted(before=room.entries[1_510].id), 50)
    assert (ids(page.activities), page.more) == (ids(room.entries[1_500:1_510]), False)
    page = await History().page(room, wanted(after="0"), 50)
    assert (ids(page.activities), page.more) == (ids(room.entries[1_500:1_550]), True)
    del room.log[:]
    page = await History().page(room, wanted(before=room.entries[1_510].id), 50)
    assert (ids(page.activities), page.more) == ([], False)


async def test_messages_that_cannot_be_read_hide_no_others() -> None:
    room = Room()
    for number in range(2_000):
        room.post(number * 10 + 1)
    for number in (0, 1, 700, 701, 1_000, 1_740, 1_999):
        room.log[number] = (room.log[number][0], ())
    lost = ids([room.entries[number] for number in (0, 1, 700, 701, 1_000, 1_740)])
    page = await History().page(room, wanted(before=room.entries[1_741].id), 50)
    assert ids(page.activities) == ids(room.entries[1_690:1_740])
    page = await History().page(room, wanted(after=room.entries[699].id), 3)
    assert ids(page.activities) == ids(room.entries[702:705])
    page = await History().page(room, wanted(after="0"), 200)
    assert ids(page.activities) == [id_ for id_ in ids(room.entries[:202]) if id_ not in lost]


async def test_a_long_row_of_messages_that_cannot_be_read_misleads_no_search() -> None:
    room = Room()
    for number in range(3_000):
        room.post(number * 10 + 1)
    for number in range(100, 1_900):
        room.log[number] = (room.log[number][0], ())
    page = await History().page(room, wanted(before=room.entries[2_000].id), 50)
    assert ids(page.activities) == ids(room.entries[1_950:2_000])
    page = await History().page(room, wanted(after=room.entries[1_950].id), 20)
    assert ids(page.activities) == ids(room.entries[1_951:1_971])
    page = await History().page(room, wanted(after=room.entries[90].id), 20)
    assert ids(page.activities) == ids(room.entries[91:100] + room.entries[1_900:1_911])


async def test_a_page_is_cut_before_it_grows_too_large() -> None:
    room, pages = Room(), History()
    for number in range(300):
        room.post(number + 1, size=60_000)
    before, found = "", list[str]()
    while True:
        page = await pages.page(room, wanted(before=before), 200)
        assert len(msgspec.json.encode(page)) < history.PAGE_BYTES + 1_000
        found = ids(page.activities) + found
        if not page.more:
            break
        before = page.activities[0].id
    assert found == ids(room.entries)


async def test_one_activity_larger_than_a_page_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE_BYTES", 10)
    room = Room()
    room.post(1)
    room.post(2)
    page = await History().page(room, wanted(), 50)
    assert (ids(page.activities), page.more) == ([room.entries[1].id], True)


async def test_a_search_for_what_is_rare_stops_and_says_that_there_may_be_more() -> None:
    room = Room()
    room.post(1, "note_edited")
    for number in range(6_000):
        room.post(number + 2)
    room.post(7_000, "note_edited")
    page = await History().page(room, wanted(types=("note_edited",)), 50)
    assert (len(page.activities), page.more) == (1, True)
    assert room.cost()[1] < history.SCANNED + 1_000
    page = await History().page(room, wanted(types=("note_edited",), before=page.activities[0].id), 50)
    assert (len(page.activities), page.more) == (1, False)
    page = await History().page(room, wanted(types=("turn_changed",)), 50)
    assert (page.activities, page.more) == ((), False)


async def test_a_search_for_what_is_not_there_has_an_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SCANNED", 200)
    room = Room()
    for number in range(5_000):
        room.post(number + 1)
    page = await History().page(room, wanted(types=("turn_changed",)), 50)
    assert (page.activities, page.more) == ((), True)
    assert room.cost()[1] <= 10 * 200 + 500


async def test_places_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_PLACES", 5)
    room, pages = Room(), History()
    for number in range(600):
        room.post(number + 1)
    for number in range(50):
        await pages.page(room, wanted(before=room.entries[number + 5].id), 2)
    assert len(pages._places) == 5
