"""Schema layer: the table of methods: who answers each, with which types, for which roles, counted or not. Pure."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from . import activity, canvas, presence, session
from .basics import ROLES, Role
from .log import Service

Kind = Literal["command", "query", "event"]
"""A command changes a room and may be repeated by its id; a query does not; an event is ephemeral and unanswered."""


class Method(Struct, frozen=True):
    """One row. `params`, `answer` and `event` are the types of a request's `params`, its answer's and event's `data`."""

    name: str
    kind: Kind
    params: type[Struct]
    service: Service | Literal["gateway"]
    answer: type[Struct] | None = None
    event: type[Struct] | None = None
    roles: tuple[Role, ...] = ROLES
    counted: bool = True
    """Counts for the rate limit (LI2)."""
    cursor: bool = False
    """Its answer carries a cursor, which the gateway adds."""
    internal: bool = False
    """Between gateways and services only; to a client it does not exist."""


_PEOPLE: Final[tuple[Role, ...]] = ("gm", "player")

_ROWS: Final = (
    Method("heartbeat", "query", session.Heartbeat, "gateway", session.HeartbeatAnswer, counted=False),
    Method("auth.login", "query", session.Login, "gateway", session.LoggedIn, counted=False),
    Method("auth.refresh", "query", session.Login, "gateway", session.LoggedIn, counted=False),
    Method(
        "canvas.draw", "command", canvas.Draw, "canvas", canvas.DrawAnswer, canvas.Drawn, _PEOPLE, cursor=True
    ),
    Method(
        "canvas.clear",
        "command",
        canvas.Clear,
        "canvas",
        canvas.ClearAnswer,
        canvas.Cleared,
        _PEOPLE,
        cursor=True,
    ),
    Method(
        "canvas.undo",
        "command",
        canvas.Undo,
        "canvas",
        canvas.UndoAnswer,
        canvas.Undone,
        _PEOPLE,
        cursor=True,
    ),
    Method(
        "canvas.redo",
        "command",
        canvas.Redo,
        "canvas",
        canvas.RedoAnswer,
        canvas.Redone,
        _PEOPLE,
        cursor=True,
    ),
    Method("canvas.state", "query", canvas.State, "canvas", canvas.StateAnswer, cursor=True),
    Method(
        "canvas.preview", "event", canvas.Preview, "gateway", None, canvas.Previews, _PEOPLE, counted=False
    ),
    Method(
        "presence.update",
        "command",
        presence.Update,
        "presence",
        presence.PresenceData,
        presence.PresenceData,
    ),
    Method("presence.list", "query", presence.List, "presence", presence.PresenceList),
    Method("presence.cursor", "event", presence.MoveCursor, "gateway", None, presence.Cursors, counted=False),
    Method("presence.open", "command", presence.Open, "presence", presence.PresenceData, internal=True),
    Method("presence.close", "command", presence.Close, "presence", internal=True),
    Method("presence.touch", "command", presence.Touch, "presence", internal=True),
    Method(
        "activity.post", "command", activity.Post, "activity", activity.Activity, activity.Activity, _PEOPLE
    ),
    Method("activity.list", "query", activity.ListQuery, "activity", activity.ActivityList),
    Method("activity.derive", "command", activity.Derive, "activity", activity.Activity, internal=True),
)

METHODS: Final[dict[str, Method]] = {row.name: row for row in _ROWS}

SERVER_EVENTS: Final[dict[str, type[Struct]]] = {
    "session.welcome": session.Welcome,
    "session.cursor": session.CursorMoved,
    "session.token_expiring": session.TokenExpiring,
    "heartbeat": session.HeartbeatAnswer,
    "canvas.snapshot": canvas.Snapshot,
    "presence.snapshot": presence.Snapshot,
    "activity.snapshot": activity.Snapshot,
    **{row.name: row.event for row in _ROWS if row.event is not None},
}
"""Every event that a client may receive, with the type of its `data`."""
