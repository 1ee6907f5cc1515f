"""Adapter layer: the event log in memory, for tests of what stands on it. Keeps nothing on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import islice

from .eventlog import Conflict, LogMessage


class MemoryEventLog:
    def __init__(self) -> None:
        self._messages: dict[int, LogMessage] = {}
        self._rooms: dict[str, list[int]] = {}
        self._seq = 0
        self._first = 1

    async def append(self, room: str, payload: bytes, expected: int) -> int:
        if await self.last(room) != expected:
            raise Conflict(room)
        self._seq += 1
        self._messages[self._seq] = LogMessage(room, self._seq, payload)
        self._rooms.setdefault(room, []).append(self._seq)
        return self._seq

    async def read(self, room: str, after: int, limit: int = 256) -> list[LogMessage]:
        later = (seq for seq in self._rooms.get(room, ()) if seq > after and seq in self._messages)
        return [self._messages[seq] for seq in islice(later, limit)]

    async def get(self, seq: int) -> LogMessage | None:
        return self._messages.get(seq)

    async def last(self, room: str) -> int:
        seqs = self._rooms.get(room)
        return seqs[-1] if seqs else 0

    async def first(self) -> int:
        return self._first

    async def heads(self) -> AsyncIterator[LogMessage]:
        for seqs in tuple(self._rooms.values()):
            if seqs and seqs[-1] in self._messages:
                yield self._messages[seqs[-1]]

    def forget(self, before: int) -> None:
        """Retention: drops the messages before that sequence."""
        for seq in range(self._first, before):
            self._messages.pop(seq, None)
        self._first = max(self._first, before)
