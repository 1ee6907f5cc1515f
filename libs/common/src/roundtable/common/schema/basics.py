"""Schema layer: the small types that all messages share: names, numbers, texts, points. Pure."""

from __future__ import annotations

import re
import unicodedata
from math import isfinite
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

Role = Literal["gm", "player", "spectator"]
ROLES: Final[tuple[Role, ...]] = ("gm", "player", "spectator")

ROOM_PATTERN: Final = r"^[A-Za-z0-9_-]{1,64}\Z"
_ROOM = re.compile(ROOM_PATTERN)

UserId = Annotated[str, Meta(min_length=1, max_length=64, description="Who: the token's `sub` (AU1).")]
RequestId = Annotated[
    str, Meta(min_length=1, max_length=64, description="A request's id, given by the client (EN2).")
]
OperationId = Annotated[str, Meta(min_length=1, max_length=64, description="Unique in its room (CV3).")]
Milliseconds = Annotated[int, Meta(description="Milliseconds since the Unix epoch.")]
Coordinate = Annotated[float, Meta(ge=-1_000_000, le=1_000_000, description="Map units.")]


class Input(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    """Base of all that comes from a client: a field that is not in the schema is refused, by its path (EN3)."""


class Output(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Base of all that the server tells, and so of what the log keeps: a reader skips fields that it does not know."""


class Point(Struct, frozen=True, forbid_unknown_fields=True):
    """A place on the map. Finite: MessagePack could carry a NaN past the bounds."""

    x: Coordinate
    y: Coordinate

    def __post_init__(self) -> None:
        if not isfinite(self.x + self.y):  # both are within bounds, or NaN
            raise ValueError("Expected finite coordinates")


def is_room(name: str) -> bool:
    return _ROOM.match(name) is not None


_CONTROL: Final = dict.fromkeys((*range(9), 11, 12, *range(13, 32), *range(127, 160)))


def clean_text(text: str) -> str:
    """NFC without control characters other than newline and tab (protocol, section 7).

    A carriage return goes too, so `\\r\\n` becomes a newline. Lone surrogates cannot be: the decoders refuse them.
    """
    return unicodedata.normalize("NFC", text.translate(_CONTROL))


def clean_name(name: str, fallback: str) -> str:
    """One line of at most 64 characters for a person's name; `fallback` when nothing visible is left."""
    line = " ".join(clean_text(name).split())[:64].strip()
    return line or fallback
