"""Pure layer: positions in a log and a client's cursor over all three (RS1, ADR 0002). Knows no NATS and no clock."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final, NamedTuple

from .schema.log import SERVICES, Service

WHOLE: Final = 1 << 30
"""The event number of a position after all events of its message."""

_POSITION: Final = r"(0|[1-9][0-9]{0,18})(?:-(0|[1-9][0-9]{0,5}))?"
_POSITION_RE: Final = re.compile(_POSITION + r"\Z", re.ASCII)
_VECTOR: Final = rf"({_POSITION})\.({_POSITION})\.({_POSITION})\Z"
_VECTOR_RE: Final = re.compile(_VECTOR, re.ASCII)
_CURSOR_RE: Final = re.compile(rf"([0-9a-z]{{8}})\.{_VECTOR}", re.ASCII)


class Position(NamedTuple):
    """A place in one log: all before message `seq`, and of it the events up to number `event`. They compare as ordered.

    Written `SEQ` for a whole message and `SEQ-EVENT` within one.
    """

    seq: int
    event: int = WHOLE

    def __str__(self) -> str:
        return f"{self.seq}" if self.event >= WHOLE else f"{self.seq}-{self.event}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Raises ValueError for anything that `str` of a position is not."""
        match = _POSITION_RE.match(text)
        if match is None:
            raise ValueError("not a position")
        return cls(int(match[1]), WHOLE if match[2] is None else int(match[2]))

    @classmethod
    def of(cls, seq: int, event: int, events: int) -> Position:
        """The place after event number `event`, from 0, of a message that holds `events` of them."""
        return cls(seq) if event >= events - 1 else cls(seq, event)


START: Final = Position(0)


class Vector(NamedTuple):
    """A place in the three logs of one room, in the order of `SERVICES`. Written `CANVAS.PRESENCE.ACTIVITY`."""

    canvas: Position = START
    presence: Position = START
    activity: Position = START

    def __str__(self) -> str:
        return f"{self.canvas}.{self.presence}.{self.activity}"

    @classmethod
    def parse(cls, text: str) -> Vector:
        """Raises ValueError for anything that `str` of a vector is not."""
        match = _VECTOR_RE.match(text)
        if match is None:
            raise ValueError("not a vector")
        return cls(*(Position.parse(match[number]) for number in (1, 4, 7)))

    def at(self, service: Service) -> Position:
        return self[SERVICES.index(service)]

    def moved(self, service: Service, position: Position) -> Vector:
        """The same with that log's part further on; never back."""
        return self if position <= self.at(service) else self._replace(**{service: position})

    def covers(self, other: Vector) -> bool:
        return all(mine >= theirs for mine, theirs in zip(self, other, strict=True))


class Cursor(NamedTuple):
    """What a client brings back: `EPOCH.CANVAS.PRESENCE.ACTIVITY`, at most 90 characters, URL-safe, opaque to it."""

    epoch: str
    vector: Vector

    def __str__(self) -> str:
        return f"{self.epoch}.{self.vector}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Raises ValueError unless it is a cursor as we write them; whether it is still good is the relay's question."""
        match = _CURSOR_RE.match(text) if len(text) < 100 else None
        if match is None:
            raise ValueError("not a cursor")
        return cls(match[1], Vector(*(Position.parse(match[number]) for number in (2, 5, 8))))


def epoch_of(logs: tuple[str, ...], room: str) -> str:
    """The epoch of a room: 8 characters that change when any of the three logs is another one, or the room is."""
    return blake2b("\0".join((*logs, room)).encode(), digest_size=4).hexdigest()
