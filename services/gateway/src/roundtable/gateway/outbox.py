"""Pure layer: what waits to be told in one room, and when it is told. Knows no connections, no clock and no I/O.

Invariants:
- what is stored is told in the order in which it was added, once, and nothing that was added later is told before it;
- it is told at once, together with the cursors and previews that wait; only those ever wait for a tick;
- of a user's cursors between two tellings the latest counts; of previews no point is left out.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from roundtable.common.schema import canvas
from roundtable.common.schema.basics import Point
from roundtable.common.schema.presence import CursorShown

from .batch import Batch, Entry
from .ratelimit import Pace

PREVIEW_POINTS: Final = 2_000
"""Points of one preview that may wait; more than that between two ticks is no drawing by hand, and the oldest go."""


class Inked(Struct, array_like=True, frozen=True):
    """A preview as gateways tell each other."""

    user: str
    preview: canvas.Preview


class Ephemera(Struct, array_like=True, frozen=True):
    """What one gateway tells the others of one room and tick on `rt.eph.ROOM`."""

    cursors: tuple[CursorShown, ...] = ()
    previews: tuple[Inked, ...] = ()


class Outbox:
    """One room's. `hz` limits each local user's cursors, `tick` (seconds) is the least time between two tellings of them."""

    __slots__ = (
        "_tick", "_hz", "_entries", "_cursors", "_far", "_previews", "_inked", "_moving", "_drawing", "_last", "_merged",
    )  # fmt: skip

    def __init__(self, tick: float, hz: float) -> None:
        self._tick = tick
        self._hz = hz
        self._entries: list[Entry] = []
        self._cursors: dict[str, Point] = {}
        """Of this gateway's people: they are paced here and told to the others."""
        self._far: dict[str, CursorShown] = {}
        """Cursors of other gateways' people, which are paced there."""
        self._previews: dict[tuple[str, str], canvas.Preview] = {}
        self._inked: set[tuple[str, str]] = set()
        """Those of this gateway's people."""
        self._moving: dict[str, Pace] = {}
        self._drawing: dict[str, Pace] = {}
        self._last = float("-inf")
        self._merged = 0

    def store(self, entry: Entry) -> None:
        self._entries.append(entry)

    def move(self, user: str, at: Point) -> None:
        if user in self._cursors:
            self._merged += 1
        elif self._far:
            self._far.pop(user, None)
        self._cursors[user] = at

    def ink(self, user: str, preview: canvas.Preview) -> None:
        self._ink(user, preview)
        self._inked.add((user, preview.id))

    def hear(self, ephemera: Ephemera) -> None:
        """What another gateway told of its people."""
        for shown in ephemera.cursors:
            self._cursors.pop(shown.user_id, None)
            self._far[shown.user_id] = shown
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
        self._far.pop(user, None)
        self._moving.pop(user, None)
        self._drawing.pop(user, None)

    def due(self, now: float) -> float | None:
        """When to `take`: now (or earlier) means at once; None: nothing waits."""
        if self._entries:
            return now
        if self._cursors or self._far or self._previews:
            return self._last + self._tick
        return None

    def take(self, now: float, timestamp: int) -> tuple[Batch, Ephemera | None]:
        """What is told now, and what of it the other gateways must hear. A cursor that comes too fast stays."""
        moved = self._take_cursors(now) if self._cursors else ()
        cursors = {shown.user_id: (shown,) for shown in (*self._far.values(), *moved)}
        shown, inked = self._take_previews(now) if self._previews else ({}, ())
        batch = Batch(self._entries, cursors, shown, timestamp, self._merged)
        self._entries = []
        self._far = {}
        self._merged = 0
        self._last = now
        return batch, Ephemera(moved, inked) if moved or inked else None

    def _take_cursors(self, now: float) -> tuple[CursorShown, ...]:
        """Those of this gateway's people whose turn it is."""
        taken, early = [], {}
        for user, at in self._cursors.items():
            if self._takes_turn(self._moving, user, now):
                taken.append(CursorShown(user, at.x, at.y))
            else:
                early[user] = at
        self._cursors = early
        return tuple(taken)

    def _take_previews(self, now: float) -> tuple[dict[str, list[canvas.PreviewShown]], tuple[Inked, ...]]:
        """By user, and those that are told to the other gateways too."""
        taken: dict[str, list[canvas.PreviewShown]] = {}
        inked: list[Inked] = []
        turns: dict[str, bool] = {}
        for (user, ident), preview in tuple(self._previews.items()):
            local = (user, ident) in self._inked
            if local:
                if user not in turns:
                    turns[user] = self._takes_turn(self._drawing, user, now)
                if not turns[user]:
                    continue
                self._inked.discard((user, ident))
                inked.append(Inked(user, preview))
            del self._previews[user, ident]
            shown = canvas.PreviewShown(
                user, ident, preview.tool, preview.color, preview.size, preview.points
            )
            taken.setdefault(user, []).append(shown)
        return taken, tuple(inked)

    def _takes_turn(self, paces: dict[str, Pace], user: str, now: float) -> bool:
        if not self._hz:
            return True
        pace = paces.get(user)
        if pace is None:
            # A telling is up to a tick after its message, and a little more when the loop is late: with less tolerance than
            # two, who sends at just the rate that is allowed would sooner or later be told one tick later each time.
            pace = paces[user] = Pace(self._hz, 2 * self._tick)
        return pace.take(now)
