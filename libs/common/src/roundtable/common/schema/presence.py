"""Schema layer: `presence.*`: the seed's `PresenceData`, parameters, answers, events and log-only facts (section 6)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from .basics import Input, Milliseconds, Output, Point
from .session import Transport

Status = Literal["online", "away", "offline"]


class DoingNow(Input, frozen=True):
    """The `activity` of `PresenceData`: what somebody is doing."""

    type: Literal["typing", "drawing", "viewing"]
    location: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET


class Update(Input, frozen=True):
    """`presence.update`: what is left out stays as it is; `activity: null` ends it."""

    status: Literal["online", "away"] | UnsetType = UNSET
    activity: DoingNow | UnsetType | None = UNSET


class MoveCursor(Point, frozen=True, forbid_unknown_fields=True):
    """`presence.cursor`: a client event."""


class List(Input, frozen=True):
    """`presence.list`: takes no parameters."""


class PresenceData(Output, frozen=True):
    """The seed's `PresenceData`, and `username`, without which a list of who is here could show ids alone.

    As an event (`presence.update`) it is one user's change. `cursor` is ephemeral: added by the gateway, never stored.
    """

    user_id: str
    status: Status
    last_seen: Milliseconds
    username: str
    activity: DoingNow | UnsetType = UNSET
    cursor: Point | UnsetType = UNSET


class PresenceList(Output, frozen=True, omit_defaults=False):
    """Answer of `presence.list`: those not offline."""

    presence: tuple[PresenceData, ...]


class Snapshot(Output, frozen=True, omit_defaults=False):
    """Event `presence.snapshot` (CO8)."""

    presence: tuple[PresenceData, ...]
    more: bool


class CursorShown(Output, frozen=True):
    user_id: str
    x: float
    y: float


class Cursors(Output, frozen=True):
    """Event `presence.cursor`, merged for each room and tick; never stored."""

    cursors: tuple[CursorShown, ...]


# Between gateways and the presence service; the facts among them are in the log, but no client sees them.


class Open(Input, frozen=True):
    """`presence.open`: a connection was opened, or moved to the gateway that now serves its polls."""

    connection_id: str
    gateway: str
    """The gateway's lease: names one start of one instance."""
    transport: Transport


class Close(Input, frozen=True):
    """`presence.close`: a connection ended at that gateway; nothing happens if it has moved to another since."""

    connection_id: str
    gateway: str


class Touch(Input, frozen=True):
    """`presence.touch`: signs of life since the last one, user id to ms. Never stored; it may end an automatic `away`."""

    seen: dict[str, Milliseconds]


class ConnectionOpened(Output, frozen=True):
    """Fact, not told to clients: this user has this connection, at this gateway. `joined`: it is the user's first."""

    connection_id: str
    user_id: str
    username: str
    gateway: str
    transport: Transport
    at: Milliseconds
    joined: bool = False


class ConnectionClosed(Output, frozen=True):
    """Fact, not told to clients: this connection is gone."""

    connection_id: str
    user_id: str
    at: Milliseconds


class AwayNoticed(Output, frozen=True):
    """Fact, not told to clients: the `away` told in the same message came by itself, so a sign of life ends it (PR3)."""

    user_id: str
