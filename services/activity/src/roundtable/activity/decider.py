"""Pure layer: what may be posted at a room's table, and in which order it stands. Knows no clock, no dice, no wire, no log.

The only fact is `Posted`. Ids are made here, from the state and the command's time, so that they grow in the order of the
log whatever clocks do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, TypeVar

from msgspec import UNSET, Raw, Struct, UnsetType, field

from roundtable.common.decider import Decider
from roundtable.common.schema.activity import SERVER_ONLY, Activity, ActivityType, Visibility
from roundtable.common.schema.basics import Role
from roundtable.common.schema.errors import Refusal

T = TypeVar("T")

RECENT: Final = 250
"""Activities that the state holds in full."""
RECENT_BYTES: Final = 768 * 1024
"""Fewer of them when they are large: so a snapshot stays small, and nobody can fill our memory."""
NAMES: Final = 500
SOURCES: Final = 8

_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32, in the order of ASCII."""
_TIME_DIGITS: Final = 10
_COUNT_DIGITS: Final = 4
_COUNT_BITS: Final = 5 * _COUNT_DIGITS
_LAST_TIME: Final = (1 << 5 * _TIME_DIGITS) - 1


class Entry(Activity, frozen=True):
    """An activity whose `data` stays JSON: a fact is compact in memory, and the same live and replayed, to the byte."""

    data: Raw

    @property
    def size(self) -> int:
        """About the bytes that it takes, in memory and in an answer."""
        return memoryview(self.data).nbytes + 300


class Posted(Struct, frozen=True):
    """The fact. `source` is the other log's event from which the service derived it, `LOG:SEQ:INDEX`; else empty."""

    activity: Entry
    source: str = ""


class Post(Struct, frozen=True):
    """Post what a person has sent: `data` is clean, and its dice are thrown."""

    type: ActivityType
    data: Raw
    user: str
    username: str
    role: Role
    now: int
    to: tuple[str, ...] | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET


class Derive(Struct, frozen=True):
    """Post what another log's event means for the feed, once. The sources of one log come in its order."""

    source: str
    type: ActivityType
    data: Raw
    user: str
    username: str
    at: int


Command = Post | Derive


class State(Struct):
    """A room's feed: its end in full, and what is needed to go on."""

    recent: deque[Entry] = field(default_factory=deque)
    """The latest activities, oldest first, of whatever audience."""
    recent_bytes: int = 0
    total: int = 0
    """Activities ever: more than `recent` holds means that the log has older ones."""
    last_id: str = ""
    reached: dict[str, tuple[int, int]] = field(default_factory=dict)
    """For each log that is followed, the last event derived from it. As they come in order, all up to it are done."""
    names: dict[str, str] = field(default_factory=dict)
    """How people were called lately, the latest last: the canvas's log has ids alone."""


def decide(state: State, command: Command) -> Sequence[Posted]:
    match command:
        case Post():
            permit(command.role, command.type)
            entry = Entry(
                id=next_id(state.last_id, command.now),
                type=command.type,
                user_id=command.user,
                username=command.username,
                data=command.data,
                timestamp=command.now,
                to=command.to,
                visibility=UNSET if command.visibility == "public" else command.visibility,
            )
            return (Posted(entry),)
        case Derive():
            log, place = place_of(command.source)
            if place <= state.reached.get(log, (-1, -1)):
                return ()
            entry = Entry(
                id=next_id(state.last_id, command.at),
                type=command.type,
                user_id=command.user,
                username=command.username or state.names.get(command.user, command.user),
                data=command.data,
                timestamp=command.at,
            )
            return (Posted(entry, command.source),)


def evolve(state: State, event: Posted) -> State:
    """Changes `state` and returns it."""
    entry = event.activity
    state.recent.append(entry)
    state.recent_bytes += entry.size
    while len(state.recent) > RECENT or (state.recent_bytes > RECENT_BYTES and len(state.recent) > 1):
        state.recent_bytes -= state.recent.popleft().size
    state.total += 1
    state.last_id = max(state.last_id, entry.id)
    if event.source:
        log, place = place_of(event.source)
        _put_last(state.reached, log, max(place, state.reached.get(log, place)), SOURCES)
    _put_last(state.names, entry.user_id, entry.username, NAMES)
    return state


def _put_last(table: dict[str, T], key: str, value: T, most: int) -> None:
    """Sets the entry as the latest one and forgets the oldest beyond `most`."""
    table.pop(key, None)
    table[key] = value
    if len(table) > most:
        del table[next(iter(table))]


def permit(role: Role, type_: ActivityType) -> None:
    """Raises `Refusal("forbidden")` if the role may not post that (AU7, AC8)."""
    if role == "spectator":
        raise Refusal("forbidden", "Spectators do not post")
    if type_ in SERVER_ONLY:
        raise Refusal("forbidden", f"`{type_}` is told by the server alone")


def place_of(source: str) -> tuple[str, tuple[int, int]]:
    """`LOG:SEQ:INDEX` as the log and the place in it."""
    log, seq, index = source.rsplit(":", 2)
    return log, (int(seq), int(index))


def next_id(last: str, now: int) -> str:
    """An id for the time `now` (ms), greater than `last`, which it follows closely when the clock stands or goes back.

    Ten digits of time, four of a count within the millisecond. Both are one number: a count that runs over moves the time.
    """
    number = min(max(now, 0), _LAST_TIME) << _COUNT_BITS
    if last:
        number = max(number, _number(last) + 1)
    shifts = range(5 * (_TIME_DIGITS + _COUNT_DIGITS - 1), -1, -5)
    return "".join(_DIGITS[number >> shift & 31] for shift in shifts)


def _number(id_: str) -> int:
    number = 0
    for digit in id_:
        number = number << 5 | _DIGITS.index(digit)
    return number


DECIDER: Final = Decider(initial=State, decide=decide, evolve=evolve)
