"""Shell layer: the canvas as a `Domain`: parameters in, ids drawn, the rest left to decider and projection."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from roundtable.common.decider import Recorded, RoomView
from roundtable.common.schema import canvas as schema
from roundtable.common.schema.envelope import decode_params
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage, Service, StoredEvent

from . import projection
from .decider import Clear, Command, Draw, Event, Limits, Redo, State, Undo, decider

ID_BYTES: Final = 9
"""Random bytes of an id that the client did not give: 12 characters, safe in an address."""


class CanvasDomain:
    """See `roundtable.common.decider.Domain`."""

    service: Service = "canvas"

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self.decider = decider(limits)

    def prepare(self, message: CommandMessage, now: int) -> Command:
        user, role = message.user, message.role
        match message.method:
            case "canvas.draw":
                drawn = decode_params(message.params, schema.Draw, "json")
                return Draw(user, role, tuple([_whole(operation, user) for operation in drawn.operations]))
            case "canvas.clear":
                return Clear(user, role, decode_params(message.params, schema.Clear, "json").scope)
            case "canvas.undo":
                return Undo(user, role, decode_params(message.params, schema.Undo, "json").user_id or user)
            case "canvas.redo":
                return Redo(user, role, decode_params(message.params, schema.Redo, "json").user_id or user)
            case method:
                raise Refusal("unknown_method", f"The canvas does not know `{method}`")

    def record(self, event: Event) -> Recorded:
        return projection.record(event)

    def recall(self, stored: StoredEvent) -> Event | None:
        return projection.recall(stored)

    def answer(self, state: State, message: CommandMessage, events: Sequence[Event]) -> Struct:
        return projection.answer(message, events)

    async def query(self, room: RoomView[State], message: CommandMessage) -> Struct:
        if message.method != "canvas.state":
            raise Refusal("unknown_method", f"The canvas does not know `{message.method}`")
        decode_params(message.params, schema.State, "json")
        return projection.canvas(room.state)

    def dump(self, state: State) -> Any:
        return projection.dump(state)

    def restore(self, dumped: Any) -> State:
        return projection.restore(dumped)

    def due(self, state: State, now: int) -> tuple[Sequence[Command], int | None]:
        """Nothing on a canvas happens by itself."""
        return (), None

    def occupied(self, state: State) -> bool | None:
        return None


def _whole(operation: schema.DrawOperation, user: str) -> schema.StoredOperation:
    return schema.StoredOperation(
        operation.type,
        operation.tool,
        operation.points,
        operation.color,
        operation.size,
        operation.user_id or user,
        operation.id or secrets.token_urlsafe(ID_BYTES),
    )
