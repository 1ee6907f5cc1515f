"""Schema layer: what travels between gateway, services and logs. Strict nowhere: a reader survives newer writers."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from .basics import Role
from .errors import ErrorBody

Service = Literal["canvas", "presence", "activity"]
SERVICES: Final[tuple[Service, ...]] = ("canvas", "presence", "activity")
"""In the order of a cursor's parts."""


class Audience(Struct, frozen=True, omit_defaults=True):
    """Who may see an event: these users and, with `gm`, whoever is gm. An empty one is nobody: the fact is internal."""

    users: tuple[str, ...] = ()
    gm: bool = False

    def admits(self, user_id: str, role: Role) -> bool:
        return user_id in self.users or (self.gm and role == "gm")


NOBODY: Final = Audience()

UNCHANGED: Final = "session.cursor"
"""The method of an event that says only that a command was done, and changed nothing; for nobody's eyes."""


class StoredEvent(Struct, frozen=True, omit_defaults=True):
    """One event in a log, in JSON; `data` is byte for byte what clients are told."""

    method: str
    """The wire name: `canvas.draw`."""
    data: Raw
    timestamp: int
    user: str = ""
    """Whose command caused it."""
    command: str = ""
    """The command's id as its client gave it; events of one command stand next to each other. Empty: no repeats."""
    cause: str = ""
    """The command's method, where it is not `method`."""
    audience: Audience | None = None
    """None: everybody in the room."""
    seen: str = ""
    """Where the gateway was in the room's logs when it asked: a repeated command's answer has the first one's cursor."""


class StoredMessage(Struct, frozen=True, omit_defaults=True):
    """One message of a stream: all events of one batch of commands of one room. Its index in `events` is part of a cursor."""

    events: tuple[StoredEvent, ...]
    occupied: bool | UnsetType = UNSET
    """Presence only: somebody is still there after it. The last message of each room makes the directory."""
    version: int = 1


class CommandMessage(Struct, frozen=True, omit_defaults=True):
    """A command or query from a gateway to a service. `id` is the client's request id; empty when repeats do not matter."""

    method: str
    params: Raw
    user: str
    username: str
    role: Role
    id: str = ""
    connection: str = ""
    seen: str = ""
    """Where the gateway is in the room's three logs, `CANVAS.PRESENCE.ACTIVITY`; for commands whose answer has a cursor."""


class ReplyMessage(Struct, frozen=True, omit_defaults=True):
    """The answer: `data`, or `error`. `position` is the log's place at which it is true: `SEQ` or `SEQ-INDEX`."""

    position: str = "0"
    data: Raw | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET
    seen: str = ""
    """The command's own, or that of the first one when it was a repeat."""
