"""Pure layer: what is told in one room at one moment, and the joined bytes of it for each connection. Knows no clock, no I/O.

Invariants:
- the bytes for a connection are whole frames: previews, then cursors, then what is stored, in the order of storing;
- nobody is told their own cursor or preview, and of an event that they may not see only its cursor (RS5);
- the bytes are made once for each codec. For who is told less than all others, theirs are cut out of the same encoded
  items: so each item is encoded once for each codec, however many move and however many look on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from roundtable.common.cursor import Position
from roundtable.common.schema.basics import Role
from roundtable.common.schema.canvas import PreviewShown
from roundtable.common.schema.envelope import ServerEvent, ServerMessage
from roundtable.common.schema.log import Audience, Service
from roundtable.common.schema.presence import CursorShown

from .codecs import Codec

_json: Final = msgspec.json.Encoder().encode
_NOTHING: Final = Raw(b"{}")


class Entry(NamedTuple):
    """A stored event as a room's relay tells it."""

    service: Service
    position: Position
    event: ServerEvent
    """With the cursor after it, for connections that have had everything before it."""
    audience: Audience | None
    size: int

    def seen_by(self, user: str, role: Role) -> ServerEvent:
        """The event, or the bare cursor for those who may not see it (RS5)."""
        if self.audience is None or self.audience.admits(user, role):
            return self.event
        return self.hidden()

    def hidden(self) -> ServerEvent:
        return ServerEvent("session.cursor", _NOTHING, self.event.timestamp, self.event.id)

    def at(self, cursor: str) -> Entry:
        """The same for a connection that is elsewhere in the other logs."""
        event = self.event
        return self._replace(event=ServerEvent(event.method, event.data, event.timestamp, cursor))


class _List:
    """One event that is a list, in one codec: its items encoded once and joined, so that each owner's can be cut out."""

    __slots__ = ("_codec", "_count", "_edges", "_joined", "_pieces")

    def __init__(
        self, codec: Codec, method: str, field: str, items: Mapping[str, Sequence[Struct]], timestamp: int
    ) -> None:
        self._codec = codec
        self._edges = codec.edges(method, field, timestamp)
        between, item = self._edges.between, codec.item
        parts: list[bytes] = []
        self._pieces: dict[str, tuple[int, int, int]] = {}
        """Of each owner: where theirs begin and end, and how many they are."""
        start = count = 0
        for owner, theirs in items.items():
            piece = item(theirs[0]) if len(theirs) == 1 else between.join(map(item, theirs))
            end = start + len(piece)
            self._pieces[owner] = start, end, len(theirs)
            parts.append(piece)
            start = end + len(between)
            count += len(theirs)
        self._joined = between.join(parts)
        self._count = count

    def whole(self) -> bytes:
        before, _, after = self._edges
        return self._codec.shared(b"".join((before, self._codec.count(self._count), self._joined, after)))

    def without(self, owner: str) -> bytes:
        """Framed like `whole`, with the items of everybody else; empty if there are none."""
        piece = self._pieces.get(owner)
        if piece is None:
            return self.whole()
        start, end, count = piece
        if count == self._count:
            return b""
        before, between, after = self._edges
        joined = self._joined
        if start:
            first, second = joined[: start - len(between)], joined[end:]
        else:
            first, second = joined[end + len(between) :], b""
        return self._codec.own((before, self._codec.count(self._count - count), first, second, after))


class Joined:
    """A batch in one codec: the joined bytes for whom it may concern."""

    __slots__ = ("shared", "_batch", "_codec", "_lasting", "_lists")

    def __init__(self, batch: Batch, codec: Codec) -> None:
        self._batch = batch
        self._codec = codec
        self._lasting: dict[tuple[str, bool], bytes] = {}
        self._lists: list[_List] = []
        if batch.previews:
            self._lists.append(_List(codec, "canvas.preview", "previews", batch.previews, batch.timestamp))
        if batch.cursors:
            self._lists.append(_List(codec, "presence.cursor", "cursors", batch.cursors, batch.timestamp))
        self.shared = b"".join([*(each.whole() for each in self._lists), self.lasting("", "spectator")])
        """For all but those whom `Batch.users` and `Batch.gm` name."""

    def own(self, user: str, role: Role) -> bytes:
        """For one of those. May be empty."""
        lists = self._lists
        if len(lists) == 1 and not self._batch.entries:
            return lists[0].without(user)
        return b"".join([*(each.without(user) for each in lists), self.lasting(user, role)])

    def lasting(self, user: str, role: Role) -> bytes:
        """The stored events alone, for anybody."""
        batch = self._batch
        if not batch.entries:
            return b""
        key = (user if user in batch.named else "", batch.gm and role == "gm")
        made = self._lasting.get(key)
        if made is None:
            frames = [_framed(self._codec.frame, entry, key[0], role) for entry in batch.entries]
            made = self._lasting[key] = b"".join(frames)
        return made


class Batch:
    """What is told now. All bytes are made when first asked for, and shared from then on."""

    __slots__ = ("cursors", "entries", "gm", "merged", "named", "previews", "timestamp", "users", "_joined")

    def __init__(
        self,
        entries: Sequence[Entry],
        cursors: Mapping[str, Sequence[CursorShown]],
        previews: Mapping[str, Sequence[PreviewShown]],
        timestamp: int,
        merged: int = 0,
    ) -> None:
        self.entries = entries
        self.cursors = cursors
        """By user, and so the previews."""
        self.previews = previews
        self.timestamp = timestamp
        self.merged = merged
        """Cursors and previews that are not told because a later one took them in."""
        self.named: set[str] = set()
        """Users who may see events that others may not,"""
        self.gm = False
        """and so may those who lead the game."""
        for entry in entries:
            if entry.audience is not None:
                self.named.update(entry.audience.users)
                self.gm |= entry.audience.gm
        self.users = self.named.union(cursors, previews)
        """Those who are told something else than all others."""
        self._joined: dict[Codec, Joined] = {}

    @property
    def empty(self) -> bool:
        return not (self.entries or self.cursors or self.previews)

    @property
    def messages(self) -> int:
        return len(self.entries) + bool(self.cursors) + bool(self.previews)

    def joined(self, codec: Codec) -> Joined:
        made = self._joined.get(codec)
        if made is None:
            made = self._joined[codec] = Joined(self, codec)
        return made

    def bytes_for(self, codec: Codec, user: str, role: Role) -> bytes:
        """The joined frames for a connection of that user. May be empty."""
        joined = self.joined(codec)
        if user in self.users or (self.gm and role == "gm"):
            return joined.own(user, role)
        return joined.shared

    def ephemera_for(self, user: str) -> tuple[dict[str, bytes], list[bytes]]:
        """The cursors by user and the previews of everybody else, each as JSON: for those who read later."""
        cursors = {owner: _json(theirs[-1]) for owner, theirs in self.cursors.items() if owner != user}
        inks = [_json(ink) for owner, theirs in self.previews.items() if owner != user for ink in theirs]
        return cursors, inks


def _framed(frame: Callable[[ServerMessage], bytes], entry: Entry, user: str, role: Role) -> bytes:
    """The entry's frame. Data that a format cannot carry is left out, and only its cursor told: others' events go on."""
    try:
        return frame(entry.seen_by(user, role))
    except (OverflowError, RecursionError, msgspec.MsgspecError):
        return frame(entry.hidden())
