"""Pure layer: the recent events of a live room, for usual reconnects, and the events of several logs in one order.

Knows no clock and no I/O. Invariant of the ring: every event after its floor is in it, in the order in which it was told.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from typing import Final

from roundtable.common.cursor import Vector

from .batch import Entry


class Ring:
    """At most so many events, and so many of their bytes."""

    def __init__(self, events: int, size: int) -> None:
        self._events: Final = events
        self._size: Final = size
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._floor = Vector()

    def begin(self, vector: Vector) -> None:
        """Nothing before that place will be in it."""
        self._floor = vector

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._bytes += entry.size
        while self._entries and (len(self._entries) > self._events or self._bytes > self._size):
            oldest = self._entries.popleft()
            self._bytes -= oldest.size
            self._floor = self._floor.moved(oldest.service, oldest.position)

    def reaches(self, vector: Vector) -> bool:
        """Whether it holds all that came after that place."""
        return vector.covers(self._floor)

    def after(self, vector: Vector) -> list[Entry]:
        """What came after a place that it reaches."""
        return [entry for entry in self._entries if entry.position > vector.at(entry.service)]


def interleaved(logs: Sequence[Sequence[Entry]], limit: int) -> list[Entry]:
    """The logs' entries by their times, each log in its own order whatever its times say.

    Of a log that was cut at `limit` we do not know what follows, so nothing later than its end is taken from the others.
    """
    timed: list[list[tuple[int, Entry]]] = []
    ends: list[int] = []
    for entries in logs:
        latest, row = 0, []
        for entry in entries:
            latest = max(latest, entry.event.timestamp)  # two replicas' clocks may differ
            row.append((latest, entry))
        timed.append(row)
        if len(entries) >= limit:
            ends.append(latest)
    end = min(ends, default=None)
    merged = heapq.merge(*timed, key=lambda pair: pair[0])
    return [entry for at, entry in merged if end is None or at <= end]
