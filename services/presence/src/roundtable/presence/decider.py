"""Pure layer: who is in a room: what a command changes (`decide`), what a fact means (`evolve`), what time brings (`due`).

Knows no NATS, no clock and no other room. Two kinds of knowledge live in a `State`, and they are kept apart:

- **Facts** (`users`, `leaving`, `gateways`): folded from the log, the same on every replica.
- **Hearsay** (`hearing`): signs of life that are too frequent to store. Only the replica to which a room's commands go hears
  them; the log holds none, and a snapshot only those until then. They date a `lastSeen`, and they are what an automatic away
  is decided on; nothing else depends on them.

So silence is only evidence for whoever was listening. A replica starts with `since=None` and declares nobody away; the one
that owns the room is told to `listen`, and from then on counts silence from that moment at the earliest: somebody who gave a
sign just before is never sent away too soon, and may after a takeover be sent away later. Gateways report signs of life
in intervals, so one of these must pass before silence counts as complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, Literal, NamedTuple, assert_never

from msgspec import UNSET, Struct, UnsetType, field

from roundtable.common.decider import Decider
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.presence import (
    AwayNoticed,
    ConnectionClosed,
    ConnectionOpened,
    DoingNow,
    PresenceData,
)
from roundtable.common.schema.session import Transport

MOST_FACTS: Final = 1_000
"""About as many facts one command may cause, so that they fit into one message of the log. The rest is asked for again."""


class Limits(Struct, frozen=True):
    """Times in milliseconds, and how much one room holds."""

    grace: int = 5_000
    """Between the end of a last connection and the telling of it (PR1)."""
    away_after: int = 300_000
    touch_interval: int = 20_000
    """At most so long after it a sign of life is reported; gateways do it every 15 seconds."""
    users: int = 5_000
    connections: int = 10_000

    @property
    def silence(self) -> int:
        """After so long without a report, nothing was done for at least `away_after`."""
        return self.away_after + self.touch_interval


USUAL: Final = Limits()


class OpenConnection(Struct, frozen=True):
    user_id: str
    username: str
    connection_id: str
    gateway: str
    transport: Transport
    at: int


class CloseConnection(Struct, frozen=True):
    user_id: str
    connection_id: str
    gateway: str
    at: int


class UpdatePresence(Struct, frozen=True):
    user_id: str
    at: int
    status: Literal["online", "away"] | UnsetType = UNSET
    activity: DoingNow | UnsetType | None = UNSET


class NoteSigns(Struct, frozen=True):
    """Signs of life that a gateway has seen, user id to ms."""

    seen: dict[str, int]
    at: int


class DropGateways(Struct, frozen=True):
    """These gateways are dead. To be repeated until `State.gateways` names none of them."""

    dead: frozenset[str]
    at: int


class PassTime(Struct, frozen=True):
    """Let what is due by then happen."""

    at: int


Command = OpenConnection | CloseConnection | UpdatePresence | NoteSigns | DropGateways | PassTime
Fact = PresenceData | ConnectionOpened | ConnectionClosed | AwayNoticed


class Connection(NamedTuple):
    gateway: str
    transport: Transport


class User(Struct):
    """Somebody who is shown. `auto_away`: the away came by itself, so a sign of life ends it."""

    username: str
    last_seen: int
    """By the facts alone; `State.last_seen` knows better."""
    status: Literal["online", "away"] = "online"
    activity: DoingNow | None = None
    auto_away: bool = False
    connections: dict[str, Connection] = field(default_factory=dict)


class Hearing(Struct):
    """What this replica has heard of the room since it loaded it. No fact; see the module's docstring."""

    since: int | None = None
    """From when on all signs of life came here; None: they may go elsewhere."""
    heard: dict[str, int] = field(default_factory=dict)
    quiet_until: int = 0
    """Before that time no automatic away can be due: signs of life only move it on."""
    clock: int = 0
    """The latest time that a command brought along."""

    def listen(self, now: int) -> None:
        self.since, self.quiet_until = now, 0

    def deafen(self) -> None:
        """The room's commands go to another replica from now on."""
        self.since = None


class State(Struct):
    users: dict[str, User] = field(default_factory=dict)
    """Those not offline, in the order in which they came."""
    leaving: dict[str, int] = field(default_factory=dict)
    """Those of them without a connection, and since when (ms)."""
    gateways: dict[str, int] = field(default_factory=dict)
    """Connections at each gateway."""
    hearing: Hearing = field(default_factory=Hearing)

    def last_seen(self, user_id: str) -> int:
        return max(self.users[user_id].last_seen, self.hearing.heard.get(user_id, 0))

    def hear(self, user_id: str, at: int) -> None:
        """A sign of life that is not worth a fact."""
        if at > self.hearing.heard.get(user_id, 0):
            self.hearing.heard[user_id] = at


def told(state: State, user_id: str) -> PresenceData:
    """A shown user as all may see them."""
    user = state.users[user_id]
    activity = UNSET if user.activity is None else user.activity
    return PresenceData(user_id, user.status, state.last_seen(user_id), user.username, activity)


def decide(state: State, command: Command, limits: Limits = USUAL) -> Sequence[Fact]:
    """The facts that the command causes; those not told to clients stand first. Deciding twice is deciding once.

    Raises `Refusal("overloaded")` for an open beyond the room's bounds.
    """
    state.hearing.clock = max(state.hearing.clock, command.at)
    match command:
        case OpenConnection():
            return _open(state, command, limits)
        case CloseConnection(user_id, connection_id, gateway, at):
            user = state.users.get(user_id)
            there = user.connections.get(connection_id) if user else None
            if there is None or there.gateway != gateway:
                return ()  # it has ended, or moved: that end is not this one's
            return (ConnectionClosed(connection_id, user_id, at),)
        case UpdatePresence():
            return _update(state, command)
        case NoteSigns(seen, at):
            return _note_signs(state, seen, at)
        case DropGateways(dead):
            return _drop(state, dead)
        case PassTime(at):
            return _pass_time(state, at, limits)
        case _:
            assert_never(command)


def _open(state: State, command: OpenConnection, limits: Limits) -> Sequence[Fact]:
    user_id, at = command.user_id, command.at
    user = state.users.get(user_id)
    there = user.connections.get(command.connection_id) if user else None
    now = Connection(command.gateway, command.transport)
    if user is None and len(state.users) >= limits.users:
        raise Refusal("overloaded", f"The room is full: {limits.users} people")
    if there is None and sum(state.gateways.values()) >= limits.connections:
        raise Refusal("overloaded", f"The room is full: {limits.connections} connections")
    renamed = user is not None and user.username != command.username
    if there == now and not renamed:
        state.hear(user_id, at)
        return ()
    opened = ConnectionOpened(
        command.connection_id,
        user_id,
        command.username,
        command.gateway,
        command.transport,
        at,
        joined=user is None,
    )
    if user is None:
        return opened, PresenceData(user_id, "online", at, command.username)
    if renamed:
        activity = UNSET if user.activity is None else user.activity
        return opened, PresenceData(user_id, user.status, at, command.username, activity)
    return (opened,)


def _update(state: State, command: UpdatePresence) -> Sequence[Fact]:
    user_id, user = command.user_id, state.users.get(command.user_id)
    if user is None:  # a request without a connection: it shows nobody, and is answered "offline"
        return ()
    status = command.status
    if status is UNSET:
        status = "online" if user.auto_away else user.status
    activity = user.activity if command.activity is UNSET else command.activity
    meant_now = user.auto_away and status == "away"
    if (status, activity) == (user.status, user.activity) and not meant_now:
        state.hear(user_id, command.at)
        return ()
    shown = UNSET if activity is None else activity
    return (PresenceData(user_id, status, max(command.at, state.last_seen(user_id)), user.username, shown),)


def _note_signs(state: State, seen: dict[str, int], at: int) -> Sequence[Fact]:
    back: list[Fact] = []
    for user_id, reported in seen.items():
        user = state.users.get(user_id)
        if user is None:
            continue
        sign = min(reported, at)
        state.hear(user_id, sign)
        # Compared with what the facts say, so that signs from before the away do not end it.
        if user.auto_away and sign > user.last_seen and len(back) < MOST_FACTS:
            activity = UNSET if user.activity is None else user.activity
            back.append(PresenceData(user_id, "online", sign, user.username, activity))
    return back


def _drop(state: State, dead: frozenset[str]) -> Sequence[Fact]:
    """No further grace: the lease has lasted longer than one. No sign of life either, so `lastSeen` stays."""
    closed: list[Fact] = []
    gone: list[Fact] = []
    if dead.isdisjoint(state.gateways):
        return ()
    for user_id, user in state.users.items():
        lost = [name for name, connection in user.connections.items() if connection.gateway in dead]
        if lost and len(lost) == len(user.connections):
            gone.append(_left(state, user_id))
        else:
            seen = state.last_seen(user_id)
            closed.extend(ConnectionClosed(name, user_id, seen) for name in lost)
        if len(closed) + len(gone) >= MOST_FACTS:
            break
    return closed + gone


def _pass_time(state: State, at: int, limits: Limits) -> Sequence[Fact]:
    facts: list[Fact] = []
    away: list[Fact] = []
    for user_id, deadline in _silent(state, limits):
        if deadline <= at and len(away) < MOST_FACTS / 2:
            facts.append(AwayNoticed(user_id))
            seen, user = state.last_seen(user_id), state.users[user_id]
            away.append(PresenceData(user_id, "away", seen, user.username, user.activity or UNSET))
    over = [user_id for user_id, left in state.leaving.items() if left + limits.grace <= at]
    return [*facts, *away, *(_left(state, user_id) for user_id in over[:MOST_FACTS])]


def _left(state: State, user_id: str) -> PresenceData:
    return PresenceData(user_id, "offline", state.last_seen(user_id), state.users[user_id].username)


def _silent(state: State, limits: Limits) -> list[tuple[str, int]]:
    """Those online, and when (ms) each will have been silent for long enough to be away; none if we do not listen."""
    since = state.hearing.since
    if since is None:
        return []
    return [
        (user_id, max(state.last_seen(user_id), since) + limits.silence)
        for user_id, user in state.users.items()
        if user.status == "online" and user.connections
    ]


def due(state: State, now: int, limits: Limits = USUAL) -> tuple[Sequence[Command], int | None]:
    """What time has brought by now, and when to ask again. Cheap: the people are looked through once in a silence."""
    wakes = [min(state.leaving.values()) + limits.grace] if state.leaving else []
    hearing = state.hearing
    if hearing.since is not None and state.users:
        if now >= hearing.quiet_until:
            # Whoever comes, or comes back, later than now is due later than this.
            deadlines = (when for _, when in _silent(state, limits))
            hearing.quiet_until = min(deadlines, default=now + limits.silence)
        wakes.append(hearing.quiet_until)
    wake = min(wakes, default=None)
    return ((PassTime(now),) if wake is not None and wake <= now else ()), wake


def evolve(state: State, fact: Fact) -> State:
    """Folds a fact in; what it speaks of may be unknown, for a log does not keep its beginning for ever."""
    match fact:
        case PresenceData(user_id, "offline"):
            _forget(state, user_id)
        case PresenceData(user_id):
            _show(state, fact)
        case ConnectionOpened(connection_id, user_id):
            user = state.users.get(user_id)
            if user is None:
                user = state.users[user_id] = User(fact.username, fact.at)
            _unplug(state, user, connection_id)
            user.connections[connection_id] = Connection(fact.gateway, fact.transport)
            state.gateways[fact.gateway] = state.gateways.get(fact.gateway, 0) + 1
            user.username, user.last_seen = fact.username, max(user.last_seen, fact.at)
            state.leaving.pop(user_id, None)
        case ConnectionClosed(connection_id, user_id, at):
            user = state.users.get(user_id)
            if user is not None and _unplug(state, user, connection_id):
                user.last_seen = max(user.last_seen, at)
                if not user.connections:
                    state.leaving[user_id] = at
        case AwayNoticed(user_id):
            if user_id in state.users:
                state.users[user_id].auto_away = True
        case _:
            assert_never(fact)
    return state


def _show(state: State, fact: PresenceData) -> None:
    user = state.users.get(fact.user_id)
    if user is None:
        user = state.users[fact.user_id] = User(fact.username, fact.last_seen)
        state.leaving[fact.user_id] = fact.last_seen
    # `AwayNoticed` stands before the away that it speaks of; an away told to somebody who is away already is meant.
    user.auto_away = user.auto_away and user.status == "online" and fact.status == "away"
    user.status = "away" if fact.status == "away" else "online"
    user.activity = None if fact.activity is UNSET else fact.activity
    user.username, user.last_seen = fact.username, max(user.last_seen, fact.last_seen)


def _unplug(state: State, user: User, connection_id: str) -> bool:
    connection = user.connections.pop(connection_id, None)
    if connection is None:
        return False
    state.gateways[connection.gateway] -= 1
    if not state.gateways[connection.gateway]:
        del state.gateways[connection.gateway]
    return True


def _forget(state: State, user_id: str) -> None:
    user = state.users.pop(user_id, None)
    if user is not None:
        for connection_id in tuple(user.connections):
            _unplug(state, user, connection_id)
    state.leaving.pop(user_id, None)
    state.hearing.heard.pop(user_id, None)


def decider(limits: Limits = USUAL) -> Decider[State, Command, Fact]:
    return Decider(State, partial(decide, limits=limits), evolve)


DECIDER: Final = decider()
