"""Pure layer: what waits to be told in one room, and the joined bytes of it for each connection. Knows no clock and no I/O.

The joined writer's invariants:
- what is stored is told in the order in which it was added, once, and nothing that was added later is told before it;
- it is told at once, together with the cursors and previews that wait; only those ever wait for a tick;
- of a user's cursors between two tellings the latest counts; of previews no point is left out;
- nobody is told their own cursor or preview.
The bytes are made once for each codec, and once more for each user of whom something is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from roundtable.common.cursor import Position
from roundtable.common.schema import canvas
from roundtable.common.schema.basics import Role
from roundtable.common.schema.envelope import ServerEvent, ServerMessage
from roundtable.common.schema.log import Audience, Service
from roundtable.common.schema.presence import CursorShown

from .codecs import Codec
from .ratelimit import Pace

_json: Final = msgspec.json.Encoder().encode
_NOTHING: Final = Raw(b"{}")
PREVIEW_POINTS: Final = 2_000
"""Points of one preview that may wait; more than that between two ticks is no drawing by hand, and the oldest go."""


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


class Moved(Struct, array_like=True, frozen=True):
    """A cursor as gateways tell each other."""

    user: str
    x: float
    y: float


class Inked(Struct, array_like=True, frozen=True):
    """A preview as gateways tell each other."""

    user: str
    preview: canvas.Preview


class Ephemera(Struct, array_like=True, frozen=True):
    """What one gateway tells the others of one room and tick on `rt.eph.ROOM`."""

    cursors: tuple[Moved, ...] = ()
    previews: tuple[Inked, ...] = ()


def _framed(frame: Callable[[ServerMessage], bytes], entry: Entry, user: str, role: Role) -> bytes:
    """The entry's frame. Data that a format cannot carry is left out, and only its cursor told: others' events go on."""
    try:
        return frame(entry.seen_by(user, role))
    except (OverflowError, RecursionError, msgspec.MsgspecError):
        return frame(entry.hidden())


class Batch:
    """What is told now. `parts` are made when first asked for and shared from then on."""

    __slots__ = (
        "empty",
        "entries",
        "merged",
        "messages",
        "_cursors",
        "_previews",
        "_timestamp",
        "_users",
        "_gm",
        "_made",
    )

    def __init__(
        self,
        entries: list[Entry],
        cursors: dict[str, bytes],
        previews: list[tuple[str, bytes]],
        timestamp: int,
        merged: int = 0,
    ) -> None:
        self.entries = entries
        self.merged = merged
        """Cursors and previews that are not told because a later one took them in."""
        self.messages = len(entries) + bool(cursors) + bool(previews)
        self._cursors = cursors
        self._previews = previews
        self._timestamp = timestamp
        self.empty = not (entries or cursors or previews)
        users = set(cursors)
        users.update(user for user, _ in previews)
        self._gm = False
        for entry in entries:
            if entry.audience is not None:
                users.update(entry.audience.users)
                self._gm |= entry.audience.gm
        self._users = users
        self._made: dict[tuple[Codec, str, bool, bool], bytes] = {}

    @property
    def uniform(self) -> bool:
        """The same for everybody."""
        return not self._users and not self._gm

    def bytes_for(self, codec: Codec, user: str, role: Role, lasting: bool = False) -> bytes:
        """The joined frames for a connection of that user; `lasting`: the stored events alone. May be empty."""
        key = (codec, user if user in self._users else "", self._gm and role == "gm", lasting)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._make(codec, key[1], role, lasting)
        return made

    def ephemera_for(self, user: str) -> tuple[dict[str, bytes], list[bytes]]:
        """The cursors by user and the previews of everybody else, each as JSON: for those who read later."""
        cursors = {owner: cursor for owner, cursor in self._cursors.items() if owner != user}
        return cursors, [ink for owner, ink in self._previews if owner != user]

    def _make(self, codec: Codec, user: str, role: Role, lasting: bool) -> bytes:
        frame = codec.frame
        parts: list[bytes] = []
        if not lasting:
            previews = [ink for owner, ink in self._previews if owner != user]
            if previews:
                parts.append(frame(self._event("canvas.preview", b"previews", previews)))
            cursors = [cursor for owner, cursor in self._cursors.items() if owner != user]
            if cursors:
                parts.append(frame(self._event("presence.cursor", b"cursors", cursors)))
        parts += [_framed(frame, entry, user, role) for entry in self.entries]
        return b"".join(parts)

    def _event(self, method: str, field: bytes, items: list[bytes]) -> ServerEvent:
        return ServerEvent(method, Raw(b'{"%b":[%b]}' % (field, b",".join(items))), self._timestamp)


class Outbox:
    """One room's. `hz` limits each local user's cursors, `tick` (seconds) is the least time between two tellings of them."""

    __slots__ = (
        "_tick",
        "_hz",
        "_entries",
        "_cursors",
        "_local",
        "_previews",
        "_inked",
        "_paces",
        "_last",
        "_merged",
    )

    def __init__(self, tick: float, hz: float) -> None:
        self._tick = tick
        self._hz = hz
        self._entries: list[Entry] = []
        self._cursors: dict[str, CursorShown] = {}
        self._local: set[str] = set()
        """Users whose waiting cursor came from this gateway: they are paced here and told to the others."""
        self._previews: dict[tuple[str, str], canvas.Preview] = {}
        self._inked: set[tuple[str, str]] = set()
        self._paces: dict[tuple[str, str], Pace] = {}
        self._last = float("-inf")
        self._merged = 0

    def store(self, entry: Entry) -> None:
        self._entries.append(entry)

    def move(self, user: str, x: float, y: float) -> None:
        self._merged += user in self._cursors
        self._cursors[user] = CursorShown(user, x, y)
        self._local.add(user)

    def ink(self, user: str, preview: canvas.Preview) -> None:
        self._ink(user, preview)
        self._inked.add((user, preview.id))

    def hear(self, ephemera: Ephemera) -> None:
        """What another gateway told of its people."""
        for moved in ephemera.cursors:
            self._cursors[moved.user] = CursorShown(moved.user, moved.x, moved.y)
            self._local.discard(moved.user)
        for inked in ephemera.previews:
            self._ink(inked.user, inked.preview)

    def _ink(self, user: str, preview: canvas.Preview) -> None:
        waiting = self._previews.get((user, preview.id))
        if waiting is not None:
            self._merged += 1
            points = (*waiting.points, *preview.points)[-PREVIEW_POINTS:]
            preview = msgspec.structs.replace(preview, points=points)
        self._previews[user, preview.id] = preview

    def forget(self, user: str) -> None:
        """The user has left."""
        self._cursors.pop(user, None)
        self._paces.pop(("cursor", user), None)
        self._paces.pop(("ink", user), None)

    def due(self, now: float) -> float | None:
        """When to `take`: now (or earlier) means at once; None: nothing waits."""
        if self._entries:
            return now
        if self._cursors or self._previews:
            return self._last + self._tick
        return None

    def take(self, now: float, timestamp: int) -> tuple[Batch, Ephemera | None]:
        """What is told now, and what of it the other gateways must hear. A cursor that comes too fast stays."""
        cursors: dict[str, bytes] = {}
        told: list[Moved] = []
        if self._cursors:
            for user, shown in tuple(self._cursors.items()):
                local = user in self._local
                if local and self._hz and not self._pace("cursor", user).take(now):
                    continue
                del self._cursors[user]
                cursors[user] = _json(shown)
                if local:
                    self._local.discard(user)
                    told.append(Moved(user, shown.x, shown.y))
        previews: list[tuple[str, bytes]] = []
        inked: list[Inked] = []
        drawing: dict[str, bool] = {}
        for (user, ident), preview in tuple(self._previews.items()):
            if self._hz and (user, ident) in self._inked:
                if user not in drawing:
                    drawing[user] = self._pace("ink", user).take(now)
                if not drawing[user]:
                    continue
            del self._previews[user, ident]
            shown_preview = canvas.PreviewShown(
                user, ident, preview.tool, preview.color, preview.size, preview.points
            )
            previews.append((user, _json(shown_preview)))
            if (user, ident) in self._inked:
                self._inked.discard((user, ident))
                inked.append(Inked(user, preview))
        batch = Batch(self._entries, cursors, previews, timestamp, self._merged)
        self._entries = []
        self._merged = 0
        self._last = now
        return batch, Ephemera(tuple(told), tuple(inked)) if told or inked else None

    def _pace(self, kind: str, user: str) -> Pace:
        pace = self._paces.get((kind, user))
        if pace is None:
            pace = self._paces[kind, user] = Pace(self._hz, self._tick)
        return pace
