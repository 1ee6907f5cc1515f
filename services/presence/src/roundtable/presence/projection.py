"""Pure layer: presence as log, clients and snapshots see it: facts to stored events and back, answers, lists, dumps.

Decides nothing and changes no state; knows no NATS and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, get_args

import msgspec
from msgspec import Struct

from roundtable.common.decider import Recorded
from roundtable.common.schema.log import NOBODY, CommandMessage, StoredEvent
from roundtable.common.schema.presence import (
    AwayNoticed,
    ConnectionClosed,
    ConnectionOpened,
    DoingNow,
    PresenceData,
    PresenceList,
)
from roundtable.common.schema.session import Transport

from .decider import Connection, Fact, Hearing, State, User, told

SHOWN: Final = "presence.update"
"""The one event that clients are told."""

_METHODS: Final[dict[type[Fact], str]] = {
    PresenceData: SHOWN,
    ConnectionOpened: "presence.open",
    ConnectionClosed: "presence.close",
    AwayNoticed: "presence.away",
}
_DECODERS: Final = {method: msgspec.json.Decoder(kind) for kind, method in _METHODS.items()}

_VERSION: Final = 1
_TRANSPORTS: Final[tuple[Transport, ...]] = get_args(Transport)
_ONLINE, _AWAY, _AUTO_AWAY = range(3)


def record(fact: Fact) -> Recorded:
    return Recorded(_METHODS[type(fact)], fact, None if isinstance(fact, PresenceData) else NOBODY)


def recall(stored: StoredEvent) -> Fact | None:
    decoder = _DECODERS.get(stored.method)
    if decoder is None:
        return None
    try:
        return decoder.decode(stored.data)
    except (msgspec.MsgspecError, RecursionError):
        return None


def answer(state: State, message: CommandMessage, facts: Sequence[Fact]) -> Struct | None:
    """Who asks, as all see them now; one who has no connection is offline, and seen by this very request."""
    if message.method not in ("presence.update", "presence.open"):
        return None
    for fact in reversed(facts):
        if isinstance(fact, PresenceData) and fact.user_id == message.user:
            return fact
    if message.user in state.users:
        return told(state, message.user)
    return PresenceData(message.user, "offline", state.hearing.clock, message.username or message.user)


def presence_list(state: State) -> PresenceList:
    return PresenceList(tuple(told(state, user_id) for user_id in state.users))


def dump(state: State) -> Any:
    """`[version, [gateway], [user], {leaving: since}, {heard: ms}]`; a connection names gateway and transport by number.

    Not since when this replica listens: whoever restores it does not, until told so.
    """
    numbers = {gateway: number for number, gateway in enumerate(state.gateways)}
    users = [_dump_user(state, user_id, numbers) for user_id in state.users]
    return [_VERSION, list(numbers), users, dict(state.leaving), dict(state.hearing.heard)]


def _dump_user(state: State, user_id: str, numbers: dict[str, int]) -> list[Any]:
    user = state.users[user_id]
    status = _ONLINE if user.status == "online" else _AUTO_AWAY if user.auto_away else _AWAY
    activity = None if user.activity is None else msgspec.to_builtins(user.activity)
    connections = [
        (name, numbers[gateway], _TRANSPORTS.index(transport))
        for name, (gateway, transport) in user.connections.items()
    ]
    return [user_id, user.username, status, activity, user.last_seen, connections]


def restore(dumped: Any) -> State:
    """Raises ValueError for a dump of another version."""
    version, gateways, users, leaving, heard = dumped
    if version != _VERSION:
        raise ValueError(f"a snapshot of version {version}")
    state = State(leaving=leaving, gateways=dict.fromkeys(gateways, 0), hearing=Hearing(heard=heard))
    for user_id, username, status, activity, last_seen, connections in users:
        user = state.users[user_id] = User(
            username,
            last_seen,
            "online" if status == _ONLINE else "away",
            None if activity is None else msgspec.convert(activity, DoingNow),
            status == _AUTO_AWAY,
            {
                name: Connection(gateways[number], _TRANSPORTS[transport])
                for name, number, transport in connections
            },
        )
        for connection in user.connections.values():
            state.gateways[connection.gateway] += 1
    return state
