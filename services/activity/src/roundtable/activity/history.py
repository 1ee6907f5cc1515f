"""Service layer: pages of a room's feed, from the state where that reaches, then from the log. Knows no NATS.

The log can be read forwards only, and its sequences are those of all rooms together. As ids grow with the log, the place of
an id is found by bisection, and what is before a place by steps back that grow and shrink with the room's density. So the
state needs no index of the past, which would grow for ever, and a log whose beginning is gone is just shorter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from roundtable.common.decider import RoomView
from roundtable.common.schema.activity import ActivityList

from .decider import Entry, State
from .projection import Wanted, recall

PAGE_BYTES: Final = 512 * 1024
"""A page holds fewer than its limit rather than more than this, so that no answer blocks a connection."""
SCANNED: Final = 5_000
"""Stored messages that one query may read when it has found something to answer; ten times that until it has."""
READS: Final = 400
CHUNK: Final = 256
_PLACES: Final = 4_096


class Row(NamedTuple):
    """One stored message: its sequence, and the activities in it."""

    seq: int
    entries: Sequence[Entry]

    @property
    def last_id(self) -> str:
        return self.entries[-1].id if self.entries else ""


class _Page:
    """What was found so far, in the order of finding."""

    def __init__(self, wanted: Wanted, limit: int) -> None:
        self.wanted = wanted
        self.entries: list[Entry] = []
        self.more = False
        self.last_seq = 0
        """Where in the log the last one of `entries` stands; 0 if it came from the state."""
        self.limit = limit
        self._bytes = 0

    def full(self, entry: Entry, seq: int = 0) -> bool:
        """Takes the entry if it is wanted; true if it is but has no place any more: then there is more, and we are done."""
        if not self.wanted.admits(entry):
            return False
        if len(self.entries) == self.limit or (self.entries and self._bytes + entry.size > PAGE_BYTES):
            self.more = True
            return True
        self.entries.append(entry)
        self.last_seq = seq
        self._bytes += entry.size
        return False


class _Exhausted(Exception):
    """The query has read as much as one may."""


class _Reader:
    """A room's log for one query."""

    def __init__(self, room: RoomView[State], page: _Page) -> None:
        self._room = room
        self._page = page
        self._reads = 0
        self._scanned = 0
        self._chunk = min(CHUNK, max(32, 2 * page.limit))
        """Messages to read at once: few at first, as a short page may need no more."""

    async def rows(self, after: int, limit: int) -> list[Row]:
        allowed = SCANNED if self._page.entries else 10 * SCANNED
        if self._reads >= READS or self._scanned >= allowed:
            raise _Exhausted
        stored = await self._room.read(after, limit)
        self._reads += 1
        self._scanned += len(stored)
        recalled = ((seq, map(recall, events)) for seq, events in stored)
        return [Row(seq, [fact.activity for fact in facts if fact is not None]) for seq, facts in recalled]

    async def find(self, id_: str) -> int:
        """A sequence up to which all activities have lesser ids, and after which the next one has not."""
        low, high, step = 0, 0, 1_024
        while not high:
            seq = await self._lesser(low + step, id_)
            if seq:
                low, step = seq, step * 2
            else:
                high = low + step
        while high - low > self._chunk:
            middle = (low + high) // 2
            seq = await self._lesser(middle, id_)
            if seq:
                low = seq
            else:
                high = middle
        for row in await self.rows(low, self._chunk):
            if row.seq > high or row.last_id >= id_:
                break
            low = row.seq
        return low

    async def _lesser(self, place: int, id_: str) -> int:
        """The sequence of the next message with activities after the place if they are all before the id; else 0."""
        limit = 1
        while rows := await self.rows(place, limit):
            for row in rows:
                if row.entries:
                    return row.seq if row.last_id < id_ else 0
            place, limit = rows[-1].seq, CHUNK
        return 0

    async def forwards(self, place: int) -> AsyncGenerator[Row, None]:
        while rows := await self.rows(place, self._chunk):
            for row in rows:
                yield row
            place = rows[-1].seq
            self._chunk = min(CHUNK, 2 * self._chunk)

    async def backwards(self, place: int) -> AsyncGenerator[Row, None]:
        """The message after the place, then those up to it, newest first."""
        for row in await self.rows(place, 1):
            yield row
        step, limit = self._chunk // 4, self._chunk // 2
        while place > 0:
            start = max(0, place - step)
            rows = await self.rows(start, limit)
            # The next step is to bring three quarters of a chunk, by how dense the room's messages were in this one.
            wished = (rows[-1].seq - start) * self._chunk * 3 // (4 * len(rows)) if rows else 16 * step
            if len(rows) == limit and rows[-1].seq < place:
                # Those just before the place would be missing: over a silence first, then more of them, then less far.
                if place - rows[-1].seq > 16 * wished:
                    place, step = await self._silence(rows[-1].seq, place), self._chunk
                elif limit >= self._chunk:
                    step = max(1, min(wished, step // 2))
                limit = self._chunk
                continue
            found = [row for row in rows if row.seq <= place]
            for row in reversed(found):
                yield row
            place = start
            if found:
                limit = min(CHUNK, 2 * self._chunk)
                step = max(1, min(wished * limit // self._chunk, 16 * step))
                self._chunk = limit
            else:  # perhaps nothing is for long: one message is enough to see that
                step, limit = 16 * step, 1

    async def _silence(self, low: int, high: int) -> int:
        """A place not far after the last message from `low` to `high`; at `low` there is one."""
        end = high
        while high - low > self._chunk:
            middle = (low + high) // 2
            rows = await self.rows(middle, 1)
            if rows and rows[0].seq <= end:
                low = rows[0].seq
            else:
                high = middle
        return high


class History:
    """Remembers where pages ended, so that the next one is found without a search."""

    def __init__(self) -> None:
        self._places: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def page(self, room: RoomView[State], wanted: Wanted, limit: int) -> ActivityList:
        """Oldest first. With `after` the oldest ones after it, else the newest ones (before `before`)."""
        page = _Page(wanted, limit)
        recent = tuple(room.state.recent)  # as of now: the state may go on while the log is read
        older = len(recent) < room.state.total
        try:
            if wanted.after:
                await self._oldest(room, page, recent, older)
            else:
                await self._newest(room, page, recent, older)
        except _Exhausted:
            page.more = True
        if page.last_seq:
            self._keep(room.name, page.entries[-1].id, page.last_seq - 1)
        return ActivityList(tuple(sorted(page.entries, key=lambda entry: entry.id)), page.more)

    async def _newest(self, room: RoomView[State], page: _Page, recent: Sequence[Entry], older: bool) -> None:
        if any(page.full(entry) for entry in reversed(recent)) or not older:
            return
        floor = recent[0].id
        bound = min(page.wanted.before or floor, floor)
        reader = _Reader(room, page)
        place = await self._place(room.name, bound, reader)
        async with aclosing(reader.backwards(place)) as rows:
            async for row in rows:
                for entry in reversed(row.entries):
                    if entry.id < bound and page.full(entry, row.seq):
                        return

    async def _oldest(self, room: RoomView[State], page: _Page, recent: Sequence[Entry], older: bool) -> None:
        after = page.wanted.after
        if older and after < recent[0].id:
            bound = min(page.wanted.before or recent[0].id, recent[0].id)
            reader = _Reader(room, page)
            place = await self._place(room.name, after, reader)
            async with aclosing(reader.forwards(place)) as rows:
                async for row in rows:
                    for entry in row.entries:
                        if entry.id < bound and page.full(entry, row.seq):
                            return
                    if row.last_id >= bound:
                        break
        any(page.full(entry) for entry in recent)

    async def _place(self, room: str, id_: str, reader: _Reader) -> int:
        place = self._places.get((room, id_))
        if place is None:
            place = await reader.find(id_)
            self._keep(room, id_, place)
        return place

    def _keep(self, room: str, id_: str, place: int) -> None:
        self._places[room, id_] = place
        self._places.move_to_end((room, id_))
        if len(self._places) > _PLACES:
            self._places.popitem(last=False)
