"""Pure layer: what stored messages of presence and canvas mean for the feed (AC8). Knows no NATS and no state."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from roundtable.common.eventlog import LogMessage
from roundtable.common.schema.activity import ActivityType, Derive
from roundtable.common.schema.canvas import Cleared
from roundtable.common.schema.envelope import to_json
from roundtable.common.schema.log import CommandMessage, Service, StoredEvent, StoredMessage
from roundtable.common.schema.presence import ConnectionOpened, PresenceData

METHOD: Final = "activity.derive"

_HINTS: Final[dict[Service, tuple[bytes, ...]]] = {
    "presence": (b'"joined"', b'"offline"'),
    "canvas": (b'"canvas.clear"',),
}
"""A message that holds none of them means nothing here: most are strokes, and need not be decoded."""

_UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)

_message = msgspec.json.Decoder(StoredMessage).decode
_opened = msgspec.json.Decoder(ConnectionOpened).decode
_presence = msgspec.json.Decoder(PresenceData).decode
_cleared = msgspec.json.Decoder(Cleared).decode


class Derived(NamedTuple):
    commands: list[CommandMessage]
    unreadable: int
    """Events that should have meant something, but could not be read."""


def derive(service: Service, log: str, message: LogMessage) -> Derived:
    """The commands for the activities that a stored message causes, in its order.

    `log` names this incarnation of the service's log; with sequence and event number it is a command's id and source.
    """
    if not any(hint in message.payload for hint in _HINTS[service]):
        return Derived([], 0)
    try:
        events = _message(message.payload).events
    except _UNREADABLE:
        return Derived([], 1)
    commands, unreadable = [], 0
    for number, event in enumerate(events):
        try:
            meaning = _meaning(message.room, event)
        except _UNREADABLE:
            unreadable += 1
            continue
        if meaning is not None:
            type_, user, username, data = meaning
            source = f"{log}:{message.seq}:{number}"
            params = Derive(source, type_, user, username, data, event.timestamp)
            commands.append(CommandMessage(METHOD, to_json(params), user, username, "gm", source))
    return Derived(commands, unreadable)


def _meaning(room: str, event: StoredEvent) -> tuple[ActivityType, str, str, dict[str, object]] | None:
    """Type, user, name (empty: the feed may know it) and data; None for what means nothing here."""
    match event.method:
        case "presence.open":
            opened = _opened(event.data)
            return ("user_joined", opened.user_id, opened.username, {}) if opened.joined else None
        case "presence.update":
            person = _presence(event.data)
            return ("user_left", person.user_id, person.username, {}) if person.status == "offline" else None
        case "canvas.clear":
            clear = _cleared(event.data)
            data = {"mapId": room, "change": "cleared", "cleared": len(clear.cleared)}
            return ("map_updated", clear.user_id, "", data) if clear.scope == "all" else None
        case _:
            return None
