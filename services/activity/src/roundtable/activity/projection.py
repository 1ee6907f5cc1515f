"""Pure layer: the feed's facts as log and clients see them, who may see which, and the state as a snapshot. Knows no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from roundtable.common.decider import Recorded
from roundtable.common.schema.activity import Activity, ActivityType, DiceRequest
from roundtable.common.schema.basics import Role
from roundtable.common.schema.envelope import to_json
from roundtable.common.schema.log import Audience, CommandMessage, StoredEvent

from .decider import Entry, Posted, State

EVENT: Final = "activity.post"
"""Posts and derived activities are told by one name."""

_decode_entry = msgspec.json.Decoder(Entry).decode
_UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


def audience_of(activity: Activity) -> Audience | None:
    """Who may see it; None: everybody. The one place where that is decided: log, list and snapshot all ask here."""
    if activity.to is not UNSET:
        return Audience(tuple(dict.fromkeys((activity.user_id, *activity.to))))
    match activity.visibility:
        case "gm":
            return Audience((activity.user_id,), gm=True)
        case "blind":
            return Audience((), gm=True)
        case "self":
            return Audience((activity.user_id,))
        case _:
            return None


def may_see(activity: Activity, user: str, role: Role) -> bool:
    audience = audience_of(activity)
    return audience is None or audience.admits(user, role)


class Wanted(Struct, frozen=True):
    """What of the feed an asker wants, and may see. `before` and `after` are exclusive; an empty one sets no bound."""

    user: str
    role: Role
    before: str = ""
    after: str = ""
    types: tuple[ActivityType, ...] | UnsetType = UNSET

    def admits(self, activity: Activity) -> bool:
        return (
            activity.id > self.after
            and (not self.before or activity.id < self.before)
            and (self.types is UNSET or activity.type in self.types)
            and may_see(activity, self.user, self.role)
        )


def record(event: Posted) -> Recorded:
    return Recorded(EVENT, event.activity, audience_of(event.activity))


def recall(stored: StoredEvent) -> Posted | None:
    """None for an event of a newer version, or one that cannot be read."""
    if stored.method != EVENT:
        return None
    try:
        entry = _decode_entry(stored.data)
    except _UNREADABLE:
        return None
    # Its own copy: a view would keep the whole stored message in memory.
    entry = msgspec.structs.replace(entry, data=entry.data.copy())
    return Posted(entry, stored.command if stored.cause == "activity.derive" else "")


def answer(message: CommandMessage, events: Sequence[Posted]) -> Struct | None:
    """The activity, for who posted it; of a blind roll only what they asked for. None: a source that was derived before."""
    if not events:
        return None
    activity = events[0].activity
    if activity.visibility == "blind" and message.role != "gm":
        asked = msgspec.json.decode(activity.data, type=_Asked)
        return msgspec.structs.replace(activity, data=to_json(asked))
    return activity


class _Asked(DiceRequest, frozen=True, forbid_unknown_fields=False):
    """What of a roll its roller knows anyway."""


def dump(state: State) -> Any:
    recent = [bytes(to_json(entry)) for entry in state.recent]
    return [state.total, state.last_id, state.reached, state.names, recent]


def restore(dumped: Any) -> State:
    """Raises msgspec or type errors for what `dump` has not made; the shell then replays the log."""
    total, last_id, reached, names, recent = dumped
    entries = deque(_decode_entry(entry) for entry in recent)
    return State(
        recent=entries,
        recent_bytes=sum(entry.size for entry in entries),
        total=total,
        last_id=last_id,
        reached={log: (seq, index) for log, (seq, index) in reached.items()},
        names=dict(names),
    )
