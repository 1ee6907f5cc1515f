"""Port layer: the append-only log of one service, a sequence of messages for each room. Its forms: JetStream and memory.

Both pass one contract suite (`tests/contract/test_eventlog.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol


class LogMessage(NamedTuple):
    room: str
    seq: int
    """Of the whole log; grows with each message, of any room."""
    payload: bytes


class Conflict(Exception):
    """The room's last sequence was not the expected one: somebody else has appended. Nothing was stored."""


class LogUnavailable(Exception):
    """No answer: an append may or may not have been stored; read the log to learn which."""


class LogFull(Exception):
    """The log refuses for good: too large a message, or no space. Nothing was stored."""


class EventLog(Protocol):
    async def append(self, room: str, payload: bytes, expected: int) -> int:
        """Stores one message if `expected` is the room's `last` sequence and returns its sequence.

        Returns only when it is on disk. Raises `Conflict`, `LogFull` or `LogUnavailable`.
        """
        ...

    async def read(self, room: str, after: int, limit: int = 256) -> list[LogMessage]:
        """The next messages of the room after that sequence, oldest first. Empty means: there are none, truly.

        Fewer than `limit` says nothing. Raises `LogUnavailable`, as do all methods below.
        """
        ...

    async def get(self, seq: int) -> LogMessage | None:
        """The message with that sequence; None when the log does not hold it."""
        ...

    async def last(self, room: str) -> int:
        """The sequence of the room's last message; 0 if the log holds none: none yet, or retention has taken them all."""
        ...

    async def first(self) -> int:
        """The oldest sequence that the log still holds, of any room; 1 for a new log."""
        ...

    def heads(self) -> AsyncIterator[LogMessage]:
        """The last message of every room, by ascending sequence. Raises `LogUnavailable`."""
        ...
