"""Shell layer: presence as the command handler wants it. Delegates to `decider` and `projection`; holds no state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType, structs

from roundtable.common.decider import Decider, Recorded, RoomView
from roundtable.common.schema import presence as wire
from roundtable.common.schema.basics import clean_text
from roundtable.common.schema.envelope import decode_params
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage, Service, StoredEvent

from . import projection
from .decider import (
    USUAL,
    CloseConnection,
    Command,
    Fact,
    Limits,
    NoteSigns,
    OpenConnection,
    State,
    UpdatePresence,
    decider,
    due,
)


class PresenceDomain:
    """Implements `Domain`."""

    service: Service = "presence"

    def __init__(self, limits: Limits = USUAL) -> None:
        self.limits: Final = limits
        self.decider: Decider[State, Command, Fact] = decider(limits)

    def prepare(self, message: CommandMessage, now: int) -> Command:
        user = message.user
        match message.method:
            case "presence.update":
                update = decode_params(message.params, wire.Update, "json")
                return UpdatePresence(user, now, update.status, _cleaned(update.activity))
            case "presence.open":
                opened = decode_params(message.params, wire.Open, "json")
                name = message.username or user
                return OpenConnection(user, name, opened.connection_id, opened.gateway, opened.transport, now)
            case "presence.close":
                closed = decode_params(message.params, wire.Close, "json")
                return CloseConnection(user, closed.connection_id, closed.gateway, now)
            case "presence.touch":
                return NoteSigns(decode_params(message.params, wire.Touch, "json").seen, now)
            case method:
                raise Refusal("unknown_method", f"Presence does not know `{method}`")

    def record(self, event: Fact) -> Recorded:
        return projection.record(event)

    def recall(self, stored: StoredEvent) -> Fact | None:
        return projection.recall(stored)

    def answer(self, state: State, message: CommandMessage, events: Sequence[Fact]) -> Struct | None:
        return projection.answer(state, message, events)

    async def query(self, room: RoomView[State], message: CommandMessage) -> Struct:
        if message.method != "presence.list":
            raise Refusal("unknown_method", f"Presence does not know `{message.method}`")
        decode_params(message.params, wire.List, "json")
        return projection.presence_list(room.state)

    def dump(self, state: State) -> Any:
        return projection.dump(state)

    def restore(self, dumped: Any) -> State:
        return projection.restore(dumped)

    def due(self, state: State, now: int) -> tuple[Sequence[Command], int | None]:
        return due(state, now, self.limits)

    def occupied(self, state: State) -> bool:
        return bool(state.users)


def _cleaned(activity: wire.DoingNow | UnsetType | None) -> wire.DoingNow | UnsetType | None:
    if activity is None or activity is UNSET or activity.location is UNSET:
        return activity
    return structs.replace(activity, location=clean_text(activity.location))
