"""What must hold of a feed after any history, found by Hypothesis.

A `Table` runs every command on three states at once: the live one, one folded from the log's JSON alone, and one that
went through a snapshot. Its log has the gaps that other rooms leave, and its state is so short that lists need the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundtable.activity import decider as module
from roundtable.activity.decider import DECIDER, Posted, State
from roundtable.activity.service import ActivityDomain
from roundtable.common.schema.activity import Activity, ActivityList
from roundtable.common.schema.basics import Role
from roundtable.common.schema.envelope import to_json
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage, StoredEvent, StoredMessage

PEOPLE: dict[str, Role] = {"ada": "player", "bob": "player", "cleo": "gm", "dan": "gm", "eve": "spectator"}
USERS = st.sampled_from(sorted(PEOPLE))
NOW = 1_760_000_000_000


@pytest.fixture(scope="module", autouse=True)
def short_memory() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RECENT", 4)
        yield


class Table:
    """A room with its log; implements `RoomView`."""

    name = "cave"

    def __init__(self) -> None:
        self.domain = ActivityDomain(lambda sides: sides)
        self.state = DECIDER.initial()
        self.log: list[tuple[int, StoredMessage]] = []
        self.snapshot: Any = None
        self.folded_since: list[Posted] = []
        self._seq = 0

    def batch(self, messages: Sequence[CommandMessage], now: int, gap: int = 1) -> None:
        """What the handler does with them: one stored message for all of their facts."""
        stored = []
        for message in messages:
            try:
                command = self.domain.prepare(message, now)
                facts = DECIDER.decide(self.state, command)
            except Refusal:
                continue
            for fact in facts:
                self.state = DECIDER.evolve(self.state, fact)
                method, data, audience = self.domain.record(fact)
                cause = message.method if message.method != method else ""
                stored.append(
                    StoredEvent(method, to_json(data), now, message.user, message.id, cause, audience)
                )
        if stored:
            self._seq += gap
            whole = msgspec.json.encode(StoredMessage(tuple(stored)))
            self.log.append((self._seq, msgspec.json.decode(whole, type=StoredMessage)))

    async def read(self, after: int, limit: int) -> Sequence[tuple[int, Sequence[StoredEvent]]]:
        later = [(seq, message.events) for seq, message in self.log if seq > after]
        return later[:limit]

    def replayed(self, state: State | None = None, after: int = 0) -> State:
        state = DECIDER.initial() if state is None else state
        for seq, message in self.log:
            for event in message.events:
                fact = self.domain.recall(event)
                assert fact is not None
                if seq > after:
                    state = DECIDER.evolve(state, fact)
        return state

    def restored(self, state: State) -> State:
        return self.domain.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(self.domain.dump(state))))

    def lists(self, user: str, role: Role, **params: Any) -> ActivityList:
        message = CommandMessage("activity.list", to_json(params), user, user, role)
        return asyncio.run(self.domain.query(self, message))

    def stored(self) -> list[StoredEvent]:
        return [event for _, message in self.log for event in message.events]

    def seen(self, user: str, role: Role) -> list[str]:
        """The ids that the log's audiences let that person see."""
        return [
            msgspec.json.decode(event.data)["id"]
            for event in self.stored()
            if event.audience is None or event.audience.admits(user, role)
        ]


def ids(activities: Sequence[Activity]) -> list[str]:
    return [activity.id for activity in activities]


CHATS = st.builds(
    lambda text, to: {"type": "chat_message", "data": {"text": text}, **({"to": to} if to else {})},
    st.text(max_size=8),
    st.lists(USERS, max_size=2),
)
ROLLS = st.builds(
    lambda expression, visibility: {
        "type": "dice_roll",
        "data": {"expression": expression},
        **({"visibility": visibility} if visibility else {}),
    },
    st.sampled_from(["d20", "2d6+1", "4d6dl1", "oops"]),
    st.sampled_from(["", "public", "gm", "blind", "self"]),
)
OTHERS = st.sampled_from(
    [
        {"type": "turn_changed", "data": {"current": "Ada", "round": 1}},
        {"type": "map_updated", "data": {"mapId": "m", "x": {"y": [1.5, None, "e\u0301"]}}},
        {"type": "note_edited", "data": {"noteId": "n"}},
        {"type": "user_joined", "data": {}},
    ]
)


def posting(params: Any, user: str) -> CommandMessage:
    return CommandMessage("activity.post", to_json(params), user, user.title(), PEOPLE[user], "r")


def deriving(log: str, seq: int, user: str, named: bool) -> CommandMessage:
    source = f"{log}@e:{seq}:0"
    params = {
        "source": source,
        "type": "user_joined" if log == "presence" else "map_updated",
        "userId": user,
        "username": user.title() if named else "",
        "data": {"n": seq},
        "timestamp": NOW + seq,
    }
    return CommandMessage("activity.derive", to_json(params), user, "", "gm", source)


POSTS = st.builds(posting, st.one_of(CHATS, ROLLS, OTHERS), USERS)
DERIVATIONS = st.builds(
    deriving, st.sampled_from(["presence", "canvas"]), st.integers(1, 9), USERS, st.booleans()
)
COMMANDS = st.one_of(POSTS, POSTS, DERIVATIONS)
BATCHES = st.lists(
    st.tuples(st.lists(COMMANDS, min_size=1, max_size=4), st.integers(-5, 5), st.integers(1, 600)),
    max_size=12,
)
History = list[tuple[list[CommandMessage], int, int]]


def played(history: History) -> Table:
    table = Table()
    for messages, clock, gap in history:
        table.batch(messages, NOW + clock, gap)
    return table


@pytest.mark.rule("AC8")
@given(history=BATCHES)
def test_the_state_folded_from_the_log_is_the_live_one(history: History) -> None:
    table = played(history)
    assert table.replayed() == table.state


@given(before=BATCHES, after=BATCHES)
def test_a_snapshot_and_the_tail_are_as_good_as_the_whole_log(before: History, after: History) -> None:
    table = played(before)
    restored = table.restored(table.state)
    assert restored == table.state
    seq = table.log[-1][0] if table.log else 0
    for messages, clock, gap in after:
        table.batch(messages, NOW + clock, gap)
    assert table.replayed(restored, seq) == table.state


@pytest.mark.rule("AC1")
@given(history=BATCHES)
def test_ids_are_unique_and_in_the_order_of_the_log(history: History) -> None:
    found = [msgspec.json.decode(event.data)["id"] for event in played(history).stored()]
    assert found == sorted(set(found))


@pytest.mark.rule("AC8")
@given(history=BATCHES)
def test_each_source_is_in_the_log_once_and_in_its_order(history: History) -> None:
    table = played(history)
    for log in ("presence", "canvas"):
        sources = [
            int(event.command.split(":")[1]) for event in table.stored() if event.command.startswith(log)
        ]
        assert sources == sorted(set(sources))


@pytest.mark.rule("AC8")
@given(history=BATCHES)
def test_joins_stand_in_the_log_by_derivation_alone(history: History) -> None:
    for event in played(history).stored():
        if msgspec.json.decode(event.data)["type"] in ("user_joined", "user_left"):
            assert event.cause == "activity.derive"


@pytest.mark.rule("AC2", "AC3", "AC5", "RS5")
@given(history=BATCHES, limit=st.integers(1, 7))
def test_pages_either_way_show_exactly_what_the_audiences_allow(history: History, limit: int) -> None:
    table = played(history)
    for user, role in PEOPLE.items():
        seen = table.seen(user, role)

        backwards: list[str] = []
        params: dict[str, Any] = {}
        while True:
            page = table.lists(user, role, limit=limit, **params)
            assert len(page.activities) == (limit if page.more else len(page.activities)) <= limit
            backwards = ids(page.activities) + backwards
            if not page.more:
                break
            params = {"before": page.activities[0].id}
        assert backwards == seen

        forwards: list[str] = []
        params = {"after": "0"}
        while True:
            page = table.lists(user, role, limit=limit, **params)
            forwards += ids(page.activities)
            if not page.more:
                break
            params = {"after": page.activities[-1].id}
        assert forwards == seen


@pytest.mark.rule("AC2")
@given(
    history=BATCHES,
    bounds=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    which=st.sampled_from(["before", "after", "both"]),
    exact=st.booleans(),
    limit=st.integers(1, 60),
    types=st.sets(st.sampled_from(["chat_message", "dice_roll", "map_updated", "user_joined"])),
    user=USERS,
)
def test_a_page_is_that_part_of_what_one_may_see(
    history: History, bounds: tuple[int, int], which: str, exact: bool, limit: int, types: set[str], user: str
) -> None:
    table = played(history)
    role = PEOPLE[user]
    known = [msgspec.json.decode(event.data) for event in table.stored()]
    edges = [known[at]["id"] + ("" if exact else "0") for at in bounds if at < len(known)]
    after = edges[0] if edges and which != "before" else ""
    before = edges[-1] if edges and which != "after" else ""
    seen = set(table.seen(user, role))
    wanted = [
        one["id"]
        for one in known
        if one["id"] in seen
        and one["type"] in types
        and one["id"] > after
        and (not before or one["id"] < before)
    ]
    params = {name: value for name, value in (("after", after), ("before", before)) if value}
    page = table.lists(user, role, limit=limit, types=sorted(types), **params)
    assert ids(page.activities) == (wanted[:limit] if after else wanted[-limit:])
    assert page.more == (len(wanted) > limit)


@pytest.mark.rule("AC3", "AC5")
@given(history=BATCHES)
def test_a_list_tells_to_and_visibility_as_the_log_does(history: History) -> None:
    table = played(history)
    told = {one["id"]: one for one in (msgspec.json.decode(event.data) for event in table.stored())}
    for user, role in PEOPLE.items():
        for activity in table.lists(user, role, limit=200).activities:
            assert msgspec.json.decode(to_json(activity)) == told[activity.id]


@pytest.mark.rule("AC5")
@given(history=BATCHES)
def test_whoever_is_gm_now_sees_the_blind_rolls_of_before(history: History) -> None:
    table = played(history)
    blind = [
        one["id"]
        for event in table.stored()
        if (one := msgspec.json.decode(event.data)).get("visibility") == "blind"
    ]
    assert [id_ for id_ in ids(table.lists("ada", "gm", limit=200).activities) if id_ in blind] == blind
    assert not set(blind) & set(ids(table.lists("cleo", "player", limit=200).activities))
