"""The joined writer as a whole: whatever comes, goes, stands still or breaks in between, each listener gets what is theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from roundtable.common.cursor import Position
from roundtable.common.schema.basics import Role
from roundtable.common.schema.canvas import PreviewShown
from roundtable.common.schema.envelope import ServerEvent
from roundtable.common.schema.log import Audience
from roundtable.common.schema.presence import CursorShown
from roundtable.gateway.batch import Batch, Entry
from roundtable.gateway.codecs import BINARY, DEFLATED_BINARY, DEFLATED_TEXT, SSE, TEXT, Codec
from roundtable.gateway.fanout import Fanout

from .wire import messages_in

CODECS = (TEXT, BINARY, DEFLATED_TEXT, DEFLATED_BINARY, SSE)
USERS = ("ann", "bob", "cyd", "dan")


class Listener:
    """A member that keeps what it is told; `at_write` happens in the middle of being written to."""

    def __init__(self, user: str = "ann", codec: Codec = TEXT, role: Role = "player") -> None:
        self.user, self.codec, self.role, self.paused = user, codec, role, False
        self.data = b""
        self.at_write: Callable[[], None] = lambda: None
        self.write: Callable[[bytes], None] = self._write
        self.due: list[tuple[int, bool]] = []
        """Numbers of the stored events that it must have, and whether it sees them."""

    def _write(self, data: bytes) -> None:
        assert data, "nothing is not written"
        self.at_write()
        self.data += data

    def write_lasting(self, data: bytes) -> None:
        assert self.paused
        self.data += data

    def told(self) -> list[dict[str, Any]]:
        return messages_in(self.data, self.codec.name)


def entry(number: int, audience: Audience | None = None) -> Entry:
    event = ServerEvent("canvas.draw", Raw(b'{"n":%d}' % number), 1, f"c{number}")
    return Entry("canvas", Position(number), event, audience, 100)


def cursors(*users: str) -> dict[str, tuple[CursorShown]]:
    return {user: (CursorShown(user, 1.5, 2.0),) for user in users}


def previews(*users: str) -> dict[str, list[PreviewShown]]:
    return {user: [PreviewShown(user, ident, "pen", "#fff", 1, ()) for ident in ("s", "t")] for user in users}


some_users = st.lists(st.sampled_from(USERS), unique=True, max_size=4)
audience = st.sampled_from([None, None, Audience(("ann",)), Audience((), gm=True), Audience()])
step = st.one_of(
    st.tuples(
        st.just("join"), st.sampled_from(USERS), st.sampled_from(CODECS), st.sampled_from(["gm", "player"])
    ),
    st.tuples(st.just("leave"), st.integers(0, 9)),
    st.tuples(st.just("pause"), st.integers(0, 9)),
    st.tuples(st.just("go on"), st.integers(0, 9)),
    st.tuples(st.just("full at the next"), st.integers(0, 9)),
    st.tuples(st.just("tell"), st.lists(audience, max_size=3), some_users, some_users),
)


@pytest.mark.rule("RS4", "RS5", "RS8")
@settings(max_examples=200, deadline=None)
@given(st.lists(step, max_size=40))
def test_whatever_the_interleaving_nothing_stored_is_lost_doubled_or_reordered_and_nobody_sees_their_own(
    steps: list[tuple[Any, ...]],
) -> None:
    fanout, stored = Fanout(), 0
    listeners: list[Listener] = []

    def pick(number: int) -> Listener | None:
        return listeners[number % len(listeners)] if listeners else None

    def pause(one: Listener, paused: bool) -> None:
        one.paused = paused
        fanout.sort(one)

    for kind, *what in steps:
        if kind == "join":
            one = Listener(*what)
            listeners.append(one)
            fanout.join(one)
        elif kind == "tell":
            audiences, moved, inked = what
            entries = [entry(stored + 1 + n, each) for n, each in enumerate(audiences)]
            stored += len(entries)
            before = {id(each): len(each.told()) for each in listeners}
            paused = {id(each) for each in listeners if each.paused}
            fanout.tell(Batch(entries, cursors(*moved), previews(*inked), 7))
            for each in listeners:
                if each not in fanout.members:
                    continue
                each.due += [
                    (e.position.seq, e.audience is None or e.audience.admits(each.user, each.role))
                    for e in entries
                ]
                fresh = each.told()[before[id(each)] :]
                shown = [
                    c["userId"]
                    for m in fresh
                    if m["method"] == "presence.cursor"
                    for c in m["data"]["cursors"]
                ]
                inks = [
                    p["userId"]
                    for m in fresh
                    if m["method"] == "canvas.preview"
                    for p in m["data"]["previews"]
                ]
                if id(each) in paused:
                    assert not shown
                    assert not inks
                else:
                    assert shown == [user for user in moved if user != each.user]
                    assert inks == [user for user in inked if user != each.user for _ in range(2)]
        elif (picked := pick(what[0])) is not None:
            one = picked
            match kind:
                case "leave":
                    fanout.leave(one)
                case "pause":
                    pause(one, True)
                case "go on":
                    pause(one, False)
                case "full at the next":
                    one.at_write = lambda one=one: pause(one, True)  # type: ignore[misc]
                case _:
                    raise AssertionError(kind)
    for each in listeners:
        lasting = [m for m in each.told() if m["method"] in ("canvas.draw", "session.cursor")]
        assert [(m["id"], m["method"] == "canvas.draw") for m in lasting] == [
            (f"c{number}", sees) for number, sees in each.due
        ]


@pytest.mark.rule("RS8")
def test_one_that_breaks_or_leaves_while_it_is_written_to_harms_nobody() -> None:
    fanout, all_of_them = Fanout(), [Listener(f"u{number}") for number in range(5)]

    def breaks() -> None:
        raise OSError("gone")

    all_of_them[1].at_write = breaks
    all_of_them[2].at_write = lambda: fanout.leave(all_of_them[2])
    all_of_them[3].at_write = lambda: fanout.leave(all_of_them[4])  # it was to be written to later
    for each in all_of_them:
        fanout.join(each)
    fanout.tell(Batch([entry(1)], {}, {}, 7))
    fanout.tell(Batch([entry(2)], {}, {}, 7))
    assert [[m["id"] for m in each.told()] for each in (all_of_them[0], all_of_them[3])] == [["c1", "c2"]] * 2
    assert [m["id"] for m in all_of_them[2].told()] == ["c1"]
    assert all_of_them[2] not in fanout.members


def test_all_who_are_told_the_same_are_given_the_very_same_bytes() -> None:
    fanout = Fanout()
    written: list[bytes] = []
    for number in range(50):
        one = Listener(f"u{number}")
        one.write = written.append
        fanout.join(one)
    fanout.tell(Batch([entry(1)], cursors("somebody", "else"), {}, 7))
    assert len(written) == 50
    assert len({id(data) for data in written}) == 1


def test_for_those_who_move_each_item_is_still_encoded_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    users = [f"u{number}" for number in range(100)]
    batch, encoded = Batch([], cursors(*users), {}, 7), 0
    plain = TEXT.item

    def counted(item: Any) -> bytes:
        nonlocal encoded
        encoded += 1
        return plain(item)

    codec = Codec("json", "json", TEXT.message, counted, TEXT.edges, TEXT.count, TEXT.shared, TEXT.own)
    fanout = Fanout()
    listeners = [Listener(user, codec) for user in users]
    for each in listeners:
        fanout.join(each)
    fanout.tell(batch)
    assert encoded == 100
    for each in listeners:
        (message,) = each.told()
        assert [c["userId"] for c in message["data"]["cursors"]] == [
            user for user in users if user != each.user
        ]
