"""Adapter layer: the event log in memory, for tests of what stands on it. Keeps nothing on disk."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator
from typing import Final

from .eventlog import Conflict, LogFull, LogMessage

MOST_BYTES: Final = (1 << 20) - 1024
"""Of one message: what JetStream takes by the usual configuration."""


class MemoryEventLog:
    def __init__(self) -> None:
        self._messages: dict[int, LogMessage] = {}
        self._rooms: dict[str, list[int]] = {}
        self._seq = 0
        self._first = 1

    async def append(self, room: str, payload: bytes, expected: int) -> int:
        if len(payload) > MOST_BYTES:
            raise LogFull(f"{len(payload)} bytes are more than one message may hold")
        if await self.last(room) != expected:
            raise Conflict(room)
        self._seq += 1
        self._messages[self._seq] = LogMessage(room, self._seq, payload)
        self._rooms.setdefault(room, []).append(self._seq)
        return self._seq

    async def read(self, room: str, after: int, limit: int = 256) -> list[LogMessage]:
        seqs = self._rooms.get(room, [])
        start = bisect_right(seqs, after)
        return [self._messages[seq] for seq in seqs[start : start + limit]]

    async def get(self, seq: int) -> LogMessage | None:
        return self._messages.get(seq)

    async def last(self, room: str) -> int:
        seqs = self._rooms.get(room)
        return seqs[-1] if seqs else 0

    async def first(self) -> int:
        return self._first

    async def heads(self) -> AsyncIterator[LogMessage]:
        for seq in sorted(seqs[-1] for seqs in self._rooms.values() if seqs):
            yield self._messages[seq]

    def forget(self, before: int) -> None:
        """Retention: drops the messages before that sequence."""
        for seq in range(self._first, before):
            message = self._messages.pop(seq, None)
            if message is not None:
                self._rooms[message.room].remove(seq)
        self._first = max(self._first, before)
