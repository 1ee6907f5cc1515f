"""Schema layer: `activity.*`: the seed's `Activity`, one `data` type for each activity type (section 7)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from .basics import Input, Milliseconds, Output, UserId

ActivityType = Literal[
    "user_joined", "user_left", "chat_message", "dice_roll", "turn_changed", "map_updated", "note_edited"
]
Visibility = Literal["public", "gm", "blind", "self"]
SERVER_ONLY: Final[frozenset[str]] = frozenset({"user_joined", "user_left"})

ActivityId = Annotated[str, Meta(min_length=1, max_length=64)]
ShortText = Annotated[str, Meta(max_length=200)]


class Post(Input, frozen=True):
    """`activity.post`. The shape of `data` depends on `type`: see `POST_DATA`."""

    type: ActivityType
    data: Raw
    to: Annotated[tuple[UserId, ...], Meta(min_length=1, max_length=100)] | UnsetType = UNSET
    """Makes a chat message a whisper."""
    visibility: Visibility | UnsetType = UNSET
    """Of a dice roll; public if left out."""


class ListQuery(Input, frozen=True):
    """`activity.list`: `before` and `after` are activity ids, exclusive. `limit` counts what the asker may see."""

    before: ActivityId | UnsetType = UNSET
    after: ActivityId | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    types: Annotated[tuple[ActivityType, ...], Meta(max_length=7)] | UnsetType = UNSET


class ChatData(Input, frozen=True):
    text: Annotated[str, Meta(min_length=1, max_length=4_000)]


class DiceRequest(Input, frozen=True):
    expression: Annotated[str, Meta(min_length=1, max_length=200)]
    label: ShortText | UnsetType = UNSET


class Die(Output, frozen=True, omit_defaults=False):
    sides: int
    value: int
    kept: bool


class DiceResult(Output, frozen=True):
    expression: str
    total: int
    text: str
    dice: tuple[Die, ...]
    label: str | UnsetType = UNSET


class TurnData(Input, frozen=True):
    current: Annotated[str, Meta(min_length=1, max_length=200)]
    round: Annotated[int, Meta(ge=0, le=1_000_000)] | UnsetType = UNSET
    order: Annotated[tuple[ShortText, ...], Meta(max_length=200)] | UnsetType = UNSET


class MapData(Struct, frozen=True, rename="camel"):
    """`{mapId, …}`: what else stands there is kept as it is. Validates only; the object itself is stored."""

    map_id: Annotated[str, Meta(min_length=1, max_length=200)]


class NoteData(Input, frozen=True):
    note_id: Annotated[str, Meta(min_length=1, max_length=200)]
    title: ShortText | UnsetType = UNSET
    summary: Annotated[str, Meta(max_length=4_000)] | UnsetType = UNSET


POST_DATA: Final[dict[str, type[Struct]]] = {
    "chat_message": ChatData,
    "dice_roll": DiceRequest,
    "turn_changed": TurnData,
    "map_updated": MapData,
    "note_edited": NoteData,
}


class Activity(Output, frozen=True):
    """The seed's `Activity`. `to` and `visibility` stand only on one that not all may see, for those who may."""

    id: str
    """Sorts by time."""
    type: ActivityType
    user_id: str
    username: str
    data: Any
    timestamp: Milliseconds
    to: tuple[str, ...] | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET


class Derive(Input, frozen=True):
    """`activity.derive`: from the service itself: what another log's event means for the feed, once (by `source`)."""

    source: str
    """`LOG:SEQ:INDEX` of the event that caused it."""
    type: ActivityType
    user_id: str
    username: str
    data: dict[str, Any]
    timestamp: Milliseconds


class ActivityList(Output, frozen=True, omit_defaults=False):
    """Answer of `activity.list`, oldest first. `more`: there are further ones that way."""

    activities: tuple[Activity, ...]
    more: bool


class Snapshot(Output, frozen=True, omit_defaults=False):
    """Event `activity.snapshot`: the latest 50 that the client may see, oldest first (CO8)."""

    activities: tuple[Activity, ...]
    more: bool
