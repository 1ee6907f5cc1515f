"""Service layer: the activity domain as the shell wants it. Here alone are randomness and the reading of old activities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from secrets import SystemRandom
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from roundtable.common.decider import Decider, Recorded, RoomView
from roundtable.common.schema import activity as schema
from roundtable.common.schema.basics import clean_text
from roundtable.common.schema.envelope import decode_params, to_json
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import CommandMessage, Service, StoredEvent

from . import content, dice, projection
from .decider import DECIDER, Command, Derive, Post, Posted, State, permit
from .history import History
from .projection import Wanted

_SOURCE: Final = re.compile(r"[a-z0-9@._-]{1,40}:[0-9]{1,19}:[0-9]{1,6}\Z", re.ASCII)


class ActivityDomain:
    """Implements `Domain`."""

    service: Service = "activity"
    decider: Decider[State, Command, Posted] = DECIDER

    def __init__(self, draw: dice.Draw | None = None) -> None:
        """`draw` throws one die; by default with the system's own randomness."""
        random = SystemRandom()
        self._draw: dice.Draw = draw or (lambda sides: random.randrange(sides) + 1)
        self._history = History()

    def prepare(self, message: CommandMessage, now: int) -> Command:
        if message.method == "activity.derive":
            return _derive(message)
        post = decode_params(message.params, schema.Post, "json")
        permit(message.role, post.type)
        content.check_audience(post)
        data = content.clean_data(post.type, post.data)
        if post.type == "dice_roll":
            data = self._roll(msgspec.json.decode(data, type=schema.DiceRequest))
        return Post(
            post.type, data, message.user, message.username, message.role, now, post.to, post.visibility
        )

    def _roll(self, asked: schema.DiceRequest) -> msgspec.Raw:
        try:
            return to_json(dice.roll(dice.parse(asked.expression), self._draw, asked.label or UNSET))
        except Refusal as refusal:
            text = f"{refusal.message} - at `{content.PATH}.expression`"
            raise Refusal(refusal.reason, text) from None

    def record(self, event: Posted) -> Recorded:
        return projection.record(event)

    def recall(self, stored: StoredEvent) -> Posted | None:
        return projection.recall(stored)

    def answer(self, state: State, message: CommandMessage, events: Sequence[Posted]) -> Struct | None:
        return projection.answer(message, events)

    async def query(self, room: RoomView[State], message: CommandMessage) -> schema.ActivityList:
        asked = decode_params(message.params, schema.ListQuery, "json")
        if asked.types == ():
            return schema.ActivityList((), False)
        wanted = Wanted(message.user, message.role, asked.before or "", asked.after or "", asked.types)
        return await self._history.page(room, wanted, asked.limit)

    def dump(self, state: State) -> Any:
        return projection.dump(state)

    def restore(self, dumped: Any) -> State:
        return projection.restore(dumped)

    def due(self, state: State, now: int) -> tuple[Sequence[Command], int | None]:
        return (), None

    def occupied(self, state: State) -> bool | None:
        return None


def _derive(message: CommandMessage) -> Derive:
    params = decode_params(message.params, schema.Derive, "json")
    if not _SOURCE.match(params.source) or params.source != message.id:
        # The log keeps the command's id alone, and the source is read from it again.
        raise Refusal(
            "invalid_data", "The source is not `LOG:SEQ:INDEX`, or not the command's id - at `params.source`"
        )
    data = to_json(params.data)
    return Derive(
        params.source, params.type, data, params.user_id, clean_text(params.username), params.timestamp
    )
